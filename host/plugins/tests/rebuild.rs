//! The committed components are what their sources build to. `BLESS=1 cargo test -p mmhost-plugins --test rebuild` builds and pins
//! them anew.

use mmhost_plugins::build::{BuildOptions, Built, Outcome, build};
use mmhost_plugins::lock::{Lock, digest, digest_sources};
use mmhost_plugins::manifest::Manifest;
use std::path::{Path, PathBuf};

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(plugins()).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("plugin.toml").is_file()).collect();
    folders.sort();
    assert!(folders.len() >= 5, "{folders:?}");
    folders
}

/// Needs no toolchain: a source that was edited without a rebuild is found by its digest.
#[test]
fn no_component_is_older_than_its_sources() {
    if std::env::var_os("BLESS").is_some() {
        return;
    }
    let lock = Lock::read(&plugins()).unwrap();
    for folder in folders() {
        let manifest = Manifest::read(&folder).unwrap();
        let pin = &lock.plugins[&manifest.name];
        assert_eq!(
            pin.sources.as_deref(),
            Some(digest_sources(&plugins(), &folder).unwrap().as_str()),
            "the sources of {} changed after its component was built; run `mmhost plugin build plugins/{}`",
            manifest.name,
            manifest.name
        );
        let component = std::fs::read(manifest.component_path(&folder)).unwrap();
        assert_eq!(pin.component, format!("sha256:{}", digest(&component)), "{}", manifest.name);
    }
    assert_eq!(lock.plugins.len(), folders().len(), "plugins.lock pins a plugin that is not there");
}

#[test]
fn a_rebuild_gives_the_same_bytes() {
    let bless = std::env::var_os("BLESS").is_some();
    for built in folders().iter().filter_map(|folder| rebuild(folder, bless)) {
        match built.outcome {
            Outcome::Unchanged => {}
            Outcome::Updated => println!("{} is now sha256:{}", built.plugin, built.digest),
            Outcome::OtherCompiler => {
                println!("skipped: {} was built by another compiler", built.plugin);
            }
            Outcome::Differs => panic!("a rebuild of {} gives other bytes", built.plugin),
        }
    }
}

/// Builds one plugin, where its tools are there.
fn rebuild(folder: &Path, bless: bool) -> Option<Built> {
    match build(folder, BuildOptions { check: !bless }, |_| ()) {
        Ok(mut built) => built.pop(),
        Err(error) => {
            let absent = ["was not found", "is not installed", "failed to download", "failed to get"];
            assert!(absent.iter().any(|said| error.to_string().contains(said)), "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

/// The C bindings, made anew where their generator is, of the version that made them.
#[test]
fn the_c_bindings_are_those_of_the_contract() {
    let bindings = plugins().join("sdk-c");
    let header = std::fs::read_to_string(bindings.join("reward.c")).unwrap();
    let version = header.split('`').nth(2).unwrap().split_whitespace().next().unwrap().trim_end_matches('.').to_string();
    let told = std::process::Command::new("wit-bindgen").arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    if !told.as_ref().is_ok_and(|told| told.contains(version.rsplit_once('.').unwrap().0)) {
        println!("skipped: there is no wit-bindgen {version}; get it with `cargo install wit-bindgen-cli --version {version}`");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for world in ["search-tool", "reward", "dataset-filter"] {
        let mut command = std::process::Command::new("wit-bindgen");
        command.args(["c", "--world", world, "--out-dir"]).arg(scratch.path());
        // In C an interface keeps its name when a later version of the contract replaces it.
        let of_0_1 = ["types", "images", "corpus", "config", "log", "tool", "filtering"].map(|name| (name, "0.1.0"));
        for (name, version) in of_0_1.into_iter().chain([("llm", "0.2.0"), ("http", "0.2.0"), ("scoring", "0.2.0")]) {
            command.arg("--rename").arg(format!("mmhost:plugin/{name}@{version}=mmhost_plugin_{name}"));
        }
        command.arg(plugins().join("../wit"));
        assert!(command.output().unwrap().status.success());
    }
    for entry in std::fs::read_dir(scratch.path()).unwrap() {
        let made = entry.unwrap().path();
        let committed = bindings.join(made.file_name().unwrap());
        assert!(std::fs::read(&made).unwrap() == std::fs::read(&committed).unwrap(), "{} is not fresh", committed.display());
    }
}

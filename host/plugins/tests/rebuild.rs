//! The committed components are what their sources build to. `BLESS=1 cargo test -p mmhost-plugins --test rebuild` builds and pins
//! them anew.

use mmhost_plugins::build::{BuildOptions, Outcome, TARGET, build, target_is_installed};
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
    if !target_is_installed() {
        println!("skipped: the target {TARGET} is not installed");
        return;
    }
    let bless = std::env::var_os("BLESS").is_some();
    let all_built = match build(&plugins(), BuildOptions { check: !bless }, |_| ()) {
        Err(error) if ["failed to download", "failed to get"].iter().any(|said| error.to_string().contains(said)) => {
            println!("skipped: the crates that the plugins depend on cannot be fetched");
            return;
        }
        result => result.unwrap(),
    };
    for built in all_built {
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

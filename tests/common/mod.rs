//! Runs the built program in a folder of its own.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The program with a scratch folder, which it also uses as cache.
pub struct Mmhost {
    dir: tempfile::TempDir,
}

impl Mmhost {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with these arguments, to be run in the scratch folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmhost"));
        command.args(args);
        self.at_home(&mut command);
        command
    }

    /// Lets a command work in the scratch folder. Plugins that it builds share what they are built from.
    pub fn at_home(&self, command: &mut Command) {
        let guests = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        command.current_dir(self.dir.path()).env("MMHOST_CACHE", self.path("cache")).env("CARGO_TARGET_DIR", guests);
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs, expects success, returns standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.output(args);
        assert!(out.status.success(), "mmhost {}\n{}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs, expects this exit code and a one-line message without a panic, returns the message.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let out = self.output(args);
        let message = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "mmhost {}\n{message}", args.join(" "));
        assert!(!message.contains("panicked"), "{message}");
        message
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The reference plugins.
pub fn plugins() -> String {
    root().join("plugins").display().to_string()
}

/// A configuration whose whole run takes seconds.
pub fn tiny_config() -> String {
    root().join("tests/tiny.toml").display().to_string()
}

pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Copies manifests, components and the lock file.
pub fn copy_plugins(to: &Path) {
    let from = root().join("plugins");
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(from.join("plugins.lock"), to.join("plugins.lock")).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("plugin.toml").exists() {
            continue;
        }
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        std::fs::create_dir_all(to.join(&name)).unwrap();
        for file in ["plugin.toml".to_string(), format!("{name}.wasm")] {
            std::fs::copy(dir.join(&file), to.join(&name).join(&file)).unwrap();
        }
    }
}

/// Copies a folder without what building leaves behind.
pub fn copy_sources(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && !name.ends_with(".wasm") {
            std::fs::copy(&path, to.join(name)).unwrap();
        } else if path.is_dir() && !name.starts_with('.') && name != "node_modules" {
            copy_sources(&path, &to.join(name));
        }
    }
}

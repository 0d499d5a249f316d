//! Rust: `cargo build` makes the component.

use super::tools::{Tool, run};
use crate::host::lock_dir;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// The compiler as it names itself, e.g. `rustc 1.95.0 (59807616e 2026-04-14)`, if it can build for the target.
pub(super) fn compiler() -> Result<String, String> {
    let found = Tool::new("rustc").version(&["--version"]).ok_or("rustc was not found; install Rust from https://rustup.rs")?;
    match target_is_installed() {
        true => Ok(found),
        false => Err(format!("the target {TARGET} is not installed; install it with `rustup target add {TARGET}`")),
    }
}

/// Whether the standard library for the target is there.
pub fn target_is_installed() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Runs cargo on the crate in `folder` and reads the component that it made.
pub(super) fn build(folder: &Path) -> Result<Vec<u8>, String> {
    let mut command = Command::new("cargo");
    command
        .current_dir(folder)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics", "--quiet"])
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(folder))
        // Settings of the person who builds must not change the bytes.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_INCREMENTAL");
    if root(folder).join("Cargo.lock").is_file() {
        command.arg("--locked");
    }
    let output = run("cargo", &mut command)?;
    let made = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    let made = made.ok_or("cargo made no component; set `crate-type = [\"cdylib\"]` under `[lib]` in Cargo.toml")?;
    std::fs::read(&made).map_err(|error| format!("{}: {error}", made.display()))
}

/// The folder of the workspace that the crate belongs to: its own, or the folder of plugins.
fn root(folder: &Path) -> PathBuf {
    match crate::lock::is_workspace(folder) {
        true => folder.into(),
        false => lock_dir(folder),
    }
}

/// Flags that keep the names of this machine's folders out of the component, joined as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rust_flags(folder: &Path) -> OsString {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .unwrap_or_default();
    let mut flags = OsString::new();
    let workspace = root(folder);
    for (from, to) in [(home.as_path(), "cargo"), (workspace.as_path(), "plugins")] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

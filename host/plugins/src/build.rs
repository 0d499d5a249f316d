//! Makes components from sources and pins them: the work behind `mmhost plugin build`.

use crate::contract::Surface;
use crate::host::{lock_dir, plugin_folders};
use crate::lock::{Lock, Pin, digest, digest_sources, write_atomically};
use crate::manifest::{MANIFEST, Manifest};
use crate::{PluginError, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// How to build.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildOptions {
    /// Compare a rebuild with what is there instead of replacing it.
    pub check: bool,
}

/// What building one plugin came to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Built {
    /// Plugin.
    pub plugin: String,
    /// Path of the component.
    pub component: PathBuf,
    /// Digest of the built component, hex SHA-256.
    pub digest: String,
    /// Size of the built component in bytes.
    pub num_bytes: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// How a built component compares with what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The same bytes as before, pinned already.
    Unchanged,
    /// New bytes; component and lock file were written.
    Updated,
    /// `check`: a rebuild would give other bytes.
    Differs,
    /// `check`: other bytes, but the component was made by another compiler, which explains them.
    OtherCompiler,
}

/// Builds every plugin of `dir`, or the one whose folder `dir` is; `progress` is told each plugin's name as its turn comes.
///
/// # Errors
/// When a plugin has no sources, the target is not installed, or cargo fails; what was built before stays.
pub fn build(dir: &Path, options: BuildOptions, mut progress: impl FnMut(&str)) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for folder in plugin_folders(dir)? {
        let manifest = Manifest::read(&folder)?;
        progress(&manifest.name);
        built.push(build_one(&folder, &manifest, options)?);
    }
    Ok(built)
}

fn build_one(folder: &Path, manifest: &Manifest, options: BuildOptions) -> Result<Built> {
    let fail = |message: String| PluginError::Build { plugin: manifest.name.clone(), message };
    if !folder.join("Cargo.toml").is_file() {
        return Err(fail(format!(
            "{} has no Cargo.toml; only Rust plugins can be built here, bring others as a component and pin it by hand",
            folder.display()
        )));
    }
    let compiler = compiler().ok_or_else(|| fail("rustc was not found; install Rust from https://rustup.rs".into()))?;
    if !target_is_installed() {
        return Err(fail(format!("the target {TARGET} is not installed; install it with `rustup target add {TARGET}`")));
    }
    let produced = cargo(folder).map_err(fail)?;
    let component = manifest.component_path(folder);
    Surface::read(&component, &produced)?.check(manifest, &folder.join(MANIFEST), &component)?;

    let dir = lock_dir(folder);
    let mut lock = Lock::read(&dir)?;
    let pinned = lock.plugins.get(&manifest.name).cloned();
    let pin =
        Pin { component: format!("sha256:{}", digest(&produced)), sources: Some(digest_sources(&dir, folder)?), compiler: Some(compiler) };
    let same_bytes = std::fs::read(&component).is_ok_and(|old| old == produced);
    let outcome = match (same_bytes && pinned.as_ref() == Some(&pin), options.check) {
        (true, _) => Outcome::Unchanged,
        (false, true) if same_bytes && pinned.as_ref().is_some_and(|old| old.component == pin.component && old.sources == pin.sources) => {
            Outcome::Unchanged
        }
        (false, true) if pinned.as_ref().is_some_and(|old| old.compiler != pin.compiler) => Outcome::OtherCompiler,
        (false, true) => Outcome::Differs,
        (false, false) => {
            write_atomically(&component, &produced)?;
            lock.version = 1;
            lock.plugins.insert(manifest.name.clone(), pin);
            lock.write(&dir)?;
            Outcome::Updated
        }
    };
    Ok(Built { plugin: manifest.name.clone(), component, digest: digest(&produced), num_bytes: produced.len() as u64, outcome })
}

/// The compiler as it names itself, e.g. `rustc 1.95.0 (59807616e 2026-04-14)`.
pub fn compiler() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Whether the standard library for the target is there.
pub fn target_is_installed() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Runs cargo on the crate in `folder` and reads the component that it made.
fn cargo(folder: &Path) -> std::result::Result<Vec<u8>, String> {
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("cargo");
    command
        .current_dir(&folder)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics", "--quiet"])
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&folder))
        // Settings of the person who builds must not change the bytes.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_INCREMENTAL");
    if folder.join("../Cargo.lock").is_file() || folder.join("Cargo.lock").is_file() {
        command.arg("--locked");
    }
    let output = command.output().map_err(|error| format!("cargo cannot be started ({error}); install Rust from https://rustup.rs"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().collect();
        let tail = said[said.len().saturating_sub(60)..].join("\n");
        return Err(format!("cargo failed ({}):\n{tail}", output.status));
    }
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

/// Flags that keep the names of this machine's folders out of the component, joined as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rust_flags(folder: &Path) -> OsString {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .unwrap_or_default();
    let mut flags = OsString::new();
    let workspace = lock_dir(folder);
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

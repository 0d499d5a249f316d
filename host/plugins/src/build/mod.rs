//! Makes components from sources and pins them: the work behind `mmhost plugin build`. One file per language; what a folder holds
//! tells which it is.

mod c;
mod javascript;
mod python;
mod rust;
mod tools;

pub use rust::{TARGET, target_is_installed};

use crate::contract::Surface;
use crate::host::{lock_dir, plugin_folders};
use crate::lock::{Lock, Pin, digest, digest_sources, pinned, write_atomically};
use crate::manifest::{MANIFEST, Manifest};
use crate::{PluginError, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// A language that plugins can be built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// `Cargo.toml`; built by cargo.
    Rust,
    /// `src/plugin.py`; built by componentize-py.
    Python,
    /// `src/plugin.js`; built by componentize-qjs, jco's QuickJS backend.
    JavaScript,
    /// `src/*.c`; built by `zig cc`.
    C,
}

impl Lang {
    /// Every language.
    pub const ALL: [Lang; 4] = [Lang::Rust, Lang::Python, Lang::JavaScript, Lang::C];

    /// The language of a plugin's folder, by the sources in it.
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |file: &str| folder.join(file).is_file();
        if has("Cargo.toml") {
            Some(Lang::Rust)
        } else if has(python::MAIN) {
            Some(Lang::Python)
        } else if has(javascript::MAIN) {
            Some(Lang::JavaScript)
        } else {
            c::sources(folder).is_ok_and(|sources| !sources.is_empty()).then_some(Lang::C)
        }
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lang::Rust => "rust",
            Lang::Python => "python",
            Lang::JavaScript => "javascript",
            Lang::C => "c",
        })
    }
}

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

/// Builds every plugin of `dir`, or the one whose folder `dir` is; `progress` is told what is being built, and with what, as its turn
/// comes.
///
/// # Errors
/// When a plugin has no sources, a tool is missing (says which, and how to get it) or fails; what was built before stays.
pub fn build(dir: &Path, options: BuildOptions, mut progress: impl FnMut(&str)) -> Result<Vec<Built>> {
    let mut built = Vec::new();
    for folder in plugin_folders(dir)? {
        let manifest = Manifest::read(&folder)?;
        built.push(build_one(&folder, &manifest, options, &mut progress)?);
    }
    Ok(built)
}

/// Adds what to ask for, where a build may have failed because a door that the manifest does not ask for is not in the world.
fn with_hint(message: String, manifest: &Manifest) -> String {
    let named = |door: &str| message.contains(&format!("'{door}'")) || message.contains(&format!("mmhost:plugin/{door}@"));
    match manifest.ask.closed_doors().find(|(door, _)| named(door)) {
        Some((door, line)) => {
            format!("{message}\nthe door `{door}` is there for plugins that ask for it: add `{line}` under `[ask]` in plugin.toml")
        }
        None => message,
    }
}

fn build_one(folder: &Path, manifest: &Manifest, options: BuildOptions, progress: &mut impl FnMut(&str)) -> Result<Built> {
    let fail = |message: String| PluginError::Build { plugin: manifest.name.clone(), message };
    let lang = Lang::of(folder).ok_or_else(|| {
        let (python, javascript) = (python::MAIN, javascript::MAIN);
        let expected = format!("Cargo.toml (Rust), {python} (Python), {javascript} (JavaScript) or src/*.c (C)");
        fail(format!("{} has no sources: expected {expected}; a component that was built elsewhere is pinned by hand", folder.display()))
    })?;
    let folder = &folder.canonicalize().map_err(|error| PluginError::File { file: folder.into(), message: error.to_string() })?;
    let compiler = match lang {
        Lang::Rust => rust::compiler(),
        Lang::Python => python::compiler(folder),
        Lang::JavaScript => javascript::compiler(folder),
        Lang::C => c::compiler(folder),
    }
    .map_err(fail)?;
    progress(&format!("{} with {compiler}", manifest.name));
    let produced = match lang {
        Lang::Rust => rust::build(folder),
        Lang::Python => python::build(folder, manifest),
        Lang::JavaScript => javascript::build(folder, manifest),
        Lang::C => c::build(folder, manifest.kind),
    }
    .map_err(|message| fail(with_hint(message, manifest)))?;
    let component = manifest.component_path(folder);
    Surface::read(&component, &produced)?.check(manifest, &folder.join(MANIFEST), &component)?;

    let dir = lock_dir(folder);
    let old_pin = Lock::read(&dir)?.plugins.remove(&manifest.name);
    let pin =
        Pin { component: pinned(&produced), sources: Some(digest_sources(&dir, folder)?), compiler: Some(compiler), ..Pin::default() };
    let same_bytes = std::fs::read(&component).is_ok_and(|old| old == produced);
    let outcome = match (same_bytes && old_pin.as_ref() == Some(&pin), options.check) {
        (true, _) => Outcome::Unchanged,
        (false, true) if same_bytes && old_pin.as_ref().is_some_and(|old| old.component == pin.component && old.sources == pin.sources) => {
            Outcome::Unchanged
        }
        (false, true) if old_pin.as_ref().is_some_and(|old| old.compiler != pin.compiler) => Outcome::OtherCompiler,
        (false, true) => Outcome::Differs,
        (false, false) => {
            write_atomically(&component, &produced)?;
            Lock::update(&dir, |pins| drop(pins.insert(manifest.name.clone(), pin)))?;
            Outcome::Updated
        }
    };
    Ok(Built { plugin: manifest.name.clone(), component, digest: digest(&produced), num_bytes: produced.len() as u64, outcome })
}

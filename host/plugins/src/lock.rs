//! `plugins.lock`: pins each component to its bytes, to the sources that it was built from, and to the place that it was fetched from.

use crate::signature::PublicKey;
use crate::{PluginError, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the lock file in a folder of plugins.
pub const LOCK: &str = "plugins.lock";

const HEADER: &str =
    "# Written by `mmhost plugin build` and `mmhost plugin add`: pins each component to its bytes, and to where it comes from.\n\n";

/// The lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of the file's format.
    pub version: u32,
    /// What is pinned, by plugin.
    #[serde(default)]
    pub plugins: BTreeMap<String, Pin>,
}

/// What is pinned of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// SHA-256 of the component, as `sha256:HEX`.
    pub component: String,
    /// Digest of its sources, as `sha256:HEX`; absent for components that came without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<String>,
    /// The compiler, as it names itself. The same sources give the same bytes only with the same compiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<String>,
    /// SHA-256 of the manifest, as `sha256:HEX`, of a plugin that was added; the manifest of one that is built here is its author's to edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Where it was fetched from, e.g. `oci://registry/repository@sha256:HEX`; absent for what was built or copied here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The minisign public key whose signature it carried when it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<PublicKey>,
}

impl Lock {
    /// Reads the lock file of a folder of plugins; an absent one is empty.
    ///
    /// # Errors
    /// When it cannot be read or is not a lock file of this version.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(LOCK);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Lock { version: 1, plugins: BTreeMap::new() });
            }
            Err(error) => {
                return Err(PluginError::File { file, message: format!("cannot read it: {error}") });
            }
        };
        let lock: Lock = toml::from_str(&text)
            .map_err(|error| PluginError::Syntax { file: file.clone(), message: error.to_string().trim_end().to_string() })?;
        if lock.version != 1 {
            return Err(PluginError::Field {
                file,
                field: "version".into(),
                found: lock.version.to_string(),
                expected: "1, the only version this program knows".into(),
            });
        }
        Ok(lock)
    }

    /// Changes the lock file of a folder. Others that change it wait, so that no pin is lost.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn update(dir: &Path, change: impl FnOnce(&mut BTreeMap<String, Pin>)) -> Result<()> {
        // The folder itself is what is locked: the file is another one after each change.
        #[cfg(unix)]
        let _turn = {
            let fail = |error| PluginError::File { file: dir.join(LOCK), message: format!("cannot wait for its turn: {error}") };
            let folder = std::fs::File::open(dir).map_err(fail)?;
            match folder.lock() {
                // Some file systems have no locks; there, one at a time is up to whoever writes.
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => tracing::debug!("{}: {error}", dir.display()),
                locked => locked.map_err(fail)?,
            }
            folder
        };
        let mut lock = Lock::read(dir)?;
        change(&mut lock.plugins);
        lock.write(dir)
    }

    /// Writes the lock file, replacing the old one in one step.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let file = dir.join(LOCK);
        let body = toml::to_string(self).map_err(|error| PluginError::Other(error.to_string()))?;
        write_atomically(&file, format!("{HEADER}{body}").as_bytes())
    }
}

/// Writes a file so that readers see the old content or the new, never a part.
pub(crate) fn write_atomically(file: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
        temporary.write_all(content)?;
        temporary.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        temporary.persist(file)?;
        Ok(())
    };
    write().map_err(|error| PluginError::File { file: file.into(), message: format!("cannot write it: {error}") })
}

/// SHA-256 as 64 lower-case hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 as lock files and registries write it, `sha256:HEX`.
pub fn pinned(bytes: &[u8]) -> String {
    format!("sha256:{}", digest(bytes))
}

/// Digest of a plugin's sources: of every file of its folder, of the crates that it depends on by path, of the workspace that it
/// belongs to and of the contract, as `sha256:HEX`. The order is that of the paths relative to the folder of plugins, with `/`.
/// The manifest, the component itself and its signature do not count, nor do tests and files that a build leaves behind.
///
/// # Errors
/// When a file cannot be read.
pub fn digest_sources(dir: &Path, folder: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    let mut crates = vec![folder.to_path_buf()];
    let mut seen = Vec::new();
    while let Some(path) = crates.pop() {
        let path = path
            .canonicalize()
            .map_err(|error| PluginError::File { file: path.clone(), message: format!("cannot read the sources: {error}") })?;
        if !seen.contains(&path) {
            crates.extend(path_dependencies(dir, &path)?);
            seen.push(path);
        }
    }
    let dir = dir.canonicalize().map_err(|error| PluginError::File { file: dir.into(), message: format!("cannot read it: {error}") })?;
    for path in &seen {
        collect(path, &mut files)?;
    }
    if folder.join("Cargo.toml").is_file() && !is_workspace(folder) {
        for name in ["Cargo.toml", "Cargo.lock"] {
            let file = dir.join(name);
            if file.is_file() {
                files.insert(file.clone(), read(&file)?);
            }
        }
    }
    if let Some(wit) = dir.parent().map(|parent| parent.join("wit")).filter(|wit| wit.is_dir()) {
        collect(&wit, &mut files)?;
    }
    let base = dir.parent().unwrap_or(&dir);
    let mut hasher = Sha256::new();
    for (file, content) in files {
        let name = file.strip_prefix(base).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    Ok(format!("sha256:{}", hex::encode(hasher.finalize())))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| PluginError::File { file: file.into(), message: format!("cannot read it: {error}") })
}

/// Adds every source file below `dir`.
fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let fail = |error: std::io::Error| PluginError::File { file: dir.into(), message: format!("cannot list it: {error}") };
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let skipped = name.starts_with('.')
            || ["target", "node_modules", "__pycache__", "tests"].contains(&name.as_str())
            || name == crate::manifest::MANIFEST
            || name.ends_with(".wasm")
            || name.ends_with(".minisig")
            || name.ends_with('~');
        if skipped {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.insert(path.clone(), read(&path)?);
        }
    }
    Ok(())
}

/// Whether the crate in `folder` is a workspace of its own, so that the folder of plugins has no say in its build.
pub(crate) fn is_workspace(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.parse::<toml::Table>().is_ok_and(|manifest| manifest.contains_key("workspace"))
}

/// Folders of the crates that the crate in `folder` names by path, directly or through the workspace in `dir`.
fn path_dependencies(dir: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let table = |file: PathBuf| -> Result<toml::Table> {
        if !file.is_file() {
            return Ok(toml::Table::new());
        }
        let text = String::from_utf8_lossy(&read(&file)?).into_owned();
        toml::from_str(&text).map_err(|error| PluginError::Syntax { file, message: error.to_string().trim_end().to_string() })
    };
    let manifest = table(folder.join("Cargo.toml"))?;
    let workspace = table(dir.join("Cargo.toml"))?;
    let shared = workspace.get("workspace").and_then(|w| w.get("dependencies"));
    let mut found = Vec::new();
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    for (name, dependency) in dependencies.into_iter().flatten() {
        let inherited = dependency.get("workspace").and_then(toml::Value::as_bool).unwrap_or(false);
        let (base, entry) = match inherited {
            true => (dir, shared.and_then(|shared| shared.get(name))),
            false => (folder, Some(dependency)),
        };
        if let Some(path) = entry.and_then(|entry| entry.get("path")).and_then(toml::Value::as_str) {
            found.push(base.join(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_that_are_written_at_once_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let pin = |n: usize| {
            Lock::update(dir.path(), |pins| {
                // Long enough that the others come in between, were they let.
                std::thread::sleep(std::time::Duration::from_millis(5));
                pins.insert(format!("plugin-{n}"), Pin::default());
            })
        };
        std::thread::scope(|scope| (0..8).for_each(|n| drop(scope.spawn(move || pin(n).unwrap()))));
        assert_eq!(Lock::read(dir.path()).unwrap().plugins.len(), 8);
    }
}

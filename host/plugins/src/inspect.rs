//! Describes plugins without running them: the work behind `mmhost plugin list` and `mmhost plugin inspect`.

use crate::host::{CheckedPlugin, plugin_folders};
use crate::lock::digest_sources;
use crate::manifest::{Kind, MANIFEST, Manifest};
use crate::signature::PublicKey;
use crate::{Grants, Limits, Result};
use std::path::{Path, PathBuf};

/// A line of the table of plugins.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// Name, or that of the folder when the manifest cannot be read.
    pub name: String,
    /// Folder.
    pub folder: PathBuf,
    /// What the manifest says, if it can be read.
    pub facts: Option<Facts>,
    /// Why the plugin would not load, if it would not.
    pub problem: Option<String>,
}

/// What a manifest and its component say.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Facts {
    /// Kind.
    pub kind: Kind,
    /// Version of the plugin.
    pub version: String,
    /// Version of the contract.
    pub contract: String,
    /// One line for people.
    pub description: String,
    /// Digest of the component, hex SHA-256; absent when the component is missing.
    pub digest: Option<String>,
    /// Size of the component in bytes.
    pub num_bytes: Option<u64>,
    /// What it asks for, in words, e.g. `corpus default`; a run grants it unless its configuration says otherwise.
    pub asks: Vec<String>,
}

/// Everything that can be said of one plugin without running it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inspection {
    /// Name.
    pub name: String,
    /// Folder.
    pub folder: PathBuf,
    /// Path of the component.
    pub component: PathBuf,
    /// Manifest and component.
    pub facts: Facts,
    /// Imports of the component.
    pub imports: Vec<String>,
    /// Exports of the component.
    pub exports: Vec<String>,
    /// Keys of the configuration with their defaults.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What a call may use.
    pub limits: Limits,
    /// The compiler that made the component, if the lock file says.
    pub compiler: Option<String>,
    /// Where it was fetched from, if the lock file says.
    pub source: Option<String>,
    /// Whose signature it was added with, if the lock file says.
    pub signed_by: Option<PublicKey>,
    /// Whether the sources are those that the component was built from; `None` when the lock file does not say.
    pub sources_match: Option<bool>,
}

/// A row for every plugin of a folder, also for those that would not load.
///
/// # Errors
/// When the folder cannot be listed or holds no plugin.
pub fn list(dir: &Path) -> Result<Vec<Row>> {
    Ok(plugin_folders(dir)?.into_iter().map(row).collect())
}

/// What a run lets one plugin do.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Permissions {
    /// Name.
    pub name: String,
    /// What it asks for and, unless it is refused, may use, in words.
    pub asks: Vec<String>,
    /// Names that are not of the public internet, e.g. `network 127.0.0.0/8`, and how fast it may ask.
    pub besides: Vec<String>,
    /// What is missing, with the line to add.
    pub refused: Option<String>,
}

/// Who may do what under a run's grants. Secrets are named, not read.
///
/// # Errors
/// When the folder cannot be listed, or a manifest cannot be read.
pub fn permissions(dir: &Path, grants: &Grants) -> Result<Vec<Permissions>> {
    let one = |folder: PathBuf| {
        let manifest = Manifest::read(&folder)?;
        let grant = grants.get(&manifest.name);
        let networks = grant.into_iter().flat_map(|grant| grant.networks.iter().map(|network| format!("network {network}")));
        let pace = grant.and_then(|grant| grant.requests_per_second).map(|n| format!("{n} requests a second"));
        Ok(Permissions {
            asks: manifest.ask.words(),
            besides: networks.chain(pace).collect(),
            refused: crate::grant::check(&manifest, grant).err().map(|error| error.to_string()),
            name: manifest.name,
        })
    };
    plugin_folders(dir)?.into_iter().map(one).collect()
}

fn row(folder: PathBuf) -> Row {
    let checked = CheckedPlugin::read(&folder);
    let problem = checked.as_ref().err().map(ToString::to_string);
    let manifest = match &checked {
        Ok(checked) => Some(checked.manifest.clone()),
        Err(_) => Manifest::read(&folder).ok(),
    };
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Row {
        name: manifest.as_ref().map_or(folder_name, |manifest| manifest.name.clone()),
        facts: manifest.map(|manifest| facts(&manifest, &folder)),
        folder,
        problem,
    }
}

fn facts(manifest: &Manifest, folder: &Path) -> Facts {
    let bytes = std::fs::read(manifest.component_path(folder)).ok();
    Facts {
        kind: manifest.kind,
        version: manifest.version.clone(),
        contract: manifest.contract.clone(),
        description: manifest.description.clone(),
        digest: bytes.as_deref().map(crate::lock::digest),
        num_bytes: bytes.map(|bytes| bytes.len() as u64),
        asks: manifest.ask.words(),
    }
}

/// Describes the plugin in a folder.
///
/// # Errors
/// When it would not load.
pub fn inspect(folder: &Path) -> Result<Inspection> {
    if !folder.join(MANIFEST).is_file() {
        // Says what is missing and where.
        Manifest::read(folder)?;
    }
    let checked = CheckedPlugin::read(folder)?;
    let dir = crate::host::lock_dir(folder);
    let pin = checked.pin;
    let sources_match = match &pin.sources {
        Some(pinned) => digest_sources(&dir, folder).ok().map(|found| found == *pinned),
        None => None,
    };
    Ok(Inspection {
        name: checked.manifest.name.clone(),
        facts: facts(&checked.manifest, folder),
        folder: folder.into(),
        component: checked.component,
        imports: checked.surface.imports,
        exports: checked.surface.exports,
        config: checked.manifest.configuration(None)?,
        limits: checked.manifest.limits,
        compiler: pin.compiler,
        source: pin.source,
        signed_by: pin.signed_by,
        sources_match,
    })
}

//! Adds a plugin from elsewhere to a folder of plugins and pins it.

use super::archive::{self, MAX_ARCHIVE};
use super::credentials::Credentials;
use super::fetch;
use super::publish::pull;
use super::source::Source;
use crate::host::plugin_folders;
use crate::lock::{Lock, Pin, digest};
use crate::manifest::{MANIFEST, Manifest};
use crate::package::{Package, unfit};
use crate::signature::PublicKey;
use crate::{PluginError, Result};
use std::path::{Path, PathBuf};

/// How to add a plugin.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// SHA-256, in hex, that must be found: of the archive, of the artifact's manifest, or of a folder's component.
    pub sha256: Option<String>,
    /// Put it in the place of the plugin of that name.
    pub replace: bool,
    /// Unless empty, one of these keys must have signed it. Without any, that of the plugin to be replaced must have.
    pub keys: Vec<PublicKey>,
    /// Who a registry is asked as.
    pub credentials: Option<Credentials>,
}

/// What was added.
#[derive(Debug, Clone)]
pub struct Added {
    /// The manifest.
    pub manifest: Manifest,
    /// Its folder.
    pub folder: PathBuf,
    /// Its pin.
    pub pin: Pin,
    /// Whether there is a signature that was not looked at, for want of a key.
    pub unchecked_signature: bool,
}

/// Fetches a plugin, checks it, puts it into the folder `plugins`, and pins it there. Until it is checked, nothing is written.
///
/// # Errors
/// When it cannot be had or is not in order, is not signed as it must be, has another digest than expected, or is there already. Then
/// everything is as before.
pub async fn add(source: &Source, plugins: &Path, options: AddOptions) -> Result<Added> {
    let fetched = fetch(source, &options).await?;
    let package = &fetched.package;
    if let Some(expected) = options.sha256.as_deref().filter(|expected| !expected.eq_ignore_ascii_case(&fetched.digest)) {
        return Err(unfit(&package.origin, fetched.what, format!("SHA-256 {}", fetched.digest), expected.to_lowercase()));
    }
    let place = Place::find(plugins, &package.manifest.name, options.replace)?;
    let old_key = place.old_pin.as_ref().and_then(|pin| pin.signed_by.clone());
    let keys = if options.keys.is_empty() { old_key.into_iter().collect() } else { options.keys };
    let signed_by = match keys[..] {
        [] => None,
        _ => Some(package.signer(&keys)?.clone()),
    };
    let unchecked_signature = package.signature.is_some() && signed_by.is_none();
    let pin = package.pin(fetched.source, signed_by);
    let folder = place.take(package, pin.clone())?;
    Ok(Added { manifest: fetched.package.manifest, folder, pin, unchecked_signature })
}

/// A plugin in memory.
struct Fetched {
    package: Package,
    /// Where from, for the lock file.
    source: Option<String>,
    /// What `--sha256` is held against.
    what: &'static str,
    /// Its digest, hex.
    digest: String,
}

async fn fetch(source: &Source, options: &AddOptions) -> Result<Fetched> {
    let archived = |origin: &Path, bytes: Vec<u8>, source: Option<String>| -> Result<Fetched> {
        Ok(Fetched { package: archive::read(origin, &bytes)?, source, what: "the archive", digest: digest(&bytes) })
    };
    match source {
        Source::Path(path) if path.is_dir() => {
            let package = Package::read(path)?;
            let digest = digest(&package.component);
            Ok(Fetched { package, source: None, what: "the component", digest })
        }
        Source::Path(path) => {
            let fail = |error: std::io::Error| PluginError::File { file: path.clone(), message: format!("cannot read it: {error}") };
            let size = std::fs::metadata(path).map_err(fail)?.len();
            if size > MAX_ARCHIVE {
                return Err(unfit(path, "the archive", format!("{size} bytes"), format!("at most {MAX_ARCHIVE}")));
            }
            archived(path, std::fs::read(path).map_err(fail)?, None)
        }
        Source::Web(url) => {
            // A query may hold a signature or a token.
            let mut shown = url.clone();
            shown.set_query(None);
            shown.set_fragment(None);
            let bytes = fetch::get(url, shown.as_str(), MAX_ARCHIVE).await?;
            archived(Path::new(shown.as_str()), bytes, Some(shown.to_string()))
        }
        Source::Registry(reference) => {
            let (package, digest) = pull(reference, options.credentials.clone()).await?;
            let source = Some(reference.pinned(&digest).to_string());
            Ok(Fetched { package, source, what: "the artifact", digest: digest.trim_start_matches("sha256:").into() })
        }
    }
}

/// Where a plugin goes.
struct Place<'a> {
    plugins: &'a Path,
    folder: PathBuf,
    occupied: bool,
    old_pin: Option<Pin>,
}

impl<'a> Place<'a> {
    /// # Errors
    /// When it is taken and may not be, or holds what is not a plugin's to remove.
    fn find(plugins: &'a Path, name: &str, replace: bool) -> Result<Self> {
        let old_pin = Lock::read(plugins)?.plugins.remove(name);
        let folders = if plugins.is_dir() { plugin_folders(plugins).or_else(none_if_empty)? } else { Vec::new() };
        if folders.iter().any(|folder| folder == plugins) {
            let found = format!("{}, the folder of one plugin", plugins.join(MANIFEST).display());
            return Err(unfit(plugins, "--plugins", found, "a folder of plugins".into()));
        }
        let same = |folder: &PathBuf| Manifest::read(folder).is_ok_and(|manifest| manifest.name == name);
        let folder = folders.into_iter().find(same).unwrap_or_else(|| plugins.join(name));
        let occupied = folder.symlink_metadata().is_ok();
        if occupied && !replace {
            return Err(PluginError::Exists { plugin: name.into(), folder });
        }
        if occupied && let Some(other) = sources_in(&folder)? {
            let found = format!("{}, which would be lost", other.display());
            return Err(unfit(&folder, "the plugin to be replaced", found, "no more than a manifest, a component and a signature".into()));
        }
        Ok(Place { plugins, folder, occupied, old_pin })
    }

    /// Writes and pins the plugin; the folder gets its name in one step.
    fn take(self, package: &Package, pin: Pin) -> Result<PathBuf> {
        let fail = |what: &str, error: std::io::Error| PluginError::File { file: self.folder.clone(), message: format!("{what}: {error}") };
        std::fs::create_dir_all(self.plugins).map_err(|error| fail("cannot make the folder of plugins", error))?;
        // Whoever lists the plugins meanwhile sees a folder without a manifest, and passes it over.
        let staging = tempfile::Builder::new().prefix(".adding-").tempdir_in(self.plugins);
        let staging = staging.map_err(|error| fail("cannot make a folder beside it", error))?;
        let (new, old) = (staging.path().join("new"), staging.path().join("old"));
        package.write(&new)?;
        // Pinned first: whatever happens then, an unpinned component is never in the way of a run.
        let name = &package.manifest.name;
        Lock::update(self.plugins, |pins| drop(pins.insert(name.clone(), pin)))?;
        let moved = match self.occupied {
            true => std::fs::rename(&self.folder, &old)
                .and_then(|()| std::fs::rename(&new, &self.folder).inspect_err(|_| drop(std::fs::rename(&old, &self.folder)))),
            false => std::fs::rename(&new, &self.folder),
        };
        if let Err(error) = moved {
            Lock::update(self.plugins, |pins| match self.old_pin {
                Some(pin) => drop(pins.insert(name.clone(), pin)),
                None => drop(pins.remove(name)),
            })?;
            return Err(fail("cannot move the plugin there", error));
        }
        Ok(self.folder)
    }
}

/// A folder of plugins may be empty before the first is added.
fn none_if_empty(error: PluginError) -> Result<Vec<PathBuf>> {
    match error {
        PluginError::Empty { .. } => Ok(Vec::new()),
        other => Err(other),
    }
}

/// Something in a plugin's folder that adding it did not put there.
fn sources_in(folder: &Path) -> Result<Option<PathBuf>> {
    let fail = |error: std::io::Error| PluginError::File { file: folder.into(), message: format!("cannot list it: {error}") };
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let extension = path.extension().unwrap_or_default();
        let own = path.file_name().is_some_and(|name| name == MANIFEST) || extension == "wasm" || extension == "minisig";
        if !own {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

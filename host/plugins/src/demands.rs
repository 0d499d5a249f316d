//! What a run demands of the plugins that it uses, beyond what loading demands of all of them.

use crate::host::CheckedPlugin;
use crate::lock::{LOCK, digest_sources, pinned};
use crate::manifest::MANIFEST;
use crate::signature::{PublicKey, Signed, signature_path};
use crate::{PluginError, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Demands on the plugins of a run. Those that it does not use are left alone.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// The plugins that the run uses, by name.
    pub used: BTreeSet<String>,
    /// Everything that the lock file pins of them must be as pinned: manifest, sources and signer, where they are, besides the component.
    pub locked: bool,
    /// Unless empty, one of these keys must have signed them.
    pub trusted_keys: Vec<PublicKey>,
}

/// Something of a plugin that is not what the lock file pins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: field `plugins.{plugin}.{field}`: found {found} in {}, expected {expected}, to which --locked holds the run; {mend}",
    lock.display(),
    file.display()
)]
pub struct Drift {
    /// The lock file.
    pub lock: PathBuf,
    /// Plugin.
    pub plugin: String,
    /// The field of the pin.
    pub field: &'static str,
    /// What differs from it.
    pub file: PathBuf,
    /// Its digest.
    pub found: String,
    /// The pinned digest.
    pub expected: String,
    /// What to do.
    pub mend: String,
}

impl Demands {
    /// Holds a plugin against the demands. Its component is known to be the pinned one.
    ///
    /// # Errors
    /// [`PluginError::Drift`] or [`PluginError::Signature`], with what to do.
    pub(crate) fn check(&self, plugin: &CheckedPlugin, folder: &Path) -> Result<()> {
        if !self.used.contains(&plugin.manifest.name) {
            return Ok(());
        }
        if self.locked {
            check_pin(plugin, folder)?;
        }
        match self.trusted_keys[..] {
            [] => Ok(()),
            _ => check_signature(plugin, &self.trusted_keys),
        }
    }
}

fn check_pin(plugin: &CheckedPlugin, folder: &Path) -> Result<()> {
    let dir = crate::host::lock_dir(folder);
    let drift = |field: &'static str, file: &Path, found: String, expected: &str, mend: String| {
        Err(PluginError::Drift(Box::new(Drift {
            lock: dir.join(LOCK),
            plugin: plugin.manifest.name.clone(),
            field,
            file: file.into(),
            found,
            expected: expected.into(),
            mend,
        })))
    };
    let pin = &plugin.pin;
    let found = pinned(plugin.manifest_text.as_bytes());
    if let Some(expected) = pin.manifest.as_ref().filter(|expected| **expected != found) {
        let mend = "restore it; settings of a run belong under [plugins.config] of its configuration, or fetch the plugin anew with \
                    `mmhost plugin add --replace`";
        return drift("manifest", &folder.join(MANIFEST), found, expected, mend.into());
    }
    if let Some(expected) = &pin.sources {
        let found = digest_sources(&dir, folder)?;
        if found != *expected {
            let mend = format!("restore the sources, or build and pin them with `mmhost plugin build {}`", folder.display());
            return drift("sources", folder, found, expected, mend);
        }
    }
    match &pin.signed_by {
        Some(key) => check_signature(plugin, std::slice::from_ref(key)),
        None => Ok(()),
    }
}

fn check_signature(plugin: &CheckedPlugin, keys: &[PublicKey]) -> Result<()> {
    let file = signature_path(&plugin.component);
    let text = std::fs::read_to_string(&file);
    let signed = Signed { file: &file, signature: text.as_deref().ok(), component: &plugin.bytes, manifest: &plugin.manifest_text };
    signed.check(keys).map(drop)
}

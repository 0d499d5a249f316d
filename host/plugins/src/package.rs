//! A plugin as it travels: manifest, component and, where there is one, signature; what is built from sources leaves those behind.

use crate::contract::Surface;
use crate::lock::{Pin, pinned};
use crate::manifest::{MANIFEST, Manifest};
use crate::signature::{PublicKey, Signed, signature_path};
use crate::{PluginError, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Largest component in bytes; CPython in one takes 18 MB.
pub(crate) const MAX_COMPONENT: u64 = 128 << 20;
/// Largest manifest in bytes.
pub(crate) const MAX_MANIFEST: u64 = 1 << 20;
/// Largest signature in bytes.
pub(crate) const MAX_SIGNATURE: u64 = 16 << 10;

/// A plugin in memory whose manifest can be read and whose component is of its kind and of a version of the contract that is known.
pub(crate) struct Package {
    /// What it is called in messages: the folder or the address.
    pub origin: PathBuf,
    pub manifest: Manifest,
    pub manifest_text: String,
    pub component: Vec<u8>,
    pub surface: Surface,
    pub signature: Option<String>,
}

impl Package {
    /// Reads the plugin in a folder, pinned or not.
    ///
    /// # Errors
    /// When a file is missing, or manifest and component are not in order.
    pub fn read(folder: &Path) -> Result<Self> {
        let component = |name: &str| read_component(folder, name);
        let signature = |name: &str| {
            let file = folder.join(name);
            match std::fs::read(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some).map_err(|error| PluginError::File { file, message: format!("cannot read the signature: {error}") }),
            }
        };
        Self::assemble(folder, Manifest::text(folder)?.into_bytes(), component, signature)
    }

    /// Puts together what came from `origin`, asking for component and signature by the file names that the manifest gives them.
    pub fn assemble(
        origin: &Path,
        manifest: Vec<u8>,
        component: impl FnOnce(&str) -> Result<Vec<u8>>,
        signature: impl FnOnce(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        let within = |what: &str, bytes: &[u8], most: u64| match bytes.len() as u64 > most {
            true => Err(unfit(origin, what, format!("{} bytes", bytes.len()), format!("at most {most}"))),
            false => Ok(()),
        };
        let text = |what: &str, bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|error| unfit(origin, what, format!("{}", error.utf8_error()), "UTF-8".into()))
        };
        within("its manifest", &manifest, MAX_MANIFEST)?;
        let manifest_text = text("its manifest", manifest)?;
        let manifest_file = origin.join(MANIFEST);
        let manifest = Manifest::parse(&manifest_text, &manifest_file)?;
        let name = manifest.component_name();
        let component = component(&name)?;
        within("its component", &component, MAX_COMPONENT)?;
        let file = origin.join(&name);
        let surface = Surface::read(&file, &component)?;
        surface.check(&manifest, &manifest_file, &file)?;
        let signature = match signature(&signature_path(Path::new(&name)).display().to_string())? {
            Some(bytes) => {
                within("its signature", &bytes, MAX_SIGNATURE)?;
                Some(text("its signature", bytes)?)
            }
            None => None,
        };
        Ok(Package { origin: origin.into(), manifest, manifest_text, component, surface, signature })
    }

    /// The first of `keys` that signed it.
    ///
    /// # Errors
    /// When none did.
    pub fn signer<'k>(&self, keys: &'k [PublicKey]) -> Result<&'k PublicKey> {
        self.signed(&self.signature_path()).check(keys)
    }

    /// Whether its signature, if it has one, can be right.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_signature(&self) -> Result<()> {
        self.signed(&self.signature_path()).check_form()
    }

    fn signature_path(&self) -> PathBuf {
        signature_path(&self.manifest.component_path(&self.origin))
    }

    fn signed<'a>(&'a self, file: &'a Path) -> Signed<'a> {
        Signed { file, signature: self.signature.as_deref(), component: &self.component, manifest: &self.manifest_text }
    }

    /// What the lock file says of it.
    pub fn pin(&self, source: Option<String>, signed_by: Option<PublicKey>) -> Pin {
        Pin {
            component: pinned(&self.component),
            manifest: Some(pinned(self.manifest_text.as_bytes())),
            source,
            signed_by,
            ..Pin::default()
        }
    }

    /// Its files: names and contents.
    pub fn files(&self) -> Vec<(String, &[u8])> {
        let component = self.manifest.component_name();
        let signature = self.signature.as_ref().map(|text| (format!("{component}.minisig"), text.as_bytes()));
        [(MANIFEST.to_string(), self.manifest_text.as_bytes()), (component, &self.component[..])].into_iter().chain(signature).collect()
    }

    /// Writes its files into a new folder.
    ///
    /// # Errors
    /// When the folder exists or the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir(folder)?;
            for (name, content) in self.files() {
                let mut file = std::fs::File::create_new(folder.join(name))?;
                file.write_all(content)?;
                file.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|error| PluginError::File { file: folder.into(), message: format!("cannot write the plugin: {error}") })
    }
}

/// The component of the plugin in `folder`.
///
/// # Errors
/// [`PluginError::NotBuilt`] when it is not there, else what the system said.
pub(crate) fn read_component(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let file = folder.join(name);
    std::fs::read(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => PluginError::NotBuilt { file, folder: folder.into() },
        _ => PluginError::File { file, message: format!("cannot read the component: {error}") },
    })
}

/// What came from `origin` cannot be taken.
pub(crate) fn unfit(origin: impl AsRef<Path>, what: &str, found: String, expected: String) -> PluginError {
    PluginError::Unfit { origin: origin.as_ref().display().to_string(), what: what.into(), found, expected }
}

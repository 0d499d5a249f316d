//! Compiled components on disk. A compiled component is machine code that the host runs without further checks, so only files that
//! this user wrote in a folder that nobody else can write to are loaded.

use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes before the compiled component: a mark and the digest of what follows, which finds torn and rotten files.
const MARK: &[u8; 16] = b"mmhost compiled\n";
const HEADER: usize = MARK.len() + 32;

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    /// `None` when the folder is unusable; everything is compiled afresh then.
    dir: Option<PathBuf>,
    /// Stands for version and settings of the compiler.
    compatibility: String,
}

/// Feeds what the engine hashes of itself into SHA-256, which stays the same from one build of this program to the next.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
    }
}

impl Cache {
    pub fn new(dir: &Path, engine: &Engine) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = format!("{:016x}", hasher.finish());
        let dir = match prepare(dir) {
            Ok(()) => Some(dir.to_path_buf()),
            Err(reason) => {
                tracing::warn!(
                    "the cache of compiled plugins {} is not used: {reason}; plugins are compiled at every start",
                    dir.display()
                );
                None
            }
        };
        Cache { dir, compatibility }
    }

    /// The compiled component of these bytes, from the cache if possible.
    ///
    /// # Errors
    /// When the bytes do not compile.
    pub fn compile(&self, engine: &Engine, digest: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let file = self.dir.as_ref().map(|dir| dir.join(format!("{digest}-{}.cwasm", self.compatibility)));
        if let Some(component) = file.as_ref().and_then(|file| load(engine, file)) {
            return Ok(component);
        }
        let component = Component::new(engine, bytes)?;
        if let Some(file) = file {
            let code = component.serialize()?;
            let mut content = Vec::with_capacity(HEADER + code.len());
            content.extend_from_slice(MARK);
            content.extend_from_slice(&Sha256::digest(&code));
            content.extend_from_slice(&code);
            if let Err(error) = crate::lock::write_atomically(&file, &content) {
                tracing::warn!("a compiled plugin could not be kept: {error}");
            }
        }
        Ok(component)
    }
}

/// Creates the folder, for this user alone, and checks who may write to it.
fn prepare(dir: &Path) -> Result<(), String> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(dir).map_err(|error| format!("it cannot be created: {error}"))?;
    // A file made just now belongs to this user, and shows whether the folder can be written to.
    let probe = tempfile::NamedTempFile::new_in(dir).map_err(|error| format!("it cannot be written to: {error}"))?;
    let own = probe.as_file().metadata().map_err(|error| error.to_string())?;
    let found = std::fs::metadata(dir).map_err(|error| error.to_string())?;
    check_owner(&found, &own).map_err(|reason| format!("{reason}; make it writable for you alone (chmod 700)"))
}

#[cfg(unix)]
fn check_owner(found: &std::fs::Metadata, own: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    if found.uid() != own.uid() {
        return Err("it belongs to another user".into());
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("others may write to it (mode {:o})", found.mode() & 0o777));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_: &std::fs::Metadata, _: &std::fs::Metadata) -> Result<(), String> {
    Ok(())
}

/// The component of a cache file, or `None` when there is none, it is not ours, or it is damaged.
fn load(engine: &Engine, file: &Path) -> Option<Component> {
    let found = std::fs::symlink_metadata(file).ok()?;
    let dir = std::fs::metadata(file.parent()?).ok()?;
    if !found.is_file() || check_owner(&found, &dir).is_err() {
        tracing::warn!("{}: not a file of this user alone, ignored", file.display());
        return None;
    }
    let content = std::fs::read(file).ok()?;
    let (header, code) = content.split_at_checked(HEADER)?;
    let (mark, digest) = header.split_at(MARK.len());
    if mark != MARK || digest != Sha256::digest(code).as_slice() {
        tracing::warn!("{}: damaged, compiled afresh", file.display());
        return None;
    }
    // SAFETY: the bytes are what `Component::serialize` gave this user's program, unchanged, for an engine with the same
    // compatibility hash: the folder and the file can only be written by this user, and the digest rules out damage.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::debug!("{}: {error:#}", file.display());
            None
        }
    }
}

//! Reads archives of plugins. Nothing of an archive decides where something is written: it is read into memory, and what is no plain
//! file or folder, or lies outside, is refused with all the rest.

use crate::Result;
use crate::manifest::MANIFEST;
use crate::package::{Package, unfit};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Largest archive in bytes.
pub(super) const MAX_ARCHIVE: u64 = 128 << 20;
/// Most bytes that an archive may unpack to.
const MAX_UNPACKED: u64 = 256 << 20;
/// Most files and folders of an archive.
const MAX_ENTRIES: usize = 10_000;

/// The one plugin of a `.tar.gz`, at its top or in a folder.
///
/// # Errors
/// When the archive is damaged, too large, holds no plugin or several, a link, or a path that leads out of it.
pub(super) fn read(origin: &Path, bytes: &[u8]) -> Result<Package> {
    let files = unpack(origin, bytes)?;
    let mut manifests = files.keys().filter(|path| path.file_name().is_some_and(|name| name == MANIFEST));
    let manifest = match (manifests.next(), manifests.next()) {
        (Some(only), None) => only.clone(),
        (None, _) => return Err(unfit(origin, "the archive", "no plugin.toml".into(), "one plugin".into())),
        (Some(first), Some(second)) => {
            let found = format!("{} and {}", first.display(), second.display());
            return Err(unfit(origin, "the archive", found, "one plugin".into()));
        }
    };
    let beside = |name: &str| files.get(&manifest.with_file_name(name)).cloned();
    let component = |name: &str| {
        let absent = || unfit(origin, "the archive", format!("no {name} beside {}", manifest.display()), "the component".into());
        beside(name).ok_or_else(absent)
    };
    Package::assemble(origin, files[&manifest].clone(), component, |name| Ok(beside(name)))
}

/// The manifests, components and signatures of an archive, by path.
fn unpack(origin: &Path, bytes: &[u8]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let refuse = |found: String, expected: &str| unfit(origin, "the archive", found, expected.into());
    let damaged = |error: std::io::Error| match error.kind() == ErrorKind::FileTooLarge {
        true => refuse("a file that grows without end".into(), &format!("at most {MAX_UNPACKED} bytes once unpacked")),
        false => refuse(format!("{error}"), "a whole .tar.gz"),
    };
    let unpacked = Limited { inner: GzDecoder::new(bytes), left: MAX_UNPACKED };
    let mut archive = tar::Archive::new(unpacked);
    let mut files = BTreeMap::new();
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if count >= MAX_ENTRIES {
            return Err(refuse(format!("more than {MAX_ENTRIES} entries"), &format!("at most {MAX_ENTRIES}")));
        }
        let path = entry.path().map_err(damaged)?.into_owned();
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Regular | EntryType::Directory => {}
            // What `git archive` writes first.
            EntryType::XGlobalHeader => continue,
            _ => return Err(refuse(format!("{path:?}, a {}", name_of(kind)), "plain files and folders only")),
        }
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refuse(format!("{path:?}"), "paths that stay within the archive"));
        }
        let wanted = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name == MANIFEST || name.ends_with(".wasm") || name.ends_with(".minisig"));
        if kind == EntryType::Regular && wanted {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(damaged)?;
            let path = path.components().filter(|part| matches!(part, Component::Normal(_))).collect::<PathBuf>();
            if files.insert(path.clone(), content).is_some() {
                return Err(refuse(format!("{path:?} twice"), "each file once"));
            }
        }
    }
    // To the end, where the checksum is.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    Ok(files)
}

fn name_of(kind: EntryType) -> String {
    match kind {
        EntryType::Symlink => "symbolic link".into(),
        EntryType::Link => "hard link".into(),
        other => format!("special file (type {:?})", char::from(other.as_byte())),
    }
}

/// Gives out so many bytes and fails at the next.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

//! A corpus as a folder: `documents.jsonl`, images, and the indexes kept beside them.
//!
//! ```text
//! DIR/documents.jsonl              one document per line
//! DIR/images/…                     images, named by the lines' `image` fields
//! DIR/.mmhost-index/DIGEST/        indexes of exactly this content
//!     text/                        tantivy
//!     images.bin                   SHA-256 of what follows, then thumbnails and image index (postcard)
//! ```
//!
//! The digest covers this format's version, the options, `documents.jsonl` and every image. An index folder is written under another name and
//! renamed when complete, so that a kill leaves either all of it or nothing that is used.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::corpus::{Corpus, CorpusOptions, Document, ImageSide, check_ids};
use crate::error::{Error, Result};
use crate::images::ImageIndex;
use crate::pixels::{media_type, read_image_file};
use crate::text::TextIndex;

const DOCUMENTS: &str = "documents.jsonl";
const INDEXES: &str = ".mmhost-index";
/// Raised whenever indexes written by an older version must not be used.
const INDEX_VERSION: u32 = 1;

/// A line of `documents.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    title: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

/// `images.bin` after its checksum.
#[derive(Serialize, Deserialize)]
struct StoredImages {
    thumbnails: Vec<Option<Vec<u8>>>,
    index: ImageIndex,
}

pub(crate) fn open(dir: &Path, options: &CorpusOptions) -> Result<Corpus> {
    let (documents, paths, digest) = read(dir, options)?;
    check_ids(&documents)?;
    let indexes = dir.join(INDEXES);
    let kept = indexes.join(&digest);
    if let Some((text, images)) = load(&kept, documents.len()) {
        return Ok(Corpus::assemble(documents, text, images));
    }
    let images = ImageSide::compute(&documents, options, |i| paths[i].as_ref().map_or_else(String::new, |p| format!("`{}`", p.display())))?;
    // Indexes are a cache: a folder that cannot be written only costs the next start.
    if store(&documents, &images, &indexes, &digest).is_ok() {
        remove_others(&indexes, &digest);
        if let Ok(text) = TextIndex::open(&kept.join("text")) {
            return Ok(Corpus::assemble(documents, text, images));
        }
    }
    let text = TextIndex::build(&documents, None)?;
    Ok(Corpus::assemble(documents, text, images))
}

type Contents = (Vec<Arc<Document>>, Vec<Option<PathBuf>>, String);

/// Documents with their images, the images' paths, and the digest of all.
fn read(dir: &Path, options: &CorpusOptions) -> Result<Contents> {
    let path = dir.join(DOCUMENTS);
    let bytes = fs::read(&path).map_err(Error::read(&path))?;
    let mut digest = Sha256::new();
    digest.update(INDEX_VERSION.to_le_bytes());
    digest.update(options.thumbnail_size.to_le_bytes());
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(&bytes);
    let (mut documents, mut paths) = (Vec::new(), Vec::new());
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Line { id, title, text, url, image } =
            serde_json::from_slice(line).map_err(|e| Error::Line { path: path.clone(), line: i + 1, problem: e.to_string() })?;
        let image_path = image.map(|name| dir.join(name));
        let image = match &image_path {
            None => None,
            Some(file) => {
                let bytes = read_image_file(file).map_err(|problem| Error::DocumentImage {
                    document: id.clone(),
                    path: format!("`{}`", file.display()),
                    problem,
                })?;
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(&bytes);
                Some(bytes)
            }
        };
        documents.push(Arc::new(Document { id, title, text, url, image }));
        paths.push(image_path);
    }
    Ok((documents, paths, hex::encode(digest.finalize())))
}

/// Indexes kept earlier; `None` when there are none or they are damaged.
fn load(kept: &Path, num_documents: usize) -> Option<(TextIndex, ImageSide)> {
    let bytes = fs::read(kept.join("images.bin")).ok()?;
    let (checksum, body) = bytes.split_at_checked(32)?;
    if Sha256::digest(body).as_slice() != checksum {
        return None;
    }
    let stored: StoredImages = postcard::from_bytes(body).ok()?;
    if stored.thumbnails.len() != num_documents {
        return None;
    }
    let thumbnails = stored.thumbnails.into_iter().map(|t| t.map(Arc::from)).collect();
    Some((TextIndex::open(&kept.join("text")).ok()?, ImageSide { thumbnails, index: stored.index }))
}

fn store(documents: &[Arc<Document>], images: &ImageSide, indexes: &Path, digest: &str) -> Result<()> {
    let building = indexes.join(format!(".building-{}-{}", std::process::id(), &digest[..16]));
    let text = building.join("text");
    let _ = fs::remove_dir_all(&building);
    let written = (|| {
        fs::create_dir_all(&text).map_err(Error::write(&text))?;
        TextIndex::build(documents, Some(&text))?;
        let stored = postcard::to_stdvec(&StoredRef { thumbnails: &images.thumbnails, index: &images.index })
            .map_err(|e| Error::TextIndex { doing: "encoding the image index", problem: e.to_string() })?;
        let file = building.join("images.bin");
        let mut out = fs::File::create(&file).map_err(Error::write(&file))?;
        out.write_all(&Sha256::digest(&stored))
            .and_then(|()| out.write_all(&stored))
            .and_then(|()| out.sync_all())
            .map_err(Error::write(&file))?;
        let kept = indexes.join(digest);
        // What stands there was found unusable; another process may also have finished first, which is as good.
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&building, &kept).map_err(Error::write(&kept))
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&building);
    }
    written
}

/// [`StoredImages`] without copies; both encode alike.
#[derive(Serialize)]
struct StoredRef<'a> {
    #[serde(serialize_with = "thumbnails_as_bytes")]
    thumbnails: &'a [Option<Arc<[u8]>>],
    index: &'a ImageIndex,
}

fn thumbnails_as_bytes<S: serde::Serializer>(thumbnails: &&[Option<Arc<[u8]>>], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(thumbnails.iter().map(|t| t.as_ref().map(|bytes| bytes.to_vec())))
}

/// Deletes indexes of earlier contents.
fn remove_others(indexes: &Path, digest: &str) {
    let Ok(entries) = fs::read_dir(indexes) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Only what this module writes: names are digests.
        if name != digest && name.len() == digest.len() && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes documents as a corpus folder: `documents.jsonl` and `images/`.
///
/// # Errors
/// A file that cannot be written; two documents of one id.
pub fn write_folder(dir: &Path, documents: &[Document]) -> Result<()> {
    let shared: Vec<Arc<Document>> = documents.iter().cloned().map(Arc::new).collect();
    check_ids(&shared)?;
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(Error::write(&images))?;
    let mut lines = Vec::new();
    for document in documents {
        let image = match &document.image {
            None => None,
            Some(encoded) => {
                let name = image_name(&document.id, encoded);
                let file = images.join(&name);
                fs::write(&file, encoded).map_err(Error::write(&file))?;
                Some(format!("images/{name}"))
            }
        };
        let line =
            Line { id: document.id.clone(), title: document.title.clone(), text: document.text.clone(), url: document.url.clone(), image };
        // A record of strings always has a JSON form.
        serde_json::to_writer(&mut lines, &line).map_err(|e| Error::write(dir.join(DOCUMENTS))(e.into()))?;
        lines.push(b'\n');
    }
    let path = dir.join(DOCUMENTS);
    fs::write(&path, lines).map_err(Error::write(&path))
}

/// A file name for a document's image: its id where that is a plain name, a digest of the id otherwise.
fn image_name(id: &str, encoded: &[u8]) -> String {
    let extension = match media_type(encoded) {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        _ => "bin",
    };
    let plain: String = id.chars().map(|c| if c == '/' { '-' } else { c }).collect();
    let is_plain = !plain.is_empty() && plain.len() <= 64 && plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let unique = is_plain && !id.contains('-');
    if unique { format!("{plain}.{extension}") } else { format!("{}.{extension}", &hex::encode(Sha256::digest(id))[..24]) }
}

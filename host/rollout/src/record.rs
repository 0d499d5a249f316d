//! Episodes on disk: JSON Lines, one object an episode, append-only; image files once each, named by digest.
//!
//! ```text
//! episodes/  step-000001.jsonl   eval-test-on-demand.jsonl   images/HEX.png
//! ```

use crate::tools::image_digest;
use crate::{Episode, Error, Result};
use mmhost_model::Processor;
use mmhost_plugins::ImageBytes;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the image files within the episodes' folder.
const IMAGES: &str = "images";

/// Appends episodes to one file of an episodes folder.
///
/// A kill at any instant costs at most the line that was being written; [`EpisodeWriter::sync`] marks what must survive.
pub struct EpisodeWriter {
    path: PathBuf,
    images: PathBuf,
    file: BufWriter<File>,
    stored: HashSet<String>,
}

impl EpisodeWriter {
    /// Begins `DIR/NAME.jsonl` anew: what stood in it is replaced. For a step that is done again after a resume.
    ///
    /// # Errors
    /// When folder or file cannot be made.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        Self::open(dir, name, false)
    }

    /// Goes on with `DIR/NAME.jsonl`. A truncated last line, left by a kill, is cut off first.
    ///
    /// # Errors
    /// When folder or file cannot be made, read or cut.
    pub fn append(dir: &Path, name: &str) -> Result<Self> {
        Self::open(dir, name, true)
    }

    fn open(dir: &Path, name: &str, keep: bool) -> Result<Self> {
        let images = dir.join(IMAGES);
        fs::create_dir_all(&images).map_err(io("create", &images))?;
        let path = dir.join(format!("{name}.jsonl"));
        let file = fs::OpenOptions::new().create(true).append(keep).write(true).truncate(!keep).open(&path).map_err(io("open", &path))?;
        if keep {
            let bytes = fs::read(&path).map_err(io("read", &path))?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if whole < bytes.len() {
                tracing::warn!(file = %path.display(), bytes = bytes.len() - whole, "cut off a truncated last line");
                file.set_len(whole as u64).map_err(io("cut", &path))?;
            }
        }
        Ok(Self { path, images, file: BufWriter::new(file), stored: HashSet::new() })
    }

    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one episode and stores those of its images that are not stored yet.
    ///
    /// # Errors
    /// When the disk refuses; the file then ends with whole lines and at most one truncated one.
    pub fn write(&mut self, episode: &Episode) -> Result<()> {
        for (digest, file) in episode.image_digests.iter().zip(&episode.image_files) {
            if self.stored.insert(digest.clone()) {
                store_image(&self.images, digest, file)?;
            }
        }
        let mut line = serde_json::to_vec(episode).map_err(std::io::Error::other).map_err(io("write", &self.path))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io("write", &self.path))
    }

    /// Flushes everything to the disk; call it at the end of a step.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<()> {
        self.file.flush().map_err(io("write", &self.path))?;
        self.file.get_ref().sync_all().map_err(io("sync", &self.path))
    }
}

fn store_image(dir: &Path, digest: &str, file: &ImageBytes) -> Result<()> {
    let path = dir.join(format!("{digest}.{}", extension(&file.media_type)));
    if path.exists() {
        return Ok(());
    }
    // Written beside and renamed, so that a file under its digest is always whole. The name is this process's own.
    let partial = dir.join(format!(".{digest}.{}.partial", std::process::id()));
    let written = File::create(&partial)
        .and_then(|mut out| out.write_all(&file.bytes).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&partial, &path));
    written.map_err(|source| {
        // Nothing is lost with the partial file, and the first error is the one to tell.
        let _ = fs::remove_file(&partial);
        io("write", &path)(source)
    })
}

fn extension(media_type: &str) -> &'static str {
    match media_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        _ => "bin",
    }
}

/// A last line that was not written to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncatedLine {
    /// The file.
    pub path: PathBuf,
    /// Line number, from 1.
    pub line: usize,
    /// Bytes of it that are there.
    pub bytes: usize,
}

impl std::fmt::Display for TruncatedLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} line {} is truncated ({} bytes) and was left out", self.path.display(), self.line, self.bytes)
    }
}

/// Episodes read from files.
#[derive(Debug, Clone, Default)]
pub struct StoredEpisodes {
    /// The whole ones, in file order. Their images are not attached.
    pub episodes: Vec<Episode>,
    /// Truncated last lines that were left out.
    pub truncated: Vec<TruncatedLine>,
}

/// Reads one file. A last line without its end, left by a kill, is named in the result rather than refused.
///
/// # Errors
/// When the file cannot be read, or a whole line is no episode (names file and line).
pub fn read_episodes(path: &Path) -> Result<StoredEpisodes> {
    let bytes = fs::read(path).map_err(io("read", path))?;
    let mut stored = StoredEpisodes::default();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line_number = index + 1;
        let Some(whole) = line.strip_suffix(b"\n") else {
            stored.truncated.push(TruncatedLine { path: path.to_owned(), line: line_number, bytes: line.len() });
            break;
        };
        if whole.trim_ascii().is_empty() {
            continue;
        }
        let episode = serde_json::from_slice(whole).map_err(|error| Error::Corrupt {
            path: path.to_owned(),
            line: line_number,
            reason: error.to_string(),
        })?;
        stored.episodes.push(episode);
    }
    Ok(stored)
}

/// Reads every `*.jsonl` of an episodes folder, in the order of their names.
///
/// # Errors
/// As [`read_episodes`]; also when the folder cannot be listed.
pub fn read_dir(dir: &Path) -> Result<StoredEpisodes> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("list", dir))? {
        let path = entry.map_err(io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all = StoredEpisodes::default();
    for path in paths {
        let stored = read_episodes(&path)?;
        all.episodes.extend(stored.episodes);
        all.truncated.extend(stored.truncated);
    }
    Ok(all)
}

/// Gives stored episodes their images back from `DIR/images`, processed as the model reads them; equal images are shared.
///
/// # Errors
/// When an image is missing, does not have its digest, or cannot be decoded; or when the images do not give as many features
/// as the episode has image tokens (another model's processor).
pub fn attach_images(dir: &Path, episodes: &mut [Episode], processor: &Processor) -> Result<()> {
    let dir = dir.join(IMAGES);
    let mut at_hand = HashMap::new();
    for episode in episodes {
        let mut inputs = Vec::with_capacity(episode.image_digests.len());
        let mut files = Vec::with_capacity(episode.image_digests.len());
        for digest in &episode.image_digests {
            if !at_hand.contains_key(digest) {
                let loaded = load_image(&dir, digest, processor).map_err(|reason| Error::StoredImage {
                    episode: episode.id.clone(),
                    digest: digest.clone(),
                    dir: dir.clone(),
                    reason,
                })?;
                at_hand.insert(digest.clone(), loaded);
            }
            let (input, file) = &at_hand[digest];
            inputs.push(Arc::clone(input));
            files.push(file.clone());
        }
        episode.images = inputs;
        episode.image_files = files;
        if let Some(violation) = crate::invariants::image_violation(episode, processor) {
            return Err(Error::Invariant { violation, episode: Box::new(episode.clone()) });
        }
    }
    Ok(())
}

type LoadedImage = (Arc<mmhost_model::ImageInput>, ImageBytes);

fn load_image(dir: &Path, digest: &str, processor: &Processor) -> std::result::Result<LoadedImage, String> {
    // A digest names a file: anything else than hex digits could leave the folder.
    if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("this is no digest".into());
    }
    let path = ["png", "jpg", "webp", "bin"]
        .iter()
        .map(|extension| dir.join(format!("{digest}.{extension}")))
        .find(|path| path.exists())
        .ok_or("there is no such file")?;
    let bytes = fs::read(&path).map_err(|error| error.to_string())?;
    if image_digest(&bytes) != digest {
        return Err("the file's digest is another; it was changed".into());
    }
    let decoded = mmhost_model::decode_image(&bytes).map_err(|error| error.to_string())?;
    let input = processor.process_image(&decoded).map_err(|error| error.to_string())?;
    let file = ImageBytes { media_type: crate::tools::media_type(&bytes).to_owned(), bytes: bytes.into() };
    Ok((Arc::new(input), file))
}

/// Turns a system error into one that says which file and what was being done.
fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), action, source }
}

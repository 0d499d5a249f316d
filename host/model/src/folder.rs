//! A Hugging Face model folder, read and written whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::Value;

use crate::shards::SaveDtype;
use crate::{Error, ModelConfig, ModelShape, Processor, Result, Weights};

/// How a model folder is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveOptions {
    /// Number format of the weights.
    pub dtype: SaveDtype,
    /// Weights beyond this size go into several numbered files with an index.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { dtype: SaveDtype::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// Everything of a Hugging Face model folder.
pub struct ModelFolder {
    /// Shape.
    pub config: ModelConfig,
    /// Parameters.
    pub weights: Weights,
    /// Text side and image processor.
    pub processor: Processor,
}

impl ModelFolder {
    /// A model of random weights for a processor; the same seed gives the same weights.
    ///
    /// # Errors
    /// When the shape's numbers do not fit together.
    pub fn init(shape: &ModelShape, processor: Processor, seed: u64, device: &Device) -> Result<Self> {
        let config = ModelConfig::from_shape(shape, processor.tokenizer.vocab_size(), processor.token_ids()?)?;
        processor.image_processor().check(&config, "model shape")?;
        let weights = Weights::init(&config, seed, device)?;
        Ok(Self { config, weights, processor })
    }

    /// Reads a folder: `config.json`, the safetensors files, and what [`Processor::load`] reads.
    ///
    /// # Errors
    /// When a file is missing, damaged or contradicts the configuration; the message names it.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        let config = load_config(dir)?;
        let processor = Processor::load(dir, &config)?;
        let weights = Weights::load(&config, dir, device)?;
        Ok(Self { config, weights, processor })
    }

    /// Writes a folder that loads in transformers as it is (atomically: into a temporary sibling, then renamed).
    ///
    /// # Errors
    /// When the disk refuses; an older folder of that name is then still there, unchanged.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.save_with(dir, &SaveOptions::default())
    }

    /// [`ModelFolder::save`] with a choice of number format and shard size.
    ///
    /// # Errors
    /// As [`ModelFolder::save`].
    pub fn save_with(&self, dir: &Path, options: &SaveOptions) -> Result<()> {
        save_model(&self.config, &self.weights, &self.processor, dir, options)
    }
}

/// Writes a model folder from its parts, as [`ModelFolder::save`].
///
/// # Errors
/// As [`ModelFolder::save`].
pub fn save_model(config: &ModelConfig, weights: &Weights, processor: &Processor, dir: &Path, options: &SaveOptions) -> Result<()> {
    replace_dir(dir, |temporary| {
        write_json(&temporary.join("config.json"), &config.to_json(options.dtype.name()))?;
        processor.write(temporary)?;
        weights.write(config, temporary, options.dtype, options.max_shard_bytes)
    })
}

/// Reads `config.json` of a model folder.
pub(crate) fn load_config(dir: &Path) -> Result<ModelConfig> {
    let path = dir.join("config.json");
    if !path.exists() {
        let hint = "name a folder in the Hugging Face format, or make one with `mmhost model init`";
        return Err(Error::MissingFile { dir: dir.to_owned(), file: "config.json".into(), hint });
    }
    ModelConfig::from_file(&path)
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, format!("{value:#}\n")).map_err(Error::io("write", path))
}

/// Fills a temporary sibling of `dir`, forces it to disk and puts it in the place of `dir`. After a failure or a kill, `dir`
/// is as it was; a kill between the two renames leaves it beside its place, under the name `.NAME.old.tmp`.
fn replace_dir(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "model".into());
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
    let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let old = parent.join(format!(".{name}.old.tmp"));
    let remove = |path: &Path| if path.exists() { fs::remove_dir_all(path).map_err(Error::io("remove", path)) } else { Ok(()) };
    remove(&temporary)?;
    let filled = fs::create_dir(&temporary)
        .map_err(Error::io("create", &temporary))
        .and_then(|()| fill(&temporary))
        .and_then(|()| sync_tree(&temporary));
    if let Err(error) = filled {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    if dir.exists() {
        remove(&old)?;
        fs::rename(dir, &old).map_err(Error::io("move aside", dir))?;
    }
    fs::rename(&temporary, dir).map_err(Error::io("rename", &temporary))?;
    sync(&parent)?;
    remove(&old)
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        sync(&entry.map_err(Error::io("read", dir))?.path())?;
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("write", path))
}

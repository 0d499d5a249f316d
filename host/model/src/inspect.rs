//! What stands in a model folder, without reading its weights.

use std::collections::BTreeMap;
use std::path::Path;

use crate::folder::load_config;
use crate::layout;
use crate::shards::{Shards, TensorFacts};
use crate::{Error, ModelConfig, Result};

/// A model folder's contents.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Shape.
    pub config: ModelConfig,
    /// Parameters of the decoder's layers and norms.
    pub decoder_parameters: usize,
    /// Parameters of the embedding table, and of the output head where it is another matrix.
    pub embedding_parameters: usize,
    /// Parameters of the vision tower.
    pub vision_parameters: usize,
    /// Files of the folder with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Tensors in the weight files, by published name.
    pub tensors: Vec<TensorFacts>,
    /// Number format → tensors and bytes.
    pub dtypes: BTreeMap<String, (usize, u64)>,
}

impl Inspection {
    /// All parameters.
    pub fn parameters(&self) -> usize {
        self.decoder_parameters + self.embedding_parameters + self.vision_parameters
    }
}

/// Looks into a model folder: configuration, files and the headers of the weight files.
///
/// # Errors
/// When `config.json` or a weight file is missing or damaged.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let config = load_config(dir)?;
    let tensors = Shards::open(dir)?.facts();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let facts = std::fs::metadata(entry.path()).map_err(Error::io("read", entry.path()))?;
        if facts.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), facts.len()));
        }
    }
    files.sort();
    let mut dtypes = BTreeMap::new();
    for tensor in &tensors {
        let (count, bytes) = dtypes.entry(tensor.dtype.clone()).or_insert((0, 0));
        *count += 1;
        *bytes += tensor.bytes;
    }
    let mut inspection =
        Inspection { config, decoder_parameters: 0, embedding_parameters: 0, vision_parameters: 0, files, tensors, dtypes };
    for param in layout::params(&inspection.config) {
        let count: usize = param.shape.iter().product();
        let total = if param.name.starts_with("visual.") {
            &mut inspection.vision_parameters
        } else if param.name == "lm_head.weight" || param.name == "model.embed_tokens.weight" {
            &mut inspection.embedding_parameters
        } else {
            &mut inspection.decoder_parameters
        };
        *total += count;
    }
    Ok(inspection)
}

//! The parameters: drawn at random, read from a Hugging Face folder, written to one.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::layout::{self, Init};
use crate::shards::{self, Outgoing, SaveDtype, Shards};
use crate::{ModelConfig, Result};

/// Named trainable parameters. QKV and gate/up projections are kept packed and are split on export.
pub struct Weights {
    vars: BTreeMap<String, Var>,
}

impl Weights {
    /// Random initialisation, the same for the same seed.
    ///
    /// Embeddings are drawn from a normal distribution of the configuration's `initializer_range`, matrices from one of variance
    /// `1 / inputs`, projections into the residual stream narrower by `sqrt(2 · layers)`; norms start at 1, biases at 0.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut vars = BTreeMap::new();
        for param in layout::params(config) {
            let count = param.shape.iter().product();
            let numbers = match param.init {
                Init::Ones => vec![1.0; count],
                Init::Zeros => vec![0.0; count],
                Init::Normal(std) => normal(&mut rng, count, std),
            };
            vars.insert(param.name, Var::from_vec(numbers, param.shape, device)?);
        }
        Ok(Self { vars })
    }

    /// Reads the safetensors files of a folder, as `f32`.
    ///
    /// # Errors
    /// When a shard is missing or damaged, or the tensors are not those that `config` asks for.
    pub fn load(config: &ModelConfig, dir: &Path, device: &Device) -> Result<Self> {
        let mut shards = Shards::open(dir)?;
        let params = layout::params(config);
        shards.refuse_unknown(|name| {
            let redundant = name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
            redundant || params.iter().any(|param| param.parts.iter().any(|part| part.name == name))
        })?;
        let mut vars = BTreeMap::new();
        for param in params {
            let mut numbers = Vec::with_capacity(param.shape.iter().product());
            for part in &param.parts {
                shards.read(&part.name, &part.shape, &mut numbers)?;
            }
            vars.insert(param.name, Var::from_vec(numbers, param.shape, device)?);
        }
        Ok(Self { vars })
    }

    /// Writes safetensors files under Hugging Face names into an existing folder, shards of at most `max_shard_bytes`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(&self, config: &ModelConfig, dir: &Path, dtype: SaveDtype, max_shard_bytes: u64) -> Result<()> {
        let mut tensors = Vec::new();
        for param in layout::params(config) {
            let Some(var) = self.vars.get(&param.name) else {
                return Err(crate::Error::Parameter { name: param.name, problem: "is missing".into(), expected: param.shape });
            };
            let rows_in = param.parts.iter().map(|part| part.shape[0]).sum::<usize>();
            debug_assert_eq!(rows_in, param.shape[0]);
            let mut start = 0;
            for part in param.parts {
                let (from, rows) = (start, part.shape[0]);
                start += rows;
                let numbers = move || Ok(var.as_detached_tensor().narrow(0, from, rows)?.flatten_all()?.to_vec1::<f32>()?);
                tensors.push(Outgoing { name: part.name, shape: part.shape, numbers: Box::new(numbers) });
            }
        }
        shards::write(dir, &tensors, dtype, max_shard_bytes)
    }

    /// The parameters, ordered by name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Numbers in all parameters together.
    pub fn num_parameters(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }

    /// A copy that shares nothing with these weights (for the frozen reference policy).
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn deep_copy(&self) -> Result<Self> {
        // A variable made from a tensor that is not one copies its storage.
        let copy = |(name, var): (&String, &Var)| Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor())?));
        Ok(Self { vars: self.vars.iter().map(copy).collect::<Result<_>>()? })
    }

    /// Takes over the numbers of other weights of the same configuration, in place: networks built on these weights see them.
    ///
    /// # Errors
    /// When names or shapes differ; weights before the first difference are then already taken over.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        for (name, var) in &self.vars {
            let Some(source) = other.vars.get(name) else {
                let expected = var.dims().to_vec();
                return Err(crate::Error::Parameter { name: name.clone(), problem: "is missing".into(), expected });
            };
            var.set(&source.as_detached_tensor())?;
        }
        Ok(())
    }
}

/// `count` numbers from a normal distribution with mean 0 (Box–Muller).
fn normal(rng: &mut ChaCha8Rng, count: usize, std: f64) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let (sin, cos) = (rng.random::<f64>() * std::f64::consts::TAU).sin_cos();
        numbers.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    numbers.truncate(count);
    numbers
}

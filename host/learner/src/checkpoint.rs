//! The optimiser's state on disk: `optimiser.safetensors` (moments, and wide copies of narrow parameters) and `learner.json`
//! (steps, and the digest of the other file, which binds the two together).
//!
//! Both are written beside their place, flushed, and renamed, `learner.json` last: a kill at any instant leaves either the old pair,
//! the new pair, or a pair that [`restore`] refuses.

use crate::optimiser::AdamW;
use crate::{Error, OptimiserOptions, Result};
use candle_core::{DType, Device, Tensor, Var};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const TENSORS: &str = "optimiser.safetensors";
const RECORD: &str = "learner.json";
/// Version of the two files' layout.
const FORMAT: u32 = 1;

/// The content of `learner.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    /// Steps taken.
    steps: usize,
    /// Updates of each parameter.
    updates: BTreeMap<String, u64>,
    /// SHA-256 of `optimiser.safetensors`.
    tensors_sha256: String,
    /// The settings at the time, for the reader; those of the run that restores the state count.
    optimiser: OptimiserOptions,
}

/// Writes the state into `dir`, which exists.
pub(crate) fn save(dir: &Path, optimiser: &AdamW, steps: usize) -> Result<()> {
    let tensors_path = dir.join(TENSORS);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for parameter in &optimiser.parameters {
        let shape = parameter.var.dims().to_vec();
        let mut push = |prefix: &str, values: &[f32]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{prefix}.{}", parameter.name), shape.clone(), bytes));
        };
        push("m", &parameter.first_moment);
        push("v", &parameter.second_moment);
        if let Some(master) = &parameter.master {
            push("master", &master.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    let damaged = |error: safetensors::SafeTensorError| Error::Checkpoint {
        path: tensors_path.clone(),
        problem: format!("the optimiser's state could not be laid out: {error}"),
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(damaged)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None).map_err(damaged)?;
    let record = Record {
        format: FORMAT,
        steps,
        updates: optimiser.parameters.iter().map(|p| (p.name.clone(), p.updates)).collect(),
        tensors_sha256: hex::encode(Sha256::digest(&bytes)),
        optimiser: optimiser.options.clone(),
    };
    let record_path = dir.join(RECORD);
    let mut text = serde_json::to_string_pretty(&record).map_err(|error| Error::Checkpoint {
        path: record_path.clone(),
        problem: format!("the record could not be written as JSON: {error}"),
    })?;
    text.push('\n');
    write_atomically(&tensors_path, &bytes)?;
    write_atomically(&record_path, text.as_bytes())
}

/// Reads the state from `dir` into `optimiser`, whose parameters must be the same by name and shape, and returns the steps taken. On an
/// error `optimiser` is as it was.
pub(crate) fn restore(dir: &Path, optimiser: &mut AdamW) -> Result<usize> {
    let record_path = dir.join(RECORD);
    let text = read(&record_path)?;
    let record: Record = serde_json::from_slice(&text)
        .map_err(|error| problem(&record_path, format!("not a learner record: {error}; restore an earlier checkpoint")))?;
    if record.format != FORMAT {
        let found = record.format;
        return Err(problem(&record_path, format!("format {found} found, {FORMAT} expected; it was written by another version")));
    }
    let tensors_path = dir.join(TENSORS);
    let bytes = read(&tensors_path)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    if digest != record.tensors_sha256 {
        return Err(problem(
            &tensors_path,
            format!(
                "sha256 {digest} found, {} expected by {RECORD}: the file is damaged or belongs to another step; restore an earlier checkpoint",
                record.tensors_sha256
            ),
        ));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| problem(&tensors_path, format!("not a safetensors file: {error}")))?;

    // Everything is read before anything is changed.
    struct State {
        first_moment: Vec<f32>,
        second_moment: Vec<f32>,
        master: Option<Tensor>,
        updates: u64,
    }
    let mut states = Vec::with_capacity(optimiser.parameters.len());
    for parameter in &optimiser.parameters {
        let load = |prefix: &str| values(&tensors, &tensors_path, &format!("{prefix}.{}", parameter.name), &parameter.var);
        let updates = *record.updates.get(&parameter.name).ok_or_else(|| {
            problem(&record_path, format!("no updates of `{}` recorded; the checkpoint is of another model", parameter.name))
        })?;
        let master = match &parameter.master {
            Some(_) => Some(Tensor::from_vec(load("master")?, parameter.var.shape(), &Device::Cpu)?),
            None => None,
        };
        states.push(State { first_moment: load("m")?, second_moment: load("v")?, master, updates });
    }
    if record.updates.len() != states.len() {
        return Err(problem(
            &record_path,
            format!("{} parameters found, {} expected; the checkpoint is of another model", record.updates.len(), states.len()),
        ));
    }
    for (parameter, state) in optimiser.parameters.iter_mut().zip(states) {
        if let (Some(master), Some(values)) = (&parameter.master, state.master) {
            master.set(&values.to_device(master.device())?)?;
        }
        parameter.first_moment = state.first_moment;
        parameter.second_moment = state.second_moment;
        parameter.updates = state.updates;
    }
    if record.optimiser != optimiser.options {
        tracing::warn!(path = %record_path.display(), "optimiser settings differ from those of the checkpoint; the new ones count");
    }
    Ok(record.steps)
}

/// The tensor `name` as `f32`, which must be of `var`'s shape.
fn values(tensors: &SafeTensors, path: &Path, name: &str, var: &Var) -> Result<Vec<f32>> {
    let view =
        tensors.tensor(name).map_err(|_| problem(path, format!("tensor `{name}` is missing; the checkpoint is of another model")))?;
    if view.dtype() != Dtype::F32 || view.shape() != var.dims() {
        return Err(problem(
            path,
            format!(
                "tensor `{name}` is {:?} {:?}, expected {:?} {:?}; the checkpoint is of another model",
                view.dtype(),
                view.shape(),
                DType::F32,
                var.dims()
            ),
        ));
    }
    let bytes = view.data().chunks_exact(4);
    Ok(bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn problem(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), problem }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// Writes a file so that its name always stands for complete content, on disk before this returns.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        // The rename itself is durable once the folder is.
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

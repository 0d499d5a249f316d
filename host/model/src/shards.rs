//! Safetensors files: opening one with every check, reading a tensor as `f32`, writing a set of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Value, json};

use crate::{Error, Result};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The largest header that the safetensors format allows.
const MAX_HEADER: u64 = 100_000_000;

/// What one tensor of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFacts {
    /// The file that holds it.
    pub path: PathBuf,
    /// Its name there.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its number format as safetensors names it (`F32`, `BF16`, …).
    pub dtype: String,
    /// Its size in the file.
    pub bytes: u64,
}

/// One opened safetensors file.
struct Shard {
    path: PathBuf,
    file: File,
    data_start: u64,
    metadata: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let damaged = |reason: String| Error::Shard { path: path.clone(), reason };
        let mut size = [0; 8];
        if length < 8 {
            return Err(damaged(format!("{length} bytes, too short for a header")));
        }
        file.read_exact(&mut size).map_err(Error::io("read", &path))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER || size > length - 8 {
            return Err(damaged(format!("the header claims {size} bytes, the file has {length}")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(Error::io("read", &path))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(format!("unreadable header: {e}")))?;
        let expected = 8 + size + metadata.data_len() as u64;
        if length != expected {
            return Err(damaged(format!("{length} bytes, expected {expected} from its header")));
        }
        Ok(Self { path, file, data_start: 8 + size, metadata })
    }

    fn read(&mut self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let missing = || Error::Shard { path: self.path.clone(), reason: format!("tensor `{name}` is not in its header") };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let (start, end) = info.data_offsets;
        let dtype = info.dtype;
        let mut bytes = vec![0; end - start];
        self.file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(Error::io("read", &self.path))?;
        self.file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
        match dtype {
            Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Dtype::BF16 => out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            other => {
                return Err(Error::TensorDtype { path: self.path.clone(), name: name.to_owned(), found: format!("{other:?}") });
            }
        }
        Ok(())
    }
}

/// All weight files of a model folder.
pub(crate) struct Shards {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Published name → shard and name in it.
    tensors: BTreeMap<String, (usize, String)>,
}

impl Shards {
    /// Opens `model.safetensors`, or every file that `model.safetensors.index.json` names.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let missing = |file: String, hint| Error::MissingFile { dir: dir.to_owned(), file, hint };
        let index = dir.join(INDEX);
        let files: BTreeSet<String> = if dir.join(SINGLE).exists() {
            [SINGLE.to_owned()].into()
        } else if index.exists() {
            let text = std::fs::read_to_string(&index).map_err(Error::io("read", &index))?;
            let value: Value = serde_json::from_str(&text).map_err(|e| Error::Json { path: index.clone(), reason: e.to_string() })?;
            let bad = |found: String| Error::field(&index.display().to_string(), "weight_map", found, "tensor names with file names");
            let map = value.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("no such object".into()))?;
            let plain = |file: &Value| {
                Some(file.as_str()?.to_owned()).filter(|file| Path::new(file).file_name().is_some_and(|n| n == file.as_str()))
            };
            map.values().map(|file| plain(file).ok_or_else(|| bad(file.to_string()))).collect::<Result<_>>()?
        } else {
            return Err(missing(format!("{SINGLE} or {INDEX}"), "weights are read in the safetensors format only"));
        };
        let mut shards = Vec::new();
        let mut tensors = BTreeMap::new();
        for file in files {
            let path = dir.join(&file);
            if !path.exists() {
                return Err(missing(file, "its index names this shard; fetch or copy it again"));
            }
            let shard = Shard::open(path)?;
            for name in shard.metadata.tensors().into_keys() {
                tensors.insert(crate::layout::published_name(&name), (shards.len(), name));
            }
            shards.push(shard);
        }
        Ok(Self { dir: dir.to_owned(), shards, tensors })
    }

    /// Appends the numbers of a tensor to `out`, if it has the expected shape.
    pub(crate) fn read(&mut self, published: &str, shape: &[usize], out: &mut Vec<f32>) -> Result<()> {
        let Some((shard, name)) = self.tensors.get(published) else {
            return Err(Error::MissingTensor { dir: self.dir.clone(), name: published.to_owned(), expected: shape.to_vec() });
        };
        let shard = &mut self.shards[*shard];
        if let Some(info) = shard.metadata.info(name)
            && info.shape != shape
        {
            return Err(Error::TensorShape {
                path: shard.path.clone(),
                name: name.clone(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        shard.read(name, out)
    }

    /// Refuses tensors for which `known` is false.
    pub(crate) fn refuse_unknown(&self, known: impl Fn(&str) -> bool) -> Result<()> {
        match self.tensors.iter().find(|(published, _)| !known(published)) {
            Some((_, (shard, name))) => Err(Error::UnexpectedTensor { path: self.shards[*shard].path.clone(), name: name.clone() }),
            None => Ok(()),
        }
    }

    /// What stands in the files, ordered by published name.
    pub(crate) fn facts(&self) -> Vec<TensorFacts> {
        let facts = |(shard, name): &(usize, String)| {
            let shard = &self.shards[*shard];
            let info = shard.metadata.info(name)?;
            Some(TensorFacts {
                path: shard.path.clone(),
                name: name.clone(),
                shape: info.shape.clone(),
                dtype: format!("{:?}", info.dtype),
                bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
            })
        };
        self.tensors.values().filter_map(facts).collect()
    }
}

/// Number format of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveDtype {
    /// 32-bit floating point: loses nothing.
    #[default]
    F32,
    /// bfloat16, the format of published checkpoints.
    Bf16,
    /// 16-bit floating point.
    F16,
}

impl SaveDtype {
    /// The name that `config.json` uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    fn width(self) -> u64 {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Self::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

/// A tensor to be written: its name, shape and where its numbers come from.
pub(crate) struct Outgoing<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub numbers: Box<dyn Fn() -> Result<Vec<f32>> + 'a>,
}

/// Writes tensors into `dir` as one file, or as numbered shards of at most `max_shard_bytes` with an index.
pub(crate) fn write(dir: &Path, tensors: &[Outgoing], dtype: SaveDtype, max_shard_bytes: u64) -> Result<()> {
    let size = |tensor: &Outgoing| tensor.shape.iter().product::<usize>() as u64 * dtype.width();
    let mut groups: Vec<Vec<&Outgoing>> = vec![Vec::new()];
    let mut used = 0;
    for tensor in tensors {
        if used > 0 && used + size(tensor) > max_shard_bytes {
            groups.push(Vec::new());
            used = 0;
        }
        used += size(tensor);
        if let Some(group) = groups.last_mut() {
            group.push(tensor);
        }
    }
    let mut weight_map = BTreeMap::new();
    for (i, group) in groups.iter().enumerate() {
        let file = match groups.len() {
            1 => SINGLE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let path = dir.join(&file);
        let damaged = |e: safetensors::SafeTensorError| Error::Shard { path: path.clone(), reason: e.to_string() };
        let data = group.iter().map(|tensor| Ok(dtype.encode(&(tensor.numbers)()?))).collect::<Result<Vec<_>>>()?;
        let views = group
            .iter()
            .zip(&data)
            .map(|(tensor, data)| {
                let view = safetensors::tensor::TensorView::new(dtype.safetensors(), tensor.shape.clone(), data).map_err(damaged)?;
                Ok((tensor.name.as_str(), view))
            })
            .collect::<Result<Vec<_>>>()?;
        // transformers refuses files that do not say which framework's conventions they follow.
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(views, Some(about), &path).map_err(|e| match e {
            safetensors::SafeTensorError::IoError(source) => Error::Io { action: "write", path: path.clone(), source },
            other => damaged(other),
        })?;
        weight_map.extend(group.iter().map(|tensor| (tensor.name.clone(), file.clone())));
    }
    if groups.len() > 1 {
        let total: u64 = tensors.iter().map(size).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        crate::folder::write_json(&dir.join(INDEX), &index)?;
    }
    Ok(())
}

//! The atlas on disk.

use std::path::Path;

use super::NOTICE;
use super::world::{Split, World};
use crate::error::{Error, Result};
use crate::parquet_write::write_parquet;

/// Writes `train.parquet`, `validation.parquet`, `test.parquet` and `held_out.parquet` in the FVQA schema, `corpus/` (`documents.jsonl` with its
/// images) and `NOTICE`. Returns how many questions each split has.
///
/// # Errors
/// A file that cannot be written.
pub fn write(world: &World, dir: &Path) -> Result<Vec<(Split, usize)>> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let notice = dir.join("NOTICE");
    std::fs::write(&notice, NOTICE).map_err(Error::io("write", &notice))?;
    mmhost_corpus::write_folder(&dir.join("corpus"), &world.documents())?;
    Split::ALL
        .into_iter()
        .map(|split| {
            let samples = world.samples(split);
            write_parquet(&dir.join(format!("{}.parquet", split.word())), &samples)?;
            Ok((split, samples.len()))
        })
        .collect()
}

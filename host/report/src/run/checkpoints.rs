//! The checkpoints of a run.

use std::fs;
use std::path::{Path, PathBuf};

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// GRPO steps done.
    pub step: usize,
    /// Its folder.
    pub path: PathBuf,
}

/// The complete checkpoints in `dir`, oldest first. One still being written has another name.
pub fn list(dir: &Path) -> Vec<Checkpoint> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<Checkpoint> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
            Some(Checkpoint { step, path })
        })
        .collect();
    found.sort_by_key(|checkpoint| checkpoint.step);
    found
}

//! Samples, readers (Parquet, JSONL), the filter pipeline, and the atlas: a small built-in world of real flags and facts.
//!
//! - [`read`] and [`write_parquet`]: data sets in the FVQA schema, one [`Sample`] per row;
//! - [`inspect`]: what a data set holds, and what is wrong with it;
//! - [`apply_filters`]: dataset-filter plugins over samples;
//! - [`atlas`]: the world behind the default run, its questions, its corpus and the supervised warm-up.

pub mod atlas;
mod error;
mod filter;
mod inspect;
mod jsonl;
mod parquet_read;
mod parquet_write;
mod sample;

pub use error::{Error, Result};
pub use filter::{Dropped, Filtered, SampleFilter, apply_filters};
pub use inspect::{ImageSummary, Inspection, Range, inspect};
pub use parquet_write::write_parquet;
pub use sample::{Sample, SampleImage};

use std::path::Path;

/// Reads a data set by its extension (`.parquet`, `.jsonl`).
///
/// Images are not decoded here: an undecodable image is that sample's fault and shows in [`Sample::decode_images`] and [`inspect`].
///
/// # Errors
/// An unknown extension, an unreadable or broken file, a missing column, a column of another type, a row without prompt or reward model. The message
/// names file, column and row.
pub fn read(path: &Path) -> Result<Vec<Sample>> {
    match extension(path).as_str() {
        "parquet" => parquet_read::read(path),
        "jsonl" => jsonl::read(path),
        _ => Err(Error::UnknownFormat { path: path.to_owned() }),
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

//! Samples, readers (Parquet, JSONL), the filter pipeline, and the atlas: a small built-in world of real flags and facts.

use std::path::Path;
use std::sync::Arc;

/// Error of this crate. TODO(data): thiserror enum.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One question with its images, truth, candidates and source (FVQA schema, FACTS §1).
#[derive(Debug, Clone)]
pub struct Sample {
    /// `data_id`, or the row number.
    pub id: String,
    /// The question, image placeholders removed.
    pub question: String,
    /// Encoded images.
    pub images: Vec<SampleImage>,
    /// Reference answer.
    pub ground_truth: String,
    /// Other accepted answers.
    pub candidate_answers: Vec<String>,
    /// Where the sample comes from.
    pub data_source: String,
    /// Question class: `search_free`, `image_required`, `text_required`, `both_required`, or a data set's own category.
    pub category: Option<String>,
    /// Links of the images.
    pub image_urls: Vec<String>,
    /// Tags given by filters.
    pub tags: Vec<String>,
}
/// An encoded image of a sample.
#[derive(Debug, Clone)]
pub struct SampleImage { /// file bytes
    pub bytes: Arc<[u8]>, /// original path, if known
    pub path: Option<String> }

/// Reads a data set by its extension (`.parquet`, `.jsonl`).
pub fn read(path: &Path) -> Result<Vec<Sample>> { todo!() }
/// Writes samples in the FVQA Parquet schema.
pub fn write_parquet(path: &Path, samples: &[Sample]) -> Result<()> { todo!() }

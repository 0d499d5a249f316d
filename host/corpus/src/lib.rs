//! Embedded retrieval: a text index (BM25) and an image index, built from documents.

use std::path::Path;
use std::sync::Arc;

/// Error of this crate. TODO(corpus): thiserror enum.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A page: text, and maybe an image.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Document { /// unique id
    pub id: String, /// title
    pub title: String, /// body
    pub text: String, /// link
    pub url: String, /// encoded image that this page is about
    #[serde(skip)] pub image: Option<Arc<[u8]>> }

/// A hit.
#[derive(Debug, Clone)]
pub struct Hit { /// the document
    pub document: Arc<Document>, /// BM25 score or cosine similarity
    pub score: f32, /// encoded thumbnail (image search), PNG
    pub thumbnail: Option<Arc<[u8]>> }

/// Documents with their indexes.
pub struct Corpus {}
impl Corpus {
    /// Indexes documents in memory.
    pub fn build(documents: Vec<Document>, options: &CorpusOptions) -> Result<Self> { todo!() }
    /// Reads `documents.jsonl` (image paths relative to the folder) and indexes it, keeping the indexes on disk beside it.
    pub fn open(dir: &Path) -> Result<Self> { todo!() }
    /// Best `k` pages for a query.
    pub fn search_text(&self, query: &str, k: usize) -> Result<Vec<Hit>> { todo!() }
    /// The `k` most similar images.
    pub fn search_image(&self, encoded: &[u8], k: usize) -> Result<Vec<Hit>> { todo!() }
}
/// How to build a corpus.
#[derive(Debug, Clone)]
pub struct CorpusOptions { /// longer side of thumbnails, pixels
    pub thumbnail_size: u32 }

//! Documents with their indexes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::features::{self, Feature};
use crate::folder;
use crate::images::ImageIndex;
use crate::pixels::{decode_image, encode_png, thumbnail};
use crate::text::TextIndex;

/// A page: text, and maybe an image.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Unique within its corpus.
    pub id: String,
    /// Title; image search shows it.
    pub title: String,
    /// Body.
    #[serde(default)]
    pub text: String,
    /// Link; empty when there is none.
    #[serde(default)]
    pub url: String,
    /// Encoded image (PNG, JPEG or WebP) that this page is about.
    #[serde(skip)]
    pub image: Option<Arc<[u8]>>,
}

/// A hit.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The document.
    pub document: Arc<Document>,
    /// BM25 score (text search) or cosine similarity (image search).
    pub score: f32,
    /// Encoded thumbnail (image search), PNG.
    pub thumbnail: Option<Arc<[u8]>>,
}

/// How to build a corpus.
#[derive(Debug, Clone)]
pub struct CorpusOptions {
    /// Longer side of thumbnails, pixels. Default 28: one merged vision token of a model with 14-pixel patches.
    pub thumbnail_size: u32,
}

impl Default for CorpusOptions {
    fn default() -> Self {
        Self { thumbnail_size: 28 }
    }
}

/// Documents with their indexes. Searches run concurrently.
pub struct Corpus {
    documents: Vec<Arc<Document>>,
    /// By document number; `None` for a document without image.
    thumbnails: Vec<Option<Arc<[u8]>>>,
    text: TextIndex,
    images: ImageIndex,
}

/// What the image side of a corpus is computed to: thumbnails by document number, and the index.
pub(crate) struct ImageSide {
    pub(crate) thumbnails: Vec<Option<Arc<[u8]>>>,
    pub(crate) index: ImageIndex,
}

impl ImageSide {
    pub(crate) fn compute(documents: &[Arc<Document>], options: &CorpusOptions, path_of: impl Fn(usize) -> String) -> Result<Self> {
        let mut thumbnails = Vec::with_capacity(documents.len());
        let mut described: Vec<(u32, Vec<Feature>)> = Vec::new();
        for (number, document) in documents.iter().enumerate() {
            let Some(encoded) = &document.image else {
                thumbnails.push(None);
                continue;
            };
            let image = decode_image(encoded).map_err(|problem| Error::DocumentImage {
                document: document.id.clone(),
                path: path_of(number),
                problem,
            })?;
            thumbnails.push(Some(encode_png(&thumbnail(&image, options.thumbnail_size)).into()));
            described.push((number as u32, features::views(&image)));
        }
        Ok(Self { thumbnails, index: ImageIndex::build(described) })
    }
}

impl Corpus {
    /// Indexes documents in memory.
    ///
    /// # Errors
    /// Two documents of one id; an image that cannot be decoded (the message names the document).
    pub fn build(documents: Vec<Document>, options: &CorpusOptions) -> Result<Self> {
        let documents: Vec<Arc<Document>> = documents.into_iter().map(Arc::new).collect();
        check_ids(&documents)?;
        let images = ImageSide::compute(&documents, options, |_| "(given as bytes)".into())?;
        let text = TextIndex::build(&documents, None)?;
        Ok(Self::assemble(documents, text, images))
    }

    /// Reads `documents.jsonl` (image paths relative to the folder) and indexes it, keeping the indexes on disk beside it.
    ///
    /// Each line is `{"id", "title", "text", "url", "image"}`; `text`, `url` and `image` may be missing. The indexes lie in `.mmhost-index/DIGEST/`
    /// and are used again as long as the digest of documents and images stays the same. Where the folder cannot be written the indexes are built in memory.
    ///
    /// # Errors
    /// A missing or unreadable file, a malformed line (named by number), two documents of one id, an image that cannot be decoded.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &CorpusOptions::default())
    }

    /// [`Self::open`] with options.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, options: &CorpusOptions) -> Result<Self> {
        folder::open(dir, options)
    }

    pub(crate) fn assemble(documents: Vec<Arc<Document>>, text: TextIndex, images: ImageSide) -> Self {
        Self { documents, thumbnails: images.thumbnails, text, images: images.index }
    }

    /// Best `k` pages for a query, best first (BM25). The query is plain text, its punctuation means nothing; a query that shares no
    /// meaningful word with any page finds nothing.
    ///
    /// # Errors
    /// Only when the index on disk has become unreadable.
    pub fn search_text(&self, query: &str, k: usize) -> Result<Vec<Hit>> {
        let found = self.text.search(query, k.min(self.documents.len()))?;
        Ok(found
            .into_iter()
            .filter_map(|(number, score)| Some(Hit { document: self.documents.get(number as usize)?.clone(), score, thumbnail: None }))
            .collect())
    }

    /// The `k` most similar images, best first (cosine of colour and edge layouts).
    ///
    /// # Errors
    /// The image cannot be decoded.
    pub fn search_image(&self, encoded: &[u8], k: usize) -> Result<Vec<Hit>> {
        let query = features::feature(&decode_image(encoded).map_err(Error::QueryImage)?);
        let found = self.images.nearest(&query, k);
        Ok(found
            .into_iter()
            .filter_map(|(number, score)| {
                let number = number as usize;
                Some(Hit { document: self.documents.get(number)?.clone(), score, thumbnail: self.thumbnails.get(number)?.clone() })
            })
            .collect())
    }

    /// The documents, in the order given.
    pub fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// How many documents have an image.
    pub fn num_images(&self) -> usize {
        self.thumbnails.iter().flatten().count()
    }
}

pub(crate) fn check_ids(documents: &[Arc<Document>]) -> Result<()> {
    let mut seen = HashSet::with_capacity(documents.len());
    match documents.iter().find(|d| !seen.insert(d.id.as_str())) {
        Some(twice) => Err(Error::DuplicateId(twice.id.clone())),
        None => Ok(()),
    }
}

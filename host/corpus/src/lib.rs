//! Embedded retrieval: a text index (BM25) and an image index, built from documents.
//!
//! ```
//! use mmhost_corpus::{Corpus, CorpusOptions, Document};
//! let page = Document { id: "chad".into(), title: "Capital of Chad".into(), text: "The capital of Chad is N'Djamena.".into(), url: String::new(), image: None };
//! let corpus = Corpus::build(vec![page], &CorpusOptions::default())?;
//! assert_eq!(corpus.search_text("What is the capital of Chad?", 1)?[0].document.id, "chad");
//! # Ok::<(), mmhost_corpus::Error>(())
//! ```
//!
//! A [`Document`] is a page of text, an image with its title, or both. [`Corpus::build`] indexes documents in memory; [`Corpus::open`] reads a
//! folder and keeps the indexes on disk beside it, keyed by a digest of the folder's content. Searches take `&self` and run concurrently; equal queries
//! give equal results, in the same order, on every run.
//!
//! - `text`: BM25 by tantivy over title and text;
//! - `features`: what an image is reduced to;
//! - `images`: nearest features, exhaustively in a small corpus, by a navigable small-world graph in a large one;
//! - `folder`: the format of a corpus folder;
//! - [`decode_image`], [`encode_png`] and [`thumbnail`]: images in and out, with limits that hostile files cannot exceed.

mod corpus;
mod error;
mod features;
mod folder;
mod images;
mod pixels;
mod text;

pub use corpus::{Corpus, CorpusOptions, Document, Hit};
pub use error::{Error, Result};
pub use folder::write_folder;
pub use pixels::{ImageProblem, decode_image, encode_png, media_type, read_image_file, thumbnail};

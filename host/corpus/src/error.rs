//! What can go wrong in a corpus.

use std::path::PathBuf;

use crate::pixels::ImageProblem;

/// Error of this crate. Every message names the file or document at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the corpus folder cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A line of `documents.jsonl` is not a document.
    #[error(
        "`{}`, line {line}: {problem}; expected one JSON object per line with the strings `id`, `title`, `text`, `url` and, optionally, `image` (a path relative to the folder)",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Two documents bear one id.
    #[error("two documents have the id `{0}`; ids must be unique within a corpus")]
    DuplicateId(String),
    /// A document's image cannot be used.
    #[error("document `{document}`: image {path}: {problem}; replace the image or remove it from the document")]
    DocumentImage {
        /// The document's id.
        document: String,
        /// Quoted path, or a word for an image given as bytes.
        path: String,
        /// What is wrong with it.
        problem: ImageProblem,
    },
    /// The image searched for cannot be decoded.
    #[error("the image to search for: {0}")]
    QueryImage(ImageProblem),
    /// The text index failed.
    #[error("the text index failed while {doing}: {problem}")]
    TextIndex {
        /// What was being done.
        doing: &'static str,
        /// tantivy's word.
        problem: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action: "read", path, source }
    }
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action: "write", path, source }
    }
}

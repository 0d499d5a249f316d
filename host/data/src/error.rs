//! What can go wrong with data sets.

use std::path::{Path, PathBuf};

use mmhost_corpus::ImageProblem;

/// Error of this crate. Every message names the file and the place in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// `read`, `write` or `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The extension says no known format.
    #[error("`{}`: data sets are `.parquet` or `.jsonl` files; found the extension `{}`", path.display(), path.extension().unwrap_or_default().to_string_lossy())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is not readable Parquet.
    #[error("`{}` is not a readable Parquet file: {problem}; fetch or write it again", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's word.
        problem: String,
    },
    /// A needed column is absent.
    #[error("`{}` has no column `{column}`; needed are `prompt`, `images` and `reward_model`, the file has: {present}", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column, or `column.field` of a struct.
        column: String,
        /// What is there.
        present: String,
    },
    /// A column has another type than the schema says.
    #[error("`{}`, column `{column}`: expected {expected}, found {found}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column, or `column.field` of a struct.
        column: String,
        /// Expected type in words.
        expected: &'static str,
        /// The file's type.
        found: String,
    },
    /// A row's value cannot be used.
    #[error("`{}`, {unit} {row}, `{column}`: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// `row` (from 0) or `line` (from 1).
        unit: &'static str,
        /// Row or line number.
        row: usize,
        /// The column.
        column: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A sample's image cannot be decoded.
    #[error("sample `{sample}`, image {index}: {problem}")]
    Image {
        /// The sample's id.
        sample: String,
        /// Position among the sample's images, from 0.
        index: usize,
        /// What is wrong with it.
        problem: ImageProblem,
    },
    /// A filter failed as a whole; no sample was judged by it.
    #[error("filter `{filter}` failed on samples {first} to {last}: {problem}")]
    Filter {
        /// The plugin.
        filter: String,
        /// First sample of the batch.
        first: String,
        /// Last sample of the batch.
        last: String,
        /// The plugin runtime's word.
        problem: String,
    },
    /// Options that no world can be built from.
    #[error("atlas option `{option}`: {problem}")]
    AtlasOption {
        /// The option.
        option: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// The corpus folder could not be written.
    #[error(transparent)]
    Corpus(#[from] mmhost_corpus::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

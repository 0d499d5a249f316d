//! What keeps a report from being made. A damaged part of a run does not: it is named in the report instead.

use std::path::PathBuf;

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path holds no run.
    #[error(
        "{} is not a run directory: it has none of run.toml, metrics.jsonl, base.json, summary.json and episodes/; name a directory that `mmhost train` wrote",
        .0.display()
    )]
    NoRun(PathBuf),
    /// The directory cannot be read at all.
    #[error("cannot read the run directory {}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The report's own data does not become JSON.
    #[error("cannot write the report's data as JSON")]
    Json(#[from] serde_json::Error),
    /// Compressing in memory failed.
    #[error("cannot compress the episodes")]
    Compress(#[source] std::io::Error),
}

/// Result of making a report.
pub type Result<T> = std::result::Result<T, Error>;

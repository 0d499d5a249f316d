//! What can go wrong in a rollout that is not the policy's or a tool's doing.

use crate::{Episode, Violation};
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of this crate. A bad turn or a failing tool is no error: it is part of the episode.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tools and the protocol's options do not fit together.
    #[error("the turn protocol cannot be composed: {0}")]
    Protocol(String),
    /// The engine failed.
    #[error("{episode}: generation failed: {source}")]
    Engine {
        /// The episode, or the group where the prompt was being read.
        episode: String,
        /// What the engine said.
        source: mmhost_engine::EngineError,
    },
    /// The text side of the model failed.
    #[error("{episode}: cannot {action}: {source}")]
    Text {
        /// The episode, or the sample.
        episode: String,
        /// What was being done.
        action: &'static str,
        /// What the model crate said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The prompt alone does not fit into an episode.
    #[error("{group}: the prompt has {found} tokens, but max_episode_tokens is {limit}; raise it, or use smaller images")]
    PromptTooLong {
        /// The group.
        group: String,
        /// Tokens of the prompt.
        found: usize,
        /// `max_episode_tokens`.
        limit: usize,
    },
    /// An image of a sample cannot be read.
    #[error("sample {sample}: image {index} cannot be read: {reason}")]
    SampleImage {
        /// The sample's id.
        sample: String,
        /// Which of its images, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A finished episode breaks what the learner relies on. The episode is kept so that it can be saved.
    #[error("{}: {violation}; this is a defect of the host, not of the policy", episode.id)]
    Invariant {
        /// What does not hold.
        violation: Violation,
        /// The episode as it was recorded.
        episode: Box<Episode>,
    },
    /// A task of the scheduler died.
    #[error("{episode}: the rollout stopped unexpectedly: {reason}")]
    Stopped {
        /// The group or episode.
        episode: String,
        /// Why.
        reason: String,
    },
    /// A file of the episode store cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of an episode file is no episode.
    #[error("{} line {line}: not an episode of this version: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the JSON reader said.
        reason: String,
    },
    /// An image that an episode names is not in the store.
    #[error("{episode}: image {digest} cannot be taken from {}: {reason}", dir.display())]
    StoredImage {
        /// The episode.
        episode: String,
        /// SHA-256 of the image file.
        digest: String,
        /// The images' folder.
        dir: PathBuf,
        /// Missing, changed or undecodable.
        reason: String,
    },
}

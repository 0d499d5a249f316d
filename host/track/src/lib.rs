//! Tells trackers what a run measures: TensorBoard through event files, Weights & Biases and MLflow through their HTTP interfaces.
//!
//! A tracker never blocks a run and never fails it. Event files are appended to in place; what a server gets waits in a bounded queue
//! that a task of its own empties, with timeouts and retries. What cannot be delivered is dropped, told once when it begins and
//! counted at the end.
//!
//! Trackers survive a resume: a run finds its run on the server again by `RUN/track/SERVICE.json`, and what the server has already is
//! not sent twice.

mod client;
mod events;
mod mlflow;
mod options;
mod queue;
mod tracker;
mod wandb;

pub use options::{MlflowOptions, TrackOptions, WandbOptions};
pub use queue::Pace;
pub use tracker::{Ended, RunInfo, Say, Tracker};

/// The figures of one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// GRPO steps done.
    pub step: usize,
    /// When it was measured, in milliseconds since 1970.
    pub time_ms: u64,
    /// By name, e.g. `train/reward`; finite.
    pub values: Vec<(String, f64)>,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

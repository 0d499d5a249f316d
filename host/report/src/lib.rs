//! Metrics of evaluations with their intervals, the summary of a run, and its table.
//!
//! An evaluation hands over one [`Observation`] per question; everything printed or written to `summary.json` is computed from those.

mod estimate;
mod metrics;
mod summary;
mod table;

pub use estimate::Estimate;
pub use metrics::{ClassMetrics, Metrics, Observation, SplitMetrics};
pub use summary::{Invariants, PolicyMetrics, Summary, Timing, WorkflowMetrics};
pub use table::{metrics_table, summary_table};

//! What a run did, for people: metrics of evaluations with their intervals, the summary of a run and its table, and the report, a page
//! that needs nothing beside itself.
//!
//! An evaluation hands over one [`Observation`] per question; everything printed or written to `summary.json` is computed from those.
//! [`Run::open`] reads a run directory in whatever state it is; [`report()`] makes the page from one run or several. The page's script
//! stands in `page/`, its built form is part of this crate.

mod episodes;
mod error;
mod estimate;
mod growing;
mod live;
mod metrics;
mod page;
mod report;
mod run;
mod scores;
mod summary;
mod table;

pub use error::{Error, Result};
pub use estimate::Estimate;
pub use live::Live;
pub use metrics::{ClassMetrics, Metrics, Observation, SplitMetrics};
pub use report::{Report, ReportOptions, report};
pub use run::{
    Checkpoint, Difference, Run, State, Steps, Summarised, bytes_on_disk, differences, flatten, is_locked, run_description,
    runs_difference, runs_table, size,
};
pub use scores::{SCORES_DIR, ScoresHead, score_file};
pub use summary::{Invariants, PolicyMetrics, Summary, Timing, WorkflowMetrics};
pub use table::{metrics_table, summary_table};

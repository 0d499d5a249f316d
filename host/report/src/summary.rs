//! `summary.json`: what a run measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SplitMetrics;

/// Metrics by split (`test`, `held_out`).
pub type WorkflowMetrics = BTreeMap<String, SplitMetrics>;
/// Metrics by workflow (`direct`, `rag`, `on_demand`, `on_demand_sampled`).
pub type PolicyMetrics = BTreeMap<String, WorkflowMetrics>;

/// Seconds by phase, in order of first appearance on the clock.
pub type Timing = BTreeMap<String, f64>;

/// The largest differences that the run's invariants saw (DESIGN: numbers that must agree).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Invariants {
    /// Largest |rollout − learner| log-probability of a sampled token, in nats.
    pub logprob_diff_max: f64,
    /// Largest step mean of the same.
    pub logprob_diff_mean: f64,
}

/// What a run measured, before and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The policy before training.
    pub base: PolicyMetrics,
    /// The policy after training.
    pub trained: PolicyMetrics,
    /// Seconds by phase (`timing.total` is the sum of what this process did).
    pub timing: Timing,
    /// Most memory that the process held, in bytes; absent where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Largest differences of the invariants.
    pub invariants: Invariants,
}

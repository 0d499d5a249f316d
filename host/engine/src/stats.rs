//! What the engine has done so far.

use std::ops::AddAssign;
use std::time::Duration;

/// Counters since the engine started, over all its workers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineStats {
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// Prompt and appended tokens run through the model (a group's prompt counts once).
    pub prefill_tokens: u64,
    /// Forward passes.
    pub steps: u64,
    /// Sequences decoded in these passes, added up.
    pub decoded_rows: u64,
    /// Worker time in passes that took in prompt or appended tokens (the sequences decoded beside them included).
    pub prefill_time: Duration,
    /// Worker time in passes that only decoded.
    pub decode_time: Duration,
    /// Bytes of all open sequences' caches.
    pub cache_bytes: usize,
    /// The largest that `cache_bytes` has been.
    pub peak_cache_bytes: usize,
}

impl EngineStats {
    /// Sequences decoded per pass.
    pub fn mean_batch(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.decoded_rows as f64 / self.steps as f64 }
    }
}

/// What one pass adds to the statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepStats {
    pub(crate) steps: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) prefill_tokens: u64,
    pub(crate) decoded_rows: u64,
    pub(crate) time: Duration,
}

impl AddAssign<StepStats> for EngineStats {
    fn add_assign(&mut self, step: StepStats) {
        self.generated_tokens += step.generated_tokens;
        self.prefill_tokens += step.prefill_tokens;
        self.steps += step.steps;
        self.decoded_rows += step.decoded_rows;
        if step.prefill_tokens > 0 {
            self.prefill_time += step.time;
        } else {
            self.decode_time += step.time;
        }
    }
}

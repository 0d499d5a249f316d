//! What one plugin has cost so far.

use crate::PluginError;
use crate::types::CallCost;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one plugin has cost so far: a record of `ledger.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Calls that were made, repeated ones too.
    pub calls: u64,
    /// Those that failed, by kind: `trap`, `deadline`, `memory`, `reported`, …
    pub failures: BTreeMap<String, u64>,
    /// Calls that repeated a failed one.
    pub retries: u64,
    /// Calls that were not made because the circuit breaker was open.
    pub spared: u64,
    /// Time spent in calls, in seconds. Calls at the same time count each.
    pub seconds: f64,
    /// Latency of a call in milliseconds.
    pub latency_ms: Quantiles,
    /// Most linear memory that a call held, in bytes.
    pub peak_memory_bytes: u64,
    /// Fuel of the calls, where the plugin's limits count it.
    pub fuel: u64,
    /// HTTP requests, repeated and redirected ones too.
    pub requests: u64,
    /// Bytes of the bodies of requests and answers.
    pub http_bytes: u64,
    /// Completions that models were asked for.
    pub completions: u64,
    /// Tokens of the conversations.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// Answers of the recording, while one is made or replayed: calls, requests, searches and completions that were spared.
    pub hits: u64,
    /// What the recording did not know.
    pub misses: u64,
    /// Price of all that.
    pub money: f64,
}

/// Latencies: quantiles for people, and what a resumed run needs to go on counting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Slowest.
    pub max: f64,
    /// Calls by latency, to two digits: `MICROSECONDS:CALLS`, with spaces between.
    pub counts: String,
}

/// An entry that is still growing.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) entry: Entry,
    latencies: Histogram<u64>,
}

impl Open {
    /// Goes on from an earlier entry.
    pub(super) fn new(entry: Entry) -> Self {
        // Two digits from a microsecond to an hour: a few kilobytes a plugin.
        let mut latencies = Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap_or_else(|_| unreachable!("the bounds are in order"));
        for step in entry.latency_ms.counts.split_whitespace() {
            let numbers = step.split_once(':').and_then(|(value, count)| Some((value.parse().ok()?, count.parse().ok()?)));
            if let Some((value, count)) = numbers {
                latencies.saturating_record_n(value, count);
            }
        }
        Self { entry, latencies }
    }

    /// Counts a call that has ended.
    pub(super) fn add(&mut self, took: Duration, error: Option<&PluginError>) {
        self.latencies.saturating_record(took.as_micros().max(1) as u64);
        self.entry.seconds += took.as_secs_f64();
        if let Some(failure) = error.filter(|error| is_failure(error)) {
            *self.entry.failures.entry(failure.kind().into()).or_default() += 1;
        }
    }

    /// Counts the memory and fuel of a call.
    pub(super) fn spent(&mut self, cost: &CallCost) {
        self.entry.peak_memory_bytes = self.entry.peak_memory_bytes.max(cost.memory_bytes);
        self.entry.fuel = self.entry.fuel.saturating_add(cost.fuel.unwrap_or(0));
    }

    /// The entry as it stands.
    pub(super) fn snapshot(&self) -> Entry {
        let ms = |micros: u64| micros as f64 / 1e3;
        let at = |q: f64| ms(self.latencies.value_at_quantile(q));
        let steps = self.latencies.iter_recorded().map(|step| format!("{}:{}", step.value_iterated_to(), step.count_at_value()));
        let counts = steps.collect::<Vec<_>>().join(" ");
        let latency_ms = Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: ms(self.latencies.max()), counts };
        Entry { latency_ms, ..self.entry.clone() }
    }
}

/// Whether an error is a failure of the plugin. What a tool says about its argument is an answer.
pub(super) fn is_failure(error: &PluginError) -> bool {
    use crate::ToolError;
    let answers = |error: &ToolError| matches!(error, ToolError::BadArgument(_) | ToolError::MissingImage | ToolError::NothingFound);
    !matches!(error, PluginError::Tool { error, .. } if answers(error))
}

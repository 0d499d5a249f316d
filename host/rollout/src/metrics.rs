//! Counts over episodes, for tables. Intervals are the report's business: a [`Tally`] carries what they need.

use crate::Episode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A sample of numbers, as its size and its first two moments. For yes-or-no figures `sum` is the number of yes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many numbers.
    pub n: usize,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
}

impl Tally {
    /// The mean; `None` of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }

    /// The unbiased variance; `None` of fewer than two numbers.
    pub fn variance(&self) -> Option<f64> {
        let n = self.n as f64;
        (self.n > 1).then(|| ((self.sum_squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0))
    }
}

impl FromIterator<f64> for Tally {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        values.into_iter().fold(Self::default(), |tally, value| Self {
            n: tally.n + 1,
            sum: tally.sum + value,
            sum_squares: tally.sum_squares + value * value,
        })
    }
}

fn yes(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

/// A component of the reward over the episodes that have it (abstentions are left out, not counted as 0).
pub fn component(episodes: &[&Episode], name: &str) -> Tally {
    episodes.iter().filter_map(|episode| episode.reward_component(name)).collect()
}

/// The reward's `accuracy`.
pub fn accuracy(episodes: &[&Episode]) -> Tally {
    component(episodes, "accuracy")
}

/// The reward's `format`.
pub fn format(episodes: &[&Episode]) -> Tally {
    component(episodes, "format")
}

/// Total reward over the scored episodes.
pub fn reward(episodes: &[&Episode]) -> Tally {
    episodes.iter().filter_map(|episode| episode.total_reward()).collect()
}

/// Tool calls per question.
pub fn searches_per_question(episodes: &[&Episode]) -> Tally {
    episodes.iter().map(|episode| episode.calls.len() as f64).collect()
}

/// Share of episodes that search at all (one of the two published search ratios).
pub fn share_searching(episodes: &[&Episode]) -> Tally {
    episodes.iter().map(|episode| yes(!episode.calls.is_empty())).collect()
}

/// Calls made over calls allowed (the other published search ratio), per episode; 0 where none are allowed.
pub fn calls_over_allowed(episodes: &[&Episode]) -> Tally {
    episodes
        .iter()
        .map(|episode| match episode.calls_allowed {
            0 => 0.0,
            allowed => episode.calls.len() as f64 / allowed as f64,
        })
        .collect()
}

/// Share of episodes that called the tool of this name, e.g. the image-search ratio with `image-search`.
pub fn tool_ratio(episodes: &[&Episode], tool: &str) -> Tally {
    episodes.iter().map(|episode| yes(episode.calls.iter().any(|call| call.tool == tool))).collect()
}

/// Sampled tokens per episode.
pub fn sampled_tokens(episodes: &[&Episode]) -> Tally {
    episodes.iter().map(|episode| episode.num_sampled() as f64).collect()
}

/// Episodes per way of ending, by name.
pub fn endings(episodes: &[&Episode]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for episode in episodes {
        *counts.entry(episode.ending.name()).or_default() += 1;
    }
    counts
}

/// Episodes by question class; those without one stand under the empty name.
pub fn by_category<'a>(episodes: &[&'a Episode]) -> BTreeMap<String, Vec<&'a Episode>> {
    let mut classes: BTreeMap<String, Vec<&Episode>> = BTreeMap::new();
    for episode in episodes {
        let class = episode.category.clone().unwrap_or_default();
        classes.entry(class).or_default().push(episode);
    }
    classes
}

/// The figures of one table row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Episodes.
    pub n: usize,
    /// Episodes without a reward.
    pub unscored: usize,
    /// See [`accuracy`].
    pub accuracy: Tally,
    /// See [`format()`].
    pub format: Tally,
    /// See [`reward`].
    pub reward: Tally,
    /// See [`searches_per_question`].
    pub searches_per_question: Tally,
    /// See [`share_searching`].
    pub share_searching: Tally,
    /// See [`calls_over_allowed`].
    pub calls_over_allowed: Tally,
    /// Calls that failed, over calls made.
    pub failed_calls: Tally,
    /// See [`tool_ratio`]; by tool name, one entry for each tool asked about.
    pub tool_ratios: BTreeMap<String, Tally>,
}

/// All figures of some episodes; `tools` are the names whose ratios are wanted.
pub fn measure(episodes: &[&Episode], tools: &[&str]) -> Measures {
    Measures {
        n: episodes.len(),
        unscored: episodes.iter().filter(|episode| episode.total_reward().is_none()).count(),
        accuracy: accuracy(episodes),
        format: format(episodes),
        reward: reward(episodes),
        searches_per_question: searches_per_question(episodes),
        share_searching: share_searching(episodes),
        calls_over_allowed: calls_over_allowed(episodes),
        failed_calls: episodes.iter().flat_map(|episode| &episode.calls).map(|call| yes(!call.ok)).collect(),
        tool_ratios: tools.iter().map(|tool| ((*tool).to_owned(), tool_ratio(episodes, tool))).collect(),
    }
}

//! What the reference rewards compute, as pure functions: they compile to WebAssembly for the components and natively for tests
//! and benchmarks.
//!
//! The reward is that of MMSearch-R1 (arXiv 2506.20670): `(1-α)·accuracy·penalty + α·format`. [`mmsearch`] scores accuracy as a
//! match with the truth, [`f1`] as the overlap of words; [`format`](mod@format) reads the turns and [`normalise`] makes answers comparable.
//! Nothing here panics on any input and no total is infinite or NaN.

pub mod f1;
pub mod format;
pub mod mmsearch;
pub mod normalise;
mod options;
mod tables;

pub use format::Rules;
pub use options::{BadOption, MatchMode, Options};

/// What the rewards look at in an episode. Any part of it may be malformed.
#[derive(Debug, Clone, Copy)]
pub struct Episode<'a> {
    /// Reference answer.
    pub ground_truth: &'a str,
    /// Other accepted answers.
    pub candidate_answers: &'a [String],
    /// The policy's turns.
    pub turns: &'a [String],
    /// Number of tool calls on record.
    pub num_calls: usize,
}

impl<'a> Episode<'a> {
    /// Every accepted answer.
    pub fn answers(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.ground_truth).chain(self.candidate_answers.iter().map(String::as_str))
    }
}

/// The word on one episode.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A score, all of it finite.
    Scored {
        /// `(1-α)·accuracy·penalty + α·format`.
        total: f64,
        /// How well the answer agrees with the truth, 0 to 1.
        accuracy: f64,
        /// 1 if every turn and their sequence is well-formed, else 0.
        format: f64,
        /// What the accuracy is multiplied with because of searches.
        penalty: f64,
    },
    /// No score, with the reason.
    Abstained(&'static str),
}

/// Puts the terms together. `accuracy` compares an answer with one accepted answer, both as the policy and the data set wrote
/// them; the best of all accepted answers counts.
pub fn combine(options: &Options, rules: &Rules, episode: Episode<'_>, accuracy: impl Fn(&str, &[&str]) -> f64) -> Verdict {
    let answers: Vec<&str> = episode.answers().filter(|answer| !answer.trim().is_empty()).collect();
    if answers.is_empty() {
        return Verdict::Abstained("the sample has no reference answer");
    }
    let Some(last) = episode.turns.last() else {
        return Verdict::Abstained("the episode has no turn");
    };
    let accuracy = rules.answer(last).map_or(0.0, |answer| accuracy(answer, &answers));
    let endings = rules.endings(episode.turns);
    // A call that was asked for counts even when no record of it came along.
    let asked = endings.iter().filter(|ending| ending.is_some_and(|e| e != rules.answer_index()));
    let searches = episode.num_calls.max(asked.count());
    let penalty = if accuracy > 0.0 { options.penalty_factor(searches) } else { 1.0 };
    let format = if rules.is_legal(&endings) { 1.0 } else { 0.0 };
    Verdict::Scored { total: (1.0 - options.alpha) * accuracy * penalty + options.alpha * format, accuracy, format, penalty }
}

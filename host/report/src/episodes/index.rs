//! The index of the shown episodes: one array a column, texts by number.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pack::Strings;
use super::record::Place;

/// The index's entry for one episode, strings by themselves.
pub(super) struct Row {
    pub place: Place,
    pub sample: String,
    pub class: String,
    pub question: String,
    pub truth: String,
    pub answer: String,
    pub tools: String,
    pub ending: String,
    pub reward: Option<f64>,
    pub accuracy: Option<f64>,
    pub advantage: Option<f64>,
    pub flags: u32,
    pub tool_ms: f64,
    pub least_logprob: Option<f32>,
    pub turns: Vec<String>,
    pub images: Vec<String>,
    /// Total and accuracy by other rewards.
    pub others: Vec<Option<(f64, f64)>>,
}

/// Another reward's word, a column each.
#[derive(Default, Clone, Serialize)]
pub(super) struct OtherColumns {
    total: Vec<Option<f64>>,
    accuracy: Vec<Option<f64>>,
}

/// The index as the page reads it: one array a column; texts by number.
#[derive(Default, Serialize)]
pub(super) struct Index {
    pub strings: Vec<String>,
    /// By run, the text of the tokens that its shown episodes hold.
    pub pieces: Vec<BTreeMap<u32, String>>,
    pub images: usize,
    pub image_chunk: usize,
    pub run: Vec<usize>,
    pub source: Vec<u32>,
    pub step: Vec<Option<usize>>,
    pub group: Vec<usize>,
    pub rollout: Vec<usize>,
    pub sample: Vec<u32>,
    pub class: Vec<u32>,
    pub question: Vec<u32>,
    pub truth: Vec<u32>,
    pub answer: Vec<u32>,
    pub tools: Vec<u32>,
    pub ending: Vec<u32>,
    pub reward: Vec<Option<f64>>,
    pub accuracy: Vec<Option<f64>>,
    pub advantage: Vec<Option<f64>>,
    pub flags: Vec<u32>,
    pub tool_ms: Vec<f64>,
    pub least_logprob: Vec<Option<f64>>,
    pub turns: Vec<Vec<u32>>,
    pub image: Vec<Vec<usize>>,
    pub chunk: Vec<usize>,
    pub at: Vec<usize>,
    /// By other reward.
    pub others: Vec<OtherColumns>,
}

impl Index {
    /// An empty index with columns for so many other rewards.
    pub fn new(others: usize) -> Self {
        Self { others: vec![OtherColumns::default(); others], ..Self::default() }
    }

    /// Adds one episode's row; where it stands is told by the caller.
    pub fn add(&mut self, row: Row, strings: &mut Strings) {
        self.source.push(strings.number(&row.place.label));
        self.step.push(row.place.step);
        self.group.push(row.place.group);
        self.rollout.push(row.place.rollout);
        self.sample.push(strings.number(&row.sample));
        self.class.push(strings.number(&row.class));
        self.question.push(strings.number(&row.question));
        self.truth.push(strings.number(&row.truth));
        self.answer.push(strings.number(&row.answer));
        self.tools.push(strings.number(&row.tools));
        self.ending.push(strings.number(&row.ending));
        self.reward.push(row.reward.map(|reward| rounded(reward, 1e6)));
        self.accuracy.push(row.accuracy.map(|accuracy| rounded(accuracy, 1e4)));
        self.advantage.push(row.advantage.map(|advantage| rounded(advantage, 1e4)));
        self.flags.push(row.flags);
        self.tool_ms.push(rounded(row.tool_ms, 1e2));
        self.least_logprob.push(row.least_logprob.map(|logprob| rounded(f64::from(logprob), 1e3)));
        for (columns, other) in self.others.iter_mut().zip(&row.others) {
            columns.total.push(other.map(|(total, _)| rounded(total, 1e6)));
            columns.accuracy.push(other.map(|(_, accuracy)| rounded(accuracy, 1e4)));
        }
        self.turns.push(row.turns.iter().map(|turn| strings.number(turn)).collect());
    }
}

/// Cut to so many parts of one.
pub(super) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

//! What all episodes of a run did, counted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::record::{Light, Place, Reward};

/// Most steps that keep a column of their own in [`Tally::training`]; longer runs are counted in bins of equal width.
const MOST_BINS: usize = 150;
/// Bounds of the latency histogram in milliseconds: four to a decade, 10 µs to 100 s.
const HISTOGRAM: (f64, f64, usize) = (-2.0, 5.0, 28);
/// Different messages of failed calls that are kept by tool.
const MOST_MESSAGES: usize = 8;
/// Bytes of a failed call's message that are kept.
const LONGEST_MESSAGE: usize = 400;

/// Who did the counted: the episodes of one step, or of one evaluation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Step(usize),
    Evaluation(String),
}

/// Right, wrong and unscored episodes.
type Counts = [u32; 3];

/// Episodes counted by source, class and behaviour; calls by tool.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    cells: BTreeMap<(Source, String, String), Counts>,
    tools: BTreeMap<String, ToolTally>,
    endings: BTreeMap<String, u32>,
    abstained: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Default)]
struct ToolTally {
    digests: BTreeMap<String, u32>,
    calls: u32,
    shared: u32,
    failures: u32,
    /// Of every call that the tool itself answered.
    latencies: Vec<f32>,
    messages: BTreeMap<String, u32>,
}

/// The counts as the page reads them.
#[derive(Debug, Serialize)]
pub struct Counted {
    /// Question classes.
    classes: Vec<String>,
    /// Sets of tools that episodes used, the empty one first: `""`, `"image-search"`, `"image-search + text-search"`.
    behaviours: Vec<String>,
    /// By bin of training steps.
    training: Vec<Bin>,
    /// By evaluation.
    evaluations: Vec<EvaluationCounts>,
    tools: Vec<ToolCounts>,
    /// How episodes ended.
    endings: BTreeMap<String, u32>,
    /// Why rewards abstained.
    abstained: BTreeMap<String, u32>,
}

/// Class, behaviour, right, wrong, unscored.
type Cell = [u32; 5];

#[derive(Debug, Serialize)]
struct Bin {
    from: usize,
    to: usize,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct EvaluationCounts {
    label: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct ToolCounts {
    name: String,
    digests: Vec<String>,
    calls: u32,
    shared: u32,
    failures: u32,
    /// Milliseconds at 50 %, 90 %, 99 % and 100 % of the calls that the tool itself answered.
    quantiles: Option<[f32; 4]>,
    /// Calls by latency, in steps of a quarter decade from 10 µs.
    histogram: Vec<u32>,
    messages: Vec<(String, u32)>,
}

impl Tally {
    /// Counts one episode.
    pub(super) fn add(&mut self, episode: &Light, place: &Place) {
        let mut tools: Vec<&str> = episode.calls.iter().map(|call| call.tool.as_ref()).collect();
        tools.sort_unstable();
        tools.dedup();
        let source = place.step.map_or_else(|| Source::Evaluation(place.label.clone()), Source::Step);
        let class = episode.category.clone().unwrap_or_default();
        let counts = self.cells.entry((source, class, tools.join(" + "))).or_default();
        let outcome = match episode.reward.as_ref().and_then(Reward::scored) {
            Some(scored) if scored.correct() => 0,
            Some(_) => 1,
            None => 2,
        };
        counts[outcome] += 1;
        *self.endings.entry(episode.ending.to_string()).or_default() += 1;
        if let Some(Reward::Abstained { abstained }) = &episode.reward {
            *self.abstained.entry(shortened(abstained)).or_default() += 1;
        }
        for call in &episode.calls {
            let tool = self.tools.entry(call.tool.to_string()).or_default();
            tool.calls += 1;
            tool.shared += u32::from(call.shared);
            if !call.digest.is_empty() {
                *tool.digests.entry(call.digest.to_string()).or_default() += 1;
            }
            if !call.shared {
                tool.latencies.push(call.elapsed_ms as f32);
                tool.failures += u32::from(!call.ok);
                if !call.ok && (tool.messages.len() < 10 * MOST_MESSAGES || tool.messages.contains_key(call.result.as_ref())) {
                    *tool.messages.entry(shortened(&call.result)).or_default() += 1;
                }
            }
        }
    }

    /// Adds another count to this one.
    pub(super) fn merge(&mut self, other: Tally) {
        for (key, counts) in other.cells {
            let mine = self.cells.entry(key).or_default();
            mine.iter_mut().zip(counts).for_each(|(mine, theirs)| *mine += theirs);
        }
        for (name, theirs) in other.tools {
            let mine = self.tools.entry(name).or_default();
            mine.calls += theirs.calls;
            mine.shared += theirs.shared;
            mine.failures += theirs.failures;
            mine.latencies.extend(theirs.latencies);
            add_all(&mut mine.digests, theirs.digests);
            add_all(&mut mine.messages, theirs.messages);
        }
        add_all(&mut self.endings, other.endings);
        add_all(&mut self.abstained, other.abstained);
    }

    /// The counts as the page reads them.
    pub fn counted(&self) -> Counted {
        let unique = |of: &dyn Fn(&(Source, String, String)) -> String| {
            let mut all: Vec<String> = self.cells.keys().map(of).collect();
            all.sort_by_key(|name| (name.matches(" + ").count() + usize::from(!name.is_empty()), name.clone()));
            all.dedup();
            all
        };
        let mut classes = unique(&|key| key.1.clone());
        classes.sort();
        let behaviours = unique(&|key| key.2.clone());
        let last_step = self.cells.keys().filter_map(|key| if let Source::Step(step) = key.0 { Some(step) } else { None }).max();
        let width = last_step.unwrap_or(0).div_ceil(MOST_BINS).max(1);
        let place = |list: &[String], name: &String| list.iter().position(|other| other == name).unwrap_or(0) as u32;
        let mut bins: BTreeMap<usize, BTreeMap<(u32, u32), Counts>> = BTreeMap::new();
        let mut evaluations: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
        for ((source, class, behaviour), counts) in &self.cells {
            let at = (place(&classes, class), place(&behaviours, behaviour));
            match source {
                Source::Step(step) => {
                    let cell = bins.entry(step.saturating_sub(1) / width).or_default().entry(at).or_default();
                    cell.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
                }
                Source::Evaluation(label) => {
                    evaluations.entry(label).or_default().push([at.0, at.1, counts[0], counts[1], counts[2]]);
                }
            }
        }
        let training = bins.into_iter().map(|(bin, cells)| Bin {
            from: bin * width + 1,
            to: (bin + 1) * width,
            cells: cells
                .into_iter()
                .map(|((class, behaviour), [right, wrong, unscored])| [class, behaviour, right, wrong, unscored])
                .collect(),
        });
        Counted {
            training: training.collect(),
            evaluations: evaluations.into_iter().map(|(label, cells)| EvaluationCounts { label: label.to_owned(), cells }).collect(),
            tools: self.tools.iter().map(|(name, tool)| tool.counted(name)).collect(),
            endings: self.endings.clone(),
            abstained: self.abstained.clone(),
            classes,
            behaviours,
        }
    }
}

impl ToolTally {
    fn counted(&self, name: &str) -> ToolCounts {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        // The smallest latency that the share of the calls does not exceed (nearest rank).
        let quantile = |share: f64| sorted[((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1];
        let (low, high, buckets) = HISTOGRAM;
        let mut histogram = vec![0; buckets];
        for latency in &sorted {
            let at = (f64::from(*latency).max(1e-9).log10() - low) / (high - low) * buckets as f64;
            histogram[(at.max(0.0) as usize).min(buckets - 1)] += 1;
        }
        let mut messages: Vec<(String, u32)> = self.messages.clone().into_iter().collect();
        messages.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        messages.truncate(MOST_MESSAGES);
        ToolCounts {
            name: name.to_owned(),
            digests: self.digests.keys().cloned().collect(),
            calls: self.calls,
            shared: self.shared,
            failures: self.failures,
            quantiles: (!sorted.is_empty()).then(|| [0.5, 0.9, 0.99, 1.0].map(quantile)),
            histogram,
            messages,
        }
    }
}

fn add_all(mine: &mut BTreeMap<String, u32>, theirs: BTreeMap<String, u32>) {
    for (key, n) in theirs {
        *mine.entry(key).or_default() += n;
    }
}

/// A message short enough to be listed.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    let end = (0..=LONGEST_MESSAGE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episodes::record::{LightCall, Scored};

    fn call(tool: &str, ms: f64, ok: bool, shared: bool) -> LightCall<'static> {
        let result = if ok { "found" } else { "the index is gone" };
        LightCall { tool: tool.to_owned().into(), result: result.into(), ok, elapsed_ms: ms, shared, ..LightCall::default() }
    }

    #[test]
    fn behaviours_are_the_sets_of_tools_and_latencies_those_of_the_tool_itself() {
        let mut tally = Tally::default();
        let scored = |total| Some(Reward::Scored { scored: Scored { total, components: Vec::new() } });
        let calls = vec![call("text", 2.0, true, false), call("image", 1.0, true, false)];
        tally.add(&Light { calls, reward: scored(0.9), ..Light::default() }, &Place::of("step=1/group=0/rollout=0", ""));
        let calls = vec![call("text", 900.0, true, true), call("text", 4.0, false, false)];
        tally.add(&Light { calls, reward: scored(0.1), ..Light::default() }, &Place::of("step=400/group=0/rollout=0", ""));
        tally.add(&Light::default(), &Place::of("eval=base-test/rag/group=0/rollout=0", ""));
        let counted = tally.counted();
        assert_eq!(counted.behaviours, ["", "text", "image + text"]);
        assert_eq!(counted.training.iter().map(|bin| (bin.from, bin.to)).collect::<Vec<_>>(), [(1, 3), (400, 402)]);
        assert_eq!(counted.training[0].cells, [[0, 2, 1, 0, 0]]);
        assert_eq!(counted.evaluations[0].cells, [[0, 0, 0, 0, 1]]);
        let text = counted.tools.iter().find(|tool| tool.name == "text").unwrap();
        assert_eq!((text.calls, text.shared, text.failures), (3, 1, 1));
        assert_eq!(text.quantiles, Some([2.0, 4.0, 4.0, 4.0]));
        assert_eq!(text.messages, [("the index is gone".to_owned(), 1)]);
    }
}

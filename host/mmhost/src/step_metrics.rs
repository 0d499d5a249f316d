//! What a training step measured: a line of `metrics.jsonl`, the view's figures and the trackers' scalars.

use std::collections::BTreeMap;

use mmhost_learner::StepReport;
use mmhost_report::{ClassMetrics, PolicyMetrics, SplitMetrics, Timing};
use mmhost_rollout::Episode;
use serde::Serialize;
use serde_json::Value;

use crate::ui::StepFigures;

/// Where a step's clock time went.
#[derive(Debug, Clone, Copy)]
pub struct Seconds {
    /// Rollouts while no tool call was under way: generation.
    pub rollout: f64,
    /// Rollouts while at least one tool call was under way; others may have been generating meanwhile.
    pub tools: f64,
    /// The reward.
    pub reward: f64,
    /// Storing the episodes, and the learner's update.
    pub learner: f64,
}

impl Seconds {
    /// Adds them to the run's time by phase.
    pub fn add_to(&self, timing: &mut Timing) {
        for (phase, seconds) in [("rollout", self.rollout), ("tools", self.tools), ("reward", self.reward), ("learner", self.learner)] {
            *timing.entry(phase.into()).or_default() += seconds;
        }
    }
}

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
pub struct StepMetrics {
    step: usize,
    /// Means over the step's episodes.
    reward: f64,
    accuracy: f64,
    format: Option<f64>,
    searches_per_question: f64,
    share_searching: f64,
    /// Image-search ratio by question class.
    image_search_ratio: BTreeMap<String, f64>,
    /// Text-search ratio by question class.
    text_search_ratio: BTreeMap<String, f64>,
    #[serde(flatten)]
    learner: StepReport,
    rollout_seconds: f64,
    tool_seconds: f64,
    reward_seconds: f64,
    learner_seconds: f64,
    /// By tool: calls that reached it, those that failed, and milliseconds a call. A call shared within its group counts once.
    tool_calls: BTreeMap<String, u64>,
    tool_failures: BTreeMap<String, u64>,
    tool_ms: BTreeMap<String, f64>,
}

/// What the episodes of a step say of one tool.
#[derive(Default)]
struct Calls {
    calls: u64,
    failures: u64,
    total_ms: f64,
}

impl StepMetrics {
    /// The metrics of a step from its scored episodes.
    pub fn new(step: usize, episodes: &[Episode], split: &SplitMetrics, learner: StepReport, seconds: Seconds) -> Self {
        let rewards: Vec<f64> = episodes.iter().filter_map(Episode::total_reward).collect();
        let ratio = |f: fn(&ClassMetrics) -> f64| split.classes.iter().map(|(name, m)| (name.clone(), f(m))).collect();
        let mut tools: BTreeMap<String, Calls> = BTreeMap::new();
        for call in episodes.iter().flat_map(|episode| &episode.calls).filter(|call| !call.shared) {
            let tool = tools.entry(call.tool.clone()).or_default();
            tool.calls += 1;
            tool.failures += u64::from(!call.ok);
            tool.total_ms += call.elapsed_ms;
        }
        let by_tool = |f: fn(&Calls) -> u64| tools.iter().map(|(name, tool)| (name.clone(), f(tool))).collect();
        Self {
            step,
            reward: rewards.iter().sum::<f64>() / rewards.len() as f64,
            accuracy: split.all.accuracy.value,
            format: split.all.format.map(|f| f.value),
            searches_per_question: split.all.searches_per_question.value,
            share_searching: split.all.share_searching.value,
            image_search_ratio: ratio(|m| m.image_search_ratio.value),
            text_search_ratio: ratio(|m| m.text_search_ratio.value),
            learner,
            rollout_seconds: seconds.rollout,
            tool_seconds: seconds.tools,
            reward_seconds: seconds.reward,
            learner_seconds: seconds.learner,
            tool_calls: by_tool(|tool| tool.calls),
            tool_failures: by_tool(|tool| tool.failures),
            tool_ms: tools.iter().map(|(name, tool)| (name.clone(), tool.total_ms / tool.calls as f64)).collect(),
        }
    }

    /// The step in a line.
    pub fn summary(&self) -> String {
        format!(
            "reward {:.3} accuracy {:.3} searches {:.2} kl {:.4}",
            self.reward, self.accuracy, self.searches_per_question, self.learner.kl
        )
    }

    /// The figures of the view from a line, also of a version that knew fewer.
    pub fn figures_of(line: &Value) -> StepFigures {
        let number = |field: &str| line[field].as_f64().unwrap_or(f64::NAN);
        let seconds = ["rollout_seconds", "tool_seconds", "reward_seconds", "learner_seconds"];
        StepFigures {
            reward: number("reward"),
            accuracy: number("accuracy"),
            share_searching: number("share_searching"),
            kl: number("kl"),
            entropy: number("entropy"),
            seconds: seconds.map(|field| line[field].as_f64().unwrap_or(0.0)),
        }
    }
}

/// Every number of a line, as trackers name it: `train/reward`, `train/image_search_ratio/search_free`.
pub fn values_of(line: &Value) -> Vec<(String, f64)> {
    let mut values = Vec::new();
    for (field, value) in line.as_object().into_iter().flatten().filter(|(field, _)| *field != "step") {
        match value {
            Value::Object(inner) => {
                values.extend(inner.iter().filter_map(|(key, value)| Some((format!("train/{field}/{key}"), value.as_f64()?))));
            }
            other => values.extend(other.as_f64().map(|value| (format!("train/{field}"), value))),
        }
    }
    values
}

/// The figures of an evaluation, as trackers name them: `trained/on_demand/test/accuracy`.
pub fn evaluation_values(who: &str, metrics: &PolicyMetrics) -> Vec<(String, f64)> {
    let mut values = Vec::new();
    for (workflow, splits) in metrics {
        for (split, m) in splits {
            let mut add = |place: &str, m: &ClassMetrics| {
                let figures = [
                    ("accuracy", &m.accuracy),
                    ("searches_per_question", &m.searches_per_question),
                    ("share_searching", &m.share_searching),
                    ("calls_over_allowed", &m.calls_over_allowed),
                    ("image_search_ratio", &m.image_search_ratio),
                    ("text_search_ratio", &m.text_search_ratio),
                ];
                values.extend(figures.map(|(name, figure)| (format!("{who}/{workflow}/{place}/{name}"), figure.value)));
                values.extend(m.format.iter().map(|format| (format!("{who}/{workflow}/{place}/format"), format.value)));
            };
            add(split, &m.all);
            for (class, of_class) in &m.classes {
                add(&format!("{split}/{class}"), of_class);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_scalars_and_old_lines_are_read() {
        let line = serde_json::json!({"step": 3, "reward": 0.5, "format": null, "tool_ms": {"text-search": 1.5}, "rollout_seconds": 2.0});
        assert_eq!(
            values_of(&line),
            [("train/reward".into(), 0.5), ("train/rollout_seconds".into(), 2.0), ("train/tool_ms/text-search".into(), 1.5)]
        );
        let figures = StepMetrics::figures_of(&line);
        assert_eq!((figures.reward, figures.seconds), (0.5, [2.0, 0.0, 0.0, 0.0]));
        assert!(figures.kl.is_nan(), "what is not on record is no figure");
    }
}

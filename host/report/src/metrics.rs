//! From one observation per question to the metrics of a split.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Estimate;

/// What an evaluation saw on one question. Questions whose reward abstained are not observed (they are counted apart).
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Question class, e.g. `image_required`.
    pub class: Option<String>,
    /// The reward's accuracy of the answer, in [0, 1].
    pub accuracy: f64,
    /// The reward's format score, in [0, 1], where it has one.
    pub format: Option<f64>,
    /// Image searches made.
    pub image_searches: usize,
    /// Text searches made.
    pub text_searches: usize,
    /// Tool calls made, of any kind.
    pub calls: usize,
    /// Tool calls that the workflow allows.
    pub calls_allowed: usize,
}

/// Metrics of a set of questions; each is a mean with its 95 % interval.
///
/// The field has two definitions of the search ratio: `share_searching` counts responses that search at all, `calls_over_allowed` divides
/// the calls made by the calls allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Accuracy of the answers.
    pub accuracy: Estimate,
    /// Tool calls per question.
    pub searches_per_question: Estimate,
    /// Share of questions with at least one call.
    pub share_searching: Estimate,
    /// Calls made ÷ calls allowed (0 where none is allowed).
    pub calls_over_allowed: Estimate,
    /// Format score; absent where the reward has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Estimate>,
    /// Share of questions with at least one image search.
    pub image_search_ratio: Estimate,
    /// Share of questions with at least one text search.
    pub text_search_ratio: Estimate,
    /// Questions.
    pub n: usize,
}

/// Metrics of one question class.
pub type ClassMetrics = Metrics;

/// Metrics of a split: over all its questions, and by class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// Over all questions.
    #[serde(flatten)]
    pub all: Metrics,
    /// Questions left out because the reward abstained.
    pub abstained: usize,
    /// By question class, under the class's name.
    #[serde(flatten)]
    pub classes: BTreeMap<String, ClassMetrics>,
}

impl Metrics {
    /// Metrics of `observations`; `None` when there are none.
    pub fn of<'a>(observations: impl Iterator<Item = &'a Observation> + Clone) -> Option<Self> {
        let mean = |f: &dyn Fn(&Observation) -> f64| Estimate::mean(&observations.clone().map(f).collect::<Vec<_>>());
        let some = |b: bool| if b { 1.0 } else { 0.0 };
        let formats: Vec<f64> = observations.clone().filter_map(|o| o.format).collect();
        Some(Self {
            accuracy: mean(&|o| o.accuracy)?,
            searches_per_question: mean(&|o| o.calls as f64)?,
            share_searching: mean(&|o| some(o.calls > 0))?,
            calls_over_allowed: mean(&|o| if o.calls_allowed == 0 { 0.0 } else { o.calls as f64 / o.calls_allowed as f64 })?,
            format: Estimate::mean(&formats),
            image_search_ratio: mean(&|o| some(o.image_searches > 0))?,
            text_search_ratio: mean(&|o| some(o.text_searches > 0))?,
            n: observations.clone().count(),
        })
    }
}

impl SplitMetrics {
    /// Metrics of a split; `None` when every question abstained or there are none.
    pub fn of(observations: &[Observation], abstained: usize) -> Option<Self> {
        let mut names: Vec<&String> = observations.iter().filter_map(|o| o.class.as_ref()).collect();
        names.sort();
        names.dedup();
        let of_class = |name: &String| Metrics::of(observations.iter().filter(|o| o.class.as_ref() == Some(name)));
        Some(Self {
            all: Metrics::of(observations.iter())?,
            abstained,
            classes: names.into_iter().filter_map(|name| Some((name.clone(), of_class(name)?))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(class: &str, accuracy: f64, image: usize, text: usize) -> Observation {
        Observation {
            class: Some(class.into()),
            accuracy,
            format: Some(1.0),
            image_searches: image,
            text_searches: text,
            calls: image + text,
            calls_allowed: 2,
        }
    }

    #[test]
    fn both_search_ratios_and_classes_are_reported() {
        let split = SplitMetrics::of(&[seen("a", 1.0, 0, 0), seen("b", 1.0, 1, 1), seen("b", 0.0, 1, 0), seen("b", 1.0, 0, 1)], 2).unwrap();
        assert_eq!(split.all.n, 4);
        assert_eq!(split.all.searches_per_question.value, 1.0);
        assert_eq!(split.all.share_searching.value, 0.75);
        assert_eq!(split.all.calls_over_allowed.value, 0.5);
        assert_eq!(split.classes["a"].accuracy.value, 1.0);
        assert!((split.classes["b"].image_search_ratio.value - 2.0 / 3.0).abs() < 1e-12);
        let json = serde_json::to_value(&split).unwrap();
        assert_eq!(json["b"]["n"], 3);
        assert_eq!(json["abstained"], 2);
        assert_eq!(serde_json::from_value::<SplitMetrics>(json).unwrap(), split);
    }

    #[test]
    fn nothing_observed_is_no_metrics() {
        assert_eq!(SplitMetrics::of(&[], 3), None);
    }
}

//! The filter pipeline, with filters that behave and filters that do not.

use mmhost_data::{Error, Sample, SampleFilter, apply_filters};
use mmhost_plugins::{Decision, FilterInput};

fn samples(n: usize) -> Vec<Sample> {
    (0..n)
        .map(|i| Sample {
            id: i.to_string(),
            question: "Who?".into(),
            images: Vec::new(),
            ground_truth: "x".into(),
            candidate_answers: Vec::new(),
            data_source: "test".into(),
            category: None,
            image_urls: Vec::new(),
            tags: Vec::new(),
        })
        .collect()
}

/// Drops every `drop`-th sample, tags the others with the size of the batch; answers for at most `answers` samples.
struct Every {
    name: &'static str,
    drop: usize,
    answers: usize,
}

#[async_trait::async_trait]
impl SampleFilter for Every {
    fn name(&self) -> &str {
        self.name
    }
    async fn decide(&self, samples: &[FilterInput]) -> Result<Vec<Decision>, String> {
        if self.answers == 0 {
            return Err("the plugin trapped".into());
        }
        let decide = |s: &FilterInput| match s.id.parse::<usize>() {
            Ok(i) if i % self.drop == 0 => Decision::Drop(format!("a multiple of {}", self.drop)),
            _ => Decision::Keep(vec![format!("{}:{}", self.name, samples.len())]),
        };
        Ok(samples.iter().take(self.answers).map(decide).collect())
    }
}

fn every(name: &'static str, drop: usize) -> Every {
    Every { name, drop, answers: usize::MAX }
}

#[tokio::test]
async fn filters_see_what_earlier_ones_kept() {
    let (twos, threes) = (every("twos", 2), every("threes", 3));
    let filtered = apply_filters(&[&twos, &threes], samples(12), 5).await.expect("filters that behave");
    assert_eq!(filtered.kept.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["1", "5", "7", "11"]);
    assert_eq!(filtered.kept[0].tags, ["twos:5", "threes:5"]);
    assert_eq!(filtered.kept[3].tags, ["twos:2", "threes:1"]);
    let dropped: Vec<(&str, &str)> = filtered.dropped.iter().map(|d| (d.sample.id.as_str(), d.filter.as_str())).collect();
    assert_eq!(dropped[..6], [("0", "twos"), ("2", "twos"), ("4", "twos"), ("6", "twos"), ("8", "twos"), ("10", "twos")]);
    assert_eq!(dropped[6..], [("3", "threes"), ("9", "threes")]);
    assert_eq!(filtered.dropped[6].reason, "a multiple of 3");
}

#[tokio::test]
async fn without_filters_or_samples_nothing_changes() {
    assert_eq!(apply_filters(&[], samples(3), 0).await.expect("no filters").kept.len(), 3);
    assert!(apply_filters(&[&every("twos", 2)], Vec::new(), 4).await.expect("no samples").kept.is_empty());
}

#[tokio::test]
async fn a_failing_filter_drops_nobody() {
    for (answers, word) in [(0, "the plugin trapped"), (2, "2 decisions came back for 4 samples")] {
        let broken = Every { name: "broken", drop: 100, answers };
        let error = apply_filters(&[&broken], samples(7), 4).await.expect_err("a broken filter");
        assert!(matches!(error, Error::Filter { .. }));
        let message = error.to_string();
        assert!(message.contains("`broken`") && message.contains("samples 0 to 3") && message.contains(word), "{message}");
    }
}

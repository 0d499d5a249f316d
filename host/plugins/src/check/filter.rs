//! What filters must keep.

use super::Checker;
use super::battery;
use crate::FilterPlugin;
use crate::types::{Decision, FilterInput};

impl Checker {
    pub(super) async fn filter(&mut self, filter: &FilterPlugin) {
        let place = format!("{}: `describe`", self.folder.display());
        let tags = &filter.spec().tags;
        if let Some(tag) = tags.iter().enumerate().find_map(|(i, tag)| (tag.trim().is_empty() || tags[..i].contains(tag)).then_some(tag)) {
            self.error(
                "description",
                place,
                format!("the tag {tag:?} is blank or named twice"),
                "reports group samples by tag",
                "name each tag once",
            );
        }
        let samples = battery::samples();
        let mut singles = Vec::new();
        for (name, sample) in &samples {
            match filter.filter(std::slice::from_ref(sample)).await {
                Err(error) => self.failed("filter", name, &error),
                Ok((decisions, cost)) => {
                    self.spent(cost);
                    self.decision(filter, name, &decisions[0]);
                    singles.push((name, sample, decisions[0].clone()));
                }
            }
        }
        self.batches(filter, &singles).await;
    }

    fn decision(&mut self, filter: &FilterPlugin, name: &str, decision: &Decision) {
        match decision {
            Decision::Keep(tags) => {
                if let Some(tag) = tags.iter().find(|tag| !filter.spec().tags.contains(tag)) {
                    self.error(
                        "tags",
                        self.at("filter", name),
                        format!("the tag {tag:?} is not among those that the filter describes: {:?}", filter.spec().tags),
                        "reports and configurations go by the description",
                        "name every tag in `describe`",
                    );
                }
            }
            Decision::Drop(reason) if reason.trim().is_empty() => self.warning(
                "reason",
                self.at("filter", name),
                "a sample is dropped without a reason",
                "people who miss samples cannot tell why",
                "say which property of the sample decided",
            ),
            Decision::Drop(_) => {}
        }
    }

    /// Decisions must not depend on the batch.
    async fn batches(&mut self, filter: &FilterPlugin, singles: &[(&String, &FilterInput, Decision)]) {
        let batch: Vec<FilterInput> = singles.iter().map(|(_, sample, _)| (*sample).clone()).collect();
        let backwards: Vec<FilterInput> = batch.iter().rev().cloned().collect();
        let (forth, back) = match (filter.filter(&batch).await, filter.filter(&backwards).await) {
            (Ok((forth, cost)), Ok((back, _))) => {
                self.spent(cost);
                (forth, back)
            }
            (Err(error), _) | (_, Err(error)) => return self.failed("filter", "every sample of the battery in one batch", &error),
        };
        let same = |decisions: &mut dyn Iterator<Item = &Decision>| {
            singles.iter().zip(decisions).find(|((.., single), other)| single != *other).map(|((name, ..), _)| (*name).clone())
        };
        if let Some(name) = same(&mut forth.iter()).or_else(|| same(&mut back.iter().rev())) {
            self.error(
                "batch",
                self.at("filter", &name),
                "alone and in a batch, the sample is decided on differently",
                "the host cuts data sets into batches as it likes",
                "decide on each sample by itself",
            );
        }
    }
}

//! The filter pipeline: dataset-filter plugins over samples, in batches.

use mmhost_corpus::media_type;
use mmhost_plugins::{Decision, FilterInput, FilterPlugin, ImageBytes};

use crate::error::{Error, Result};
use crate::sample::Sample;

/// Decides which samples stay. [`FilterPlugin`] is one; tests bring their own.
#[async_trait::async_trait]
pub trait SampleFilter: Send + Sync {
    /// Name, for reports.
    fn name(&self) -> &str;
    /// One decision per sample, in order.
    async fn decide(&self, samples: &[FilterInput]) -> std::result::Result<Vec<Decision>, String>;
}

#[async_trait::async_trait]
impl SampleFilter for FilterPlugin {
    fn name(&self) -> &str {
        FilterPlugin::name(self)
    }
    async fn decide(&self, samples: &[FilterInput]) -> std::result::Result<Vec<Decision>, String> {
        self.filter(samples).await.map(|(decisions, _)| decisions).map_err(|e| e.to_string())
    }
}

/// A sample that a filter dropped.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// The sample.
    pub sample: Sample,
    /// Name of the filter.
    pub filter: String,
    /// Its reason.
    pub reason: String,
}

/// What filters made of a data set.
#[derive(Debug, Clone, Default)]
pub struct Filtered {
    /// Samples that every filter kept, in order, with the filters' tags.
    pub kept: Vec<Sample>,
    /// The others, each with the first filter that dropped it.
    pub dropped: Vec<Dropped>,
}

/// Passes samples through `filters` in order, `batch` samples a call; a later filter sees only what the earlier ones kept.
///
/// # Errors
/// A filter that fails, or that does not decide on each sample. No sample is dropped because a filter failed.
pub async fn apply_filters(filters: &[&dyn SampleFilter], samples: Vec<Sample>, batch: usize) -> Result<Filtered> {
    let mut filtered = Filtered { kept: samples, dropped: Vec::new() };
    for filter in filters {
        let mut kept = Vec::with_capacity(filtered.kept.len());
        let mut rest = std::mem::take(&mut filtered.kept).into_iter().peekable();
        while rest.peek().is_some() {
            let chunk: Vec<Sample> = rest.by_ref().take(batch.max(1)).collect();
            let decisions = decide(*filter, &chunk).await?;
            for (mut sample, decision) in chunk.into_iter().zip(decisions) {
                match decision {
                    Decision::Keep(tags) => {
                        sample.tags.extend(tags);
                        kept.push(sample);
                    }
                    Decision::Drop(reason) => filtered.dropped.push(Dropped { sample, filter: filter.name().to_owned(), reason }),
                }
            }
        }
        filtered.kept = kept;
    }
    Ok(filtered)
}

async fn decide(filter: &dyn SampleFilter, chunk: &[Sample]) -> Result<Vec<Decision>> {
    let inputs: Vec<FilterInput> = chunk.iter().map(input).collect();
    let failed = |problem| Error::Filter {
        filter: filter.name().to_owned(),
        first: chunk.first().map(|s| s.id.clone()).unwrap_or_default(),
        last: chunk.last().map(|s| s.id.clone()).unwrap_or_default(),
        problem,
    };
    let decisions = filter.decide(&inputs).await.map_err(failed)?;
    if decisions.len() != chunk.len() {
        return Err(failed(format!(
            "{} decisions came back for {} samples; a filter answers once per sample, in order",
            decisions.len(),
            chunk.len()
        )));
    }
    Ok(decisions)
}

fn input(sample: &Sample) -> FilterInput {
    FilterInput {
        id: sample.id.clone(),
        question: sample.question.clone(),
        ground_truth: sample.ground_truth.clone(),
        candidate_answers: sample.candidate_answers.clone(),
        data_source: sample.data_source.clone(),
        images: sample.images.iter().map(|i| ImageBytes { media_type: media_type(&i.bytes).to_owned(), bytes: i.bytes.clone() }).collect(),
    }
}

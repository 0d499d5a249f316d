//! Dataset filters.

use crate::bindings::exports::filtering as contract;
use crate::bindings::filter::DatasetFilterPre;
use crate::doors::CallState;
use crate::ledger::OnFailure;
use crate::runtime::Runtime;
use crate::types::{CallCost, Decision, FilterInput, FilterSpec};
use crate::{PluginInfo, Result};
use std::sync::Arc;
use tokio::time::timeout;
use wasmtime::component::InstancePre;

/// Samples of one call; data sets are cut into batches of this size.
const BATCH: usize = 256;

/// A loaded filter.
#[derive(Clone)]
pub struct FilterPlugin {
    runtime: Arc<Runtime>,
    info: Arc<PluginInfo>,
    spec: Arc<FilterSpec>,
    guest: DatasetFilterPre<CallState>,
}

impl FilterPlugin {
    /// Asks the component for its self-description and checks it.
    pub(crate) async fn load(runtime: Arc<Runtime>, info: Arc<PluginInfo>, instance: InstancePre<CallState>) -> Result<Self> {
        let guest = DatasetFilterPre::new(instance).map_err(|error| info.bad(format!("{error:#}"), "the world `dataset-filter`"))?;
        let (spec, _) = describe(&runtime, &info, &guest).await?;
        Ok(FilterPlugin { runtime, info, spec: Arc::new(spec), guest })
    }

    /// Asks the component once more for its self-description.
    ///
    /// # Errors
    /// What the plugin reports; else the limit or the rule of the contract that it broke.
    pub async fn describe(&self) -> Result<(FilterSpec, CallCost)> {
        describe(&self.runtime, &self.info, &self.guest).await
    }

    /// Plugin name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its self-description.
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    /// Makes an instance and drops it.
    pub(crate) async fn instantiate(&self) -> Result<()> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), self.guest.instantiate_async(&mut call.store)).await;
        call.settle(outcome).map(drop)
    }

    /// Name, digest, configuration, grants and limits.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Digest of the component, hex SHA-256.
    pub fn digest(&self) -> &str {
        &self.info.digest
    }

    /// Decides on samples, in batches: one decision per sample, in order.
    ///
    /// # Errors
    /// What the plugin reports for a whole batch; else the limit or the rule of the contract that it broke. Where its
    /// [`Policy`](crate::ledger::Policy) says so, the batch is kept or dropped instead.
    pub async fn filter(&self, samples: &[FilterInput]) -> Result<(Vec<Decision>, CallCost)> {
        let mut decisions = Vec::with_capacity(samples.len());
        let mut total = CallCost::default();
        for batch in samples.chunks(BATCH) {
            let account = &self.info.account;
            let failed = match account.run(|| self.filter_batch(batch)).await {
                Ok((decided, cost)) => {
                    decisions.extend(decided);
                    total.add(cost);
                    continue;
                }
                Err(error) => error,
            };
            let decision = match account.on_failure() {
                OnFailure::Keep => Decision::Keep(Vec::new()),
                OnFailure::Drop => Decision::Drop(format!("the filter failed: {failed}")),
                _ => return Err(failed),
            };
            tracing::warn!(target: "plugin", "{failed}; its {} samples follow `on_failure = \"{}\"`", batch.len(), account.on_failure());
            decisions.extend(std::iter::repeat_n(decision, batch.len()));
        }
        Ok((decisions, total))
    }

    async fn filter_batch(&self, batch: &[FilterInput]) -> Result<(Vec<Decision>, CallCost)> {
        let handles = batch.iter().map(|sample| sample.images.len()).sum();
        let mut call = self.runtime.open(&self.info, handles).await?;
        let outcome = timeout(call.limit(), async {
            let lent = batch.iter().map(|input| sample(call.store.data_mut(), input));
            let samples = lent.collect::<wasmtime::Result<Vec<_>>>()?;
            let instance = self.guest.instantiate_async(&mut call.store).await?;
            instance.mmhost_plugin0_1_0_filtering().call_filter(&mut call.store, &samples).await
        })
        .await;
        let answer = call.settle(outcome)?.map_err(|error| match error {
            contract::FilterError::Config(fault) => self.info.refused(fault),
            contract::FilterError::Internal(what) => self.info.internal(what),
        })?;
        if answer.len() != batch.len() {
            return Err(self.info.bad(format!("{} decisions", answer.len()), format!("{}, one for each sample", batch.len())));
        }
        let decision = |decision| match decision {
            contract::Decision::Keep(tags) => Decision::Keep(tags),
            contract::Decision::Drop(reason) => Decision::Drop(reason),
        };
        Ok((answer.into_iter().map(decision).collect(), call.cost()))
    }
}

async fn describe(runtime: &Runtime, info: &Arc<PluginInfo>, guest: &DatasetFilterPre<CallState>) -> Result<(FilterSpec, CallCost)> {
    let mut call = runtime.open_description(info).await?;
    let outcome = timeout(call.limit(), async {
        let instance = guest.instantiate_async(&mut call.store).await?;
        instance.mmhost_plugin0_1_0_filtering().call_describe(&mut call.store).await
    })
    .await;
    let description = call.settle(outcome)?.map_err(|error| info.refused(error))?;
    info.line("the summary", &description.summary)?;
    Ok((FilterSpec { summary: description.summary, tags: description.tags }, call.cost()))
}

fn sample(state: &mut CallState, input: &FilterInput) -> wasmtime::Result<contract::Sample> {
    Ok(contract::Sample {
        id: input.id.clone(),
        question: input.question.clone(),
        ground_truth: input.ground_truth.clone(),
        candidate_answers: input.candidate_answers.clone(),
        data_source: input.data_source.clone(),
        images: input.images.iter().map(|image| state.lend(image)).collect::<wasmtime::Result<_>>()?,
    })
}

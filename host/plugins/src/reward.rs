//! Rewards.

use crate::bindings::reward::RewardPre;
use crate::bindings::reward::exports::mmhost::plugin::scoring as contract;
use crate::bindings::tool::mmhost::plugin::types;
use crate::doors::CallState;
use crate::runtime::Runtime;
use crate::types::{CallCost, RewardInput, RewardSpec, Verdict};
use crate::{PluginInfo, Result};
use std::sync::Arc;
use tokio::time::timeout;
use wasmtime::component::InstancePre;

/// Most episodes of one call; a larger batch is cut. Verdicts do not depend on how.
const MAX_BATCH: usize = 1024;

/// A loaded reward.
#[derive(Clone)]
pub struct RewardPlugin {
    runtime: Arc<Runtime>,
    info: Arc<PluginInfo>,
    spec: Arc<RewardSpec>,
    guest: RewardPre<CallState>,
}

impl RewardPlugin {
    /// Asks the component for its self-description and checks it.
    pub(crate) async fn load(runtime: Arc<Runtime>, info: Arc<PluginInfo>, instance: InstancePre<CallState>) -> Result<Self> {
        let guest = RewardPre::new(instance).map_err(|error| info.bad(format!("{error:#}"), "the world `reward`"))?;
        let mut call = runtime.open_description(&info).await?;
        let outcome = timeout(call.limit(), async {
            let instance = guest.instantiate_async(&mut call.store).await?;
            instance.mmhost_plugin_scoring().call_describe(&mut call.store).await
        })
        .await;
        let description = call.settle(outcome)?.map_err(|error| info.refused(error))?;
        drop(call);
        let contract::Description { summary, lowest, highest, components } = description;
        info.line("the summary", &summary)?;
        if !(lowest.is_finite() && highest.is_finite() && lowest <= highest) {
            return Err(info.bad(format!("totals from {lowest} to {highest}"), "a finite range"));
        }
        let spec = Arc::new(RewardSpec { summary, lowest, highest, components });
        Ok(RewardPlugin { runtime, info, spec, guest })
    }

    /// Plugin name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its self-description.
    pub fn spec(&self) -> &RewardSpec {
        &self.spec
    }

    /// Name, digest, configuration, grants and limits.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Digest of the component, hex SHA-256.
    pub fn digest(&self) -> &str {
        &self.info.digest
    }

    /// Scores a batch in one call (in several beyond 1024 episodes): one verdict per episode, in order. A total or component that
    /// is not finite becomes an abstention.
    ///
    /// # Errors
    /// What the plugin reports for the whole batch; else the limit or the rule of the contract that it broke.
    pub async fn score(&self, episodes: &[RewardInput]) -> Result<(Vec<Verdict>, CallCost)> {
        let mut verdicts = Vec::with_capacity(episodes.len());
        let mut total = CallCost::default();
        for batch in episodes.chunks(MAX_BATCH) {
            let (scored, cost) = self.score_batch(batch).await?;
            verdicts.extend(scored);
            total.elapsed_ms += cost.elapsed_ms;
            total.memory_bytes = total.memory_bytes.max(cost.memory_bytes);
        }
        Ok((verdicts, total))
    }

    async fn score_batch(&self, batch: &[RewardInput]) -> Result<(Vec<Verdict>, CallCost)> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), async {
            let episodes: Vec<contract::Episode> = batch.iter().map(episode).collect();
            let instance = self.guest.instantiate_async(&mut call.store).await?;
            instance.mmhost_plugin_scoring().call_score(&mut call.store, &episodes).await
        })
        .await;
        let answer = call.settle(outcome)?.map_err(|error| match error {
            contract::RewardError::Config(fault) => self.info.refused(fault),
            contract::RewardError::Internal(what) => self.info.internal(what),
        })?;
        if answer.len() != batch.len() {
            return Err(self.info.bad(format!("{} verdicts", answer.len()), format!("{}, one for each episode", batch.len())));
        }
        let verdicts = answer.into_iter().map(verdict).collect();
        Ok((verdicts, call.cost()))
    }
}

fn episode(input: &RewardInput) -> contract::Episode {
    let call = |call: &crate::types::CallView| types::CallView { tool: call.tool.clone(), argument: call.argument.clone(), ok: call.ok };
    contract::Episode {
        id: input.id.clone(),
        question: input.question.clone(),
        ground_truth: input.ground_truth.clone(),
        candidate_answers: input.candidate_answers.clone(),
        turns: input.turns.clone(),
        calls: input.calls.iter().map(call).collect(),
        ending: input.ending.clone(),
    }
}

/// A reward of NaN or infinity would poison a whole group's advantages, so it counts as none.
fn verdict(verdict: contract::Verdict) -> Verdict {
    let rating = match verdict {
        contract::Verdict::Scored(rating) => rating,
        contract::Verdict::Abstained(reason) => return Verdict::Abstained(reason),
    };
    let components: Vec<(String, f64)> = rating.components.into_iter().map(|component| (component.name, component.value)).collect();
    if !rating.total.is_finite() {
        return Verdict::Abstained(format!("the plugin's total is {}", rating.total));
    }
    if let Some((name, value)) = components.iter().find(|(_, value)| !value.is_finite()) {
        return Verdict::Abstained(format!("the plugin's component {name} is {value}"));
    }
    Verdict::Scored { total: rating.total, components }
}

//! Rewards.

use crate::doors::CallState;
use crate::ledger::OnFailure;
use crate::runtime::Runtime;
use crate::scoring::{Fault, Guest};
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
    guest: Guest,
}

impl RewardPlugin {
    /// Asks the component for its self-description and checks it. `is_0_1` tells which version of its interface it exports.
    pub(crate) async fn load(runtime: Arc<Runtime>, info: Arc<PluginInfo>, instance: InstancePre<CallState>, is_0_1: bool) -> Result<Self> {
        let guest = Guest::new(instance, is_0_1).map_err(|error| info.bad(format!("{error:#}"), "the world `reward`"))?;
        let (spec, _) = describe(&runtime, &info, &guest).await?;
        Ok(RewardPlugin { runtime, info, spec: Arc::new(spec), guest })
    }

    /// Asks the component once more for its self-description.
    ///
    /// # Errors
    /// What the plugin reports; else the limit or the rule of the contract that it broke.
    pub async fn describe(&self) -> Result<(RewardSpec, CallCost)> {
        describe(&self.runtime, &self.info, &self.guest).await
    }

    /// Plugin name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its self-description.
    pub fn spec(&self) -> &RewardSpec {
        &self.spec
    }

    /// Makes an instance and drops it.
    pub(crate) async fn instantiate(&self) -> Result<()> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), self.guest.instantiate(&mut call.store)).await;
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

    /// Scores a batch in one call (in several beyond 1024 episodes): one verdict per episode, in order. A total or component that
    /// is not finite becomes an abstention.
    ///
    /// # Errors
    /// What the plugin reports for the whole batch; else the limit or the rule of the contract that it broke.
    pub async fn score(&self, episodes: &[RewardInput]) -> Result<(Vec<Verdict>, CallCost)> {
        let mut verdicts = Vec::with_capacity(episodes.len());
        let mut total = CallCost::default();
        for batch in episodes.chunks(MAX_BATCH) {
            let (scored, cost) = self.info.account.run(|| self.score_batch(batch)).await?;
            verdicts.extend(scored);
            total.add(cost);
        }
        Ok((verdicts, total))
    }

    /// What follows when it fails.
    pub fn on_failure(&self) -> OnFailure {
        self.info.account.on_failure()
    }

    /// The verdicts on several batches, one after the other in the same instance, as no run calls it.
    pub(crate) async fn score_in_one_instance(&self, batches: &[&[RewardInput]]) -> Result<Vec<Vec<Verdict>>> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), async {
            let instance = self.guest.instantiate(&mut call.store).await?;
            let mut verdicts = Vec::with_capacity(batches.len());
            for batch in batches {
                verdicts.push(instance.score(&mut call.store, batch).await?);
            }
            Ok(verdicts)
        })
        .await;
        call.settle(outcome)?.into_iter().map(|answer| self.taken(answer)).collect()
    }

    fn taken(&self, answer: std::result::Result<Vec<Verdict>, Fault>) -> Result<Vec<Verdict>> {
        let verdicts = answer.map_err(|error| match error {
            Fault::Config(fault) => self.info.refused(fault),
            Fault::Internal(what) => self.info.internal(what),
        })?;
        Ok(verdicts.into_iter().map(finite).collect())
    }

    async fn score_batch(&self, batch: &[RewardInput]) -> Result<(Vec<Verdict>, CallCost)> {
        let mut call = self.runtime.open(&self.info, 0).await?;
        let outcome = timeout(call.limit(), async {
            let instance = self.guest.instantiate(&mut call.store).await?;
            instance.score(&mut call.store, batch).await
        })
        .await;
        let answer = call.settle(outcome)?;
        let verdicts = self.taken(answer)?;
        if verdicts.len() != batch.len() {
            return Err(self.info.bad(format!("{} verdicts", verdicts.len()), format!("{}, one for each episode", batch.len())));
        }
        Ok((verdicts, call.cost()))
    }
}

async fn describe(runtime: &Runtime, info: &Arc<PluginInfo>, guest: &Guest) -> Result<(RewardSpec, CallCost)> {
    let mut call = runtime.open_description(info).await?;
    let outcome = timeout(call.limit(), async { guest.instantiate(&mut call.store).await?.describe(&mut call.store).await }).await;
    let spec = call.settle(outcome)?.map_err(|error| info.refused(error))?;
    info.line("the summary", &spec.summary)?;
    let (lowest, highest) = (spec.lowest, spec.highest);
    if !(lowest.is_finite() && highest.is_finite() && lowest <= highest) {
        return Err(info.bad(format!("totals from {lowest} to {highest}"), "a finite range"));
    }
    Ok((spec, call.cost()))
}

/// How the host's own reason for an abstention begins.
const NOT_FINITE: &str = "the plugin's ";

/// Whether the host took a rating for an abstention because it was not finite.
pub(crate) fn is_not_finite(reason: &str) -> bool {
    reason.starts_with(NOT_FINITE)
}

/// A reward of NaN or infinity would poison a whole group's advantages, so it counts as none.
fn finite(verdict: Verdict) -> Verdict {
    let Verdict::Scored { total, components } = &verdict else { return verdict };
    if !total.is_finite() {
        return Verdict::Abstained(format!("{NOT_FINITE}total is {total}"));
    }
    match components.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Verdict::Abstained(format!("{NOT_FINITE}component {name} is {value}")),
        None => verdict,
    }
}

//! The interface `scoring` in both of its versions, in the host's terms.

use crate::bindings::imports::types;
use crate::bindings::{reward, reward_0_1};
use crate::doors::CallState;
use crate::types::{CallView, RewardInput, RewardSpec, Verdict};
use wasmtime::Store;
use wasmtime::component::InstancePre;

/// A reward's component.
#[derive(Clone)]
pub(crate) enum Guest {
    V0_1(reward_0_1::RewardPre<CallState>),
    V0_2(reward::RewardPre<CallState>),
}

/// A fresh instance of it.
pub(crate) enum Instance {
    V0_1(reward_0_1::Reward),
    V0_2(reward::Reward),
}

/// Why a whole batch was not scored.
pub(crate) enum Fault {
    Config(types::ConfigError),
    Internal(String),
}

impl Guest {
    /// Finds the functions of the version that the component exports.
    pub fn new(instance: InstancePre<CallState>, is_0_1: bool) -> wasmtime::Result<Self> {
        Ok(match is_0_1 {
            true => Guest::V0_1(reward_0_1::RewardPre::new(instance)?),
            false => Guest::V0_2(reward::RewardPre::new(instance)?),
        })
    }

    pub async fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Instance> {
        Ok(match self {
            Guest::V0_1(guest) => Instance::V0_1(guest.instantiate_async(store).await?),
            Guest::V0_2(guest) => Instance::V0_2(guest.instantiate_async(store).await?),
        })
    }
}

impl Instance {
    pub async fn describe(&self, store: &mut Store<CallState>) -> wasmtime::Result<Result<RewardSpec, types::ConfigError>> {
        Ok(match self {
            Instance::V0_1(instance) => instance.mmhost_plugin_scoring().call_describe(store).await?.map(v0_1::description),
            Instance::V0_2(instance) => instance.mmhost_plugin0_2_0_scoring().call_describe(store).await?.map(v0_2::description),
        })
    }

    pub async fn score(&self, store: &mut Store<CallState>, batch: &[RewardInput]) -> wasmtime::Result<Result<Vec<Verdict>, Fault>> {
        Ok(match self {
            Instance::V0_1(instance) => v0_1::answer(instance.mmhost_plugin_scoring().call_score(store, &v0_1::episodes(batch)).await?),
            Instance::V0_2(instance) => {
                v0_2::answer(instance.mmhost_plugin0_2_0_scoring().call_score(store, &v0_2::episodes(batch)).await?)
            }
        })
    }
}

/// The conversions of a version, which differ in nothing but what a reward is told of a call.
macro_rules! conversions {
    ($version:ident, $contract:ident, $call:expr) => {
        mod $version {
            use super::*;
            use crate::bindings::exports::$contract as contract;

            pub fn description(description: contract::Description) -> RewardSpec {
                let contract::Description { summary, lowest, highest, components } = description;
                RewardSpec { summary, lowest, highest, components }
            }

            pub fn episodes(batch: &[RewardInput]) -> Vec<contract::Episode> {
                batch.iter().map(episode).collect()
            }

            fn episode(input: &RewardInput) -> contract::Episode {
                contract::Episode {
                    id: input.id.clone(),
                    question: input.question.clone(),
                    ground_truth: input.ground_truth.clone(),
                    candidate_answers: input.candidate_answers.clone(),
                    turns: input.turns.clone(),
                    calls: input.calls.iter().map($call).collect(),
                    ending: input.ending.clone(),
                }
            }

            pub fn answer(answer: Result<Vec<contract::Verdict>, contract::RewardError>) -> Result<Vec<Verdict>, Fault> {
                answer.map(|verdicts| verdicts.into_iter().map(verdict).collect()).map_err(|error| match error {
                    contract::RewardError::Config(fault) => Fault::Config(fault),
                    contract::RewardError::Internal(what) => Fault::Internal(what),
                })
            }

            fn verdict(verdict: contract::Verdict) -> Verdict {
                match verdict {
                    contract::Verdict::Abstained(reason) => Verdict::Abstained(reason),
                    contract::Verdict::Scored(contract::Rating { total, components }) => {
                        Verdict::Scored { total, components: components.into_iter().map(|part| (part.name, part.value)).collect() }
                    }
                }
            }
        }
    };
}

conversions!(v0_1, scoring_0_1, |CallView { tool, argument, ok, answer: _ }| types::CallView {
    tool: tool.clone(),
    argument: argument.clone(),
    ok: *ok
});
conversions!(v0_2, scoring, |CallView { tool, argument, ok, answer }| crate::bindings::exports::scoring::Call {
    tool: tool.clone(),
    argument: argument.clone(),
    ok: *ok,
    answer: answer.clone()
});

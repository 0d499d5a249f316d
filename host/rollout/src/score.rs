//! Scoring: a reward's verdict on each episode, or its abstention. A failing reward is never a reward of 0.

use crate::Episode;
use mmhost_plugins::ledger::OnFailure;
use mmhost_plugins::{PluginError, RewardInput, RewardPlugin, Verdict};
use std::collections::BTreeMap;

/// Episodes per call of the reward.
pub const SCORE_CHUNK: usize = 64;

/// Rewards as the scoring uses them.
#[async_trait::async_trait]
pub trait Reward: Send + Sync {
    /// One verdict per episode, in order.
    async fn verdicts(&self, episodes: &[RewardInput]) -> Result<Vec<Verdict>, PluginError>;
    /// Whether a failure masks the whole groups of its episodes.
    fn drops_groups(&self) -> bool {
        false
    }
}

#[async_trait::async_trait]
impl Reward for RewardPlugin {
    async fn verdicts(&self, episodes: &[RewardInput]) -> Result<Vec<Verdict>, PluginError> {
        let (verdicts, _cost) = self.score(episodes).await?;
        Ok(verdicts)
    }

    fn drops_groups(&self) -> bool {
        self.on_failure() == OnFailure::DropGroup
    }
}

/// Scores episodes in batches of [`SCORE_CHUNK`], filling `reward`; a failed reward leaves `Verdict::Abstained` with the reason, in
/// the whole groups of the batch where its policy says so.
/// Fresh and stored episodes are scored alike.
pub async fn score<R: Reward + ?Sized>(reward: &R, episodes: &mut [&mut Episode]) {
    let inputs: Vec<RewardInput> = episodes.iter().map(|episode| episode.reward_input()).collect();
    let answers = futures::future::join_all(inputs.chunks(SCORE_CHUNK).map(|chunk| reward.verdicts(chunk))).await;
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    for (chunk, answer) in episodes.chunks_mut(SCORE_CHUNK).zip(answers) {
        let reason = match answer {
            Ok(verdicts) if verdicts.len() == chunk.len() => {
                for (episode, verdict) in chunk.iter_mut().zip(verdicts) {
                    episode.reward = Some(checked(verdict));
                }
                continue;
            }
            Ok(verdicts) => format!("{} verdicts for {} episodes", verdicts.len(), chunk.len()),
            Err(error) => error.to_string(),
        };
        tracing::warn!(%reason, episodes = chunk.len(), "the reward failed; its episodes are masked");
        for episode in chunk {
            failed.entry(episode.group().to_owned()).or_insert_with(|| reason.clone());
            episode.reward = Some(Verdict::Abstained(reason.clone()));
        }
    }
    if reward.drops_groups() {
        for episode in episodes.iter_mut() {
            if let Some(reason) = failed.get(episode.group()) {
                episode.reward = Some(Verdict::Abstained(reason.clone()));
            }
        }
    }
}

/// A reward that is no number is no reward.
fn checked(verdict: Verdict) -> Verdict {
    let finite = match &verdict {
        Verdict::Scored { total, components } => total.is_finite() && components.iter().all(|(_, value)| value.is_finite()),
        Verdict::Abstained(_) => true,
    };
    if finite { verdict } else { Verdict::Abstained("the reward is not a finite number".into()) }
}

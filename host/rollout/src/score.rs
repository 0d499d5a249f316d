//! Scoring: a reward's verdict on each episode, or its abstention. A failing reward is never a reward of 0.

use crate::Episode;
use mmhost_plugins::{PluginError, RewardInput, RewardPlugin, Verdict};

/// Episodes per call of the reward.
pub const SCORE_CHUNK: usize = 64;

/// Rewards as the scoring uses them.
#[async_trait::async_trait]
pub trait Reward: Send + Sync {
    /// One verdict per episode, in order.
    async fn verdicts(&self, episodes: &[RewardInput]) -> Result<Vec<Verdict>, PluginError>;
}

#[async_trait::async_trait]
impl Reward for RewardPlugin {
    async fn verdicts(&self, episodes: &[RewardInput]) -> Result<Vec<Verdict>, PluginError> {
        let (verdicts, _cost) = self.score(episodes).await?;
        Ok(verdicts)
    }
}

/// Scores episodes in batches of [`SCORE_CHUNK`], filling `reward`; a failed reward leaves `Verdict::Abstained` with the reason.
/// Fresh and stored episodes are scored alike.
pub async fn score<R: Reward + ?Sized>(reward: &R, episodes: &mut [&mut Episode]) {
    let inputs: Vec<RewardInput> = episodes.iter().map(|episode| episode.reward_input()).collect();
    let batches = futures::future::join_all(inputs.chunks(SCORE_CHUNK).map(async |chunk| match reward.verdicts(chunk).await {
        Ok(verdicts) if verdicts.len() == chunk.len() => verdicts.into_iter().map(checked).collect(),
        Ok(verdicts) => {
            let reason = format!("{} verdicts for {} episodes", verdicts.len(), chunk.len());
            tracing::warn!(%reason, "the reward's answer cannot be used");
            vec![Verdict::Abstained(reason); chunk.len()]
        }
        Err(error) => {
            tracing::warn!(%error, episodes = chunk.len(), "the reward failed; its episodes are masked");
            vec![Verdict::Abstained(error.to_string()); chunk.len()]
        }
    }))
    .await;
    let verdicts: Vec<Verdict> = batches.into_iter().flatten().collect();
    for (episode, verdict) in episodes.iter_mut().zip(verdicts) {
        episode.reward = Some(verdict);
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

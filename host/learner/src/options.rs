//! Settings of the learner and their ranges.

use crate::{Error, Result, Schedule};
use serde::{Deserialize, Serialize};

/// GRPO settings (arXiv 2402.03300; the defaults are those of MMSearch-R1, arXiv 2506.20670).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoOptions {
    /// Clipping range ε of the probability ratio, above 0 and below 1.
    pub clip: f32,
    /// Weight β of the k3 KL to the reference; 0 switches it off (no reference forward).
    pub kl: f32,
    /// `token` (mean over all tokens) or `sequence` (mean per sequence, then over sequences).
    pub normalisation: Normalisation,
    /// Updates per batch of rollouts; every update sees the whole batch.
    pub updates_per_batch: usize,
    /// Sampling temperature of the rollouts; log-probabilities are taken at the same temperature.
    pub temperature: f32,
    /// Keep groups whose advantages are all zero in the batch, where only the KL term acts on them: they then count in the
    /// loss's mean with a policy term of 0, and hold the policy to the reference where it has nothing left to learn.
    /// Without it such groups leave the batch altogether. No effect when `kl` is 0.
    pub kl_on_skipped: bool,
    /// Largest difference allowed between a sampled token's log-probability in the rollout and in the learner, in nats.
    pub max_logprob_diff: f64,
    /// Stop with [`Error::LogprobDifference`] when that difference is exceeded; otherwise it is only logged and reported.
    pub stop_on_logprob_diff: bool,
}

impl Default for GrpoOptions {
    fn default() -> Self {
        Self {
            clip: 0.2,
            kl: 0.001,
            normalisation: Normalisation::Token,
            updates_per_batch: 1,
            temperature: 1.0,
            kl_on_skipped: false,
            max_logprob_diff: 1e-3,
            stop_on_logprob_diff: true,
        }
    }
}

impl GrpoOptions {
    /// Refuses values out of range.
    pub fn validate(&self) -> Result<()> {
        check("clip", self.clip, self.clip > 0.0 && self.clip < 1.0, "above 0 and below 1")?;
        check("kl", self.kl, self.kl >= 0.0 && self.kl.is_finite(), "0 or a positive number")?;
        check("updates_per_batch", self.updates_per_batch, self.updates_per_batch > 0, "at least 1")?;
        check(
            "temperature",
            self.temperature,
            self.temperature > 0.0 && self.temperature.is_finite(),
            "above 0 (greedy rollouts cannot be trained on)",
        )?;
        check("max_logprob_diff", self.max_logprob_diff, self.max_logprob_diff > 0.0, "above 0")
    }
}

/// How the loss is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Mean over all tokens of the batch (as in the reference script).
    Token,
    /// Mean over each sequence's tokens, then over sequences (the paper's formula).
    Sequence,
}

/// Optimiser settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserOptions {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; norms and biases are exempt.
    pub weight_decay: f64,
    /// Global norm above which gradients are scaled down; 0 is off.
    pub max_grad_norm: f64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Steps in all, warm-up included; the decay ends there.
    pub total_steps: usize,
    /// Final learning rate as a share of the peak.
    pub final_share: f64,
}

impl Default for OptimiserOptions {
    fn default() -> Self {
        Self {
            learning_rate: 2e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            total_steps: 0,
            final_share: 0.0,
        }
    }
}

impl OptimiserOptions {
    /// Refuses values out of range.
    pub fn validate(&self) -> Result<()> {
        let positive = |value: f64| value >= 0.0 && value.is_finite();
        check("learning_rate", self.learning_rate, positive(self.learning_rate), "0 or a positive number")?;
        check("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "at least 0 and below 1")?;
        check("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "at least 0 and below 1")?;
        check("eps", self.eps, positive(self.eps) && self.eps > 0.0, "above 0")?;
        check("weight_decay", self.weight_decay, positive(self.weight_decay), "0 or a positive number")?;
        check("max_grad_norm", self.max_grad_norm, positive(self.max_grad_norm), "0 (off) or a positive number")?;
        check("final_share", self.final_share, (0.0..=1.0).contains(&self.final_share), "between 0 and 1")?;
        check(
            "total_steps",
            self.total_steps,
            self.schedule == Schedule::Constant || self.total_steps > self.warmup_steps,
            "above `warmup_steps` when the schedule decays",
        )
    }
}

fn check(field: &'static str, found: impl ToString, holds: bool, expected: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Option { field, found: found.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_survive_serialisation() {
        GrpoOptions::default().validate().unwrap();
        OptimiserOptions::default().validate().unwrap();
        let text = serde_json::to_string(&GrpoOptions::default()).unwrap();
        assert_eq!(serde_json::from_str::<GrpoOptions>(&text).unwrap(), GrpoOptions::default());
        assert!(serde_json::from_str::<GrpoOptions>(r#"{"clipp": 0.2}"#).is_err());
    }

    #[test]
    fn each_bad_value_is_named() {
        let bad = [
            GrpoOptions { clip: 0.0, ..Default::default() },
            GrpoOptions { kl: f32::NAN, ..Default::default() },
            GrpoOptions { updates_per_batch: 0, ..Default::default() },
            GrpoOptions { temperature: 0.0, ..Default::default() },
            GrpoOptions { max_logprob_diff: f64::NAN, ..Default::default() },
        ];
        let names = ["clip", "kl", "updates_per_batch", "temperature", "max_logprob_diff"];
        for (options, name) in bad.iter().zip(names) {
            assert!(options.validate().unwrap_err().to_string().contains(name));
        }
        let decaying = OptimiserOptions { schedule: Schedule::Cosine, ..Default::default() };
        assert!(decaying.validate().unwrap_err().to_string().contains("total_steps"));
        let wild = OptimiserOptions { beta2: 1.0, ..Default::default() };
        assert!(wild.validate().unwrap_err().to_string().contains("beta2"));
    }
}

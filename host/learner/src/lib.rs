//! The learner: advantages, GRPO and supervised losses, AdamW, schedules, checkpoints of the optimiser.
//!
//! It takes token sequences with a mask of what is trained, and knows nothing of tools or turns.

use mmhost_model::{Qwen2_5Vl, Segment, Weights};
use std::path::Path;

/// Error of this crate. TODO(learner): thiserror enum.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A supervised example: `mask[i]` says that token `i` is a target (predicted from the tokens before it).
#[derive(Debug, Clone)]
pub struct Example { /// tokens and images
    pub segment: Segment, /// `[T]`
    pub mask: Vec<bool> }

/// One episode as the learner sees it.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// All tokens of the episode and its images.
    pub segment: Segment,
    /// `[T]`, true exactly at the sampled tokens.
    pub mask: Vec<bool>,
    /// Rollout log-probability of each sampled token, in order (length = number of true in `mask`).
    pub logprobs: Vec<f32>,
    /// Reward; `None` masks the episode (a failed reward, an abstention).
    pub reward: Option<f64>,
    /// For messages: which episode.
    pub id: String,
}

/// Episodes of one sample that share a baseline.
pub type Group = Vec<Trajectory>;

/// GRPO settings (FACTS §1).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoOptions {
    /// Clipping range ε of the ratio.
    pub clip: f32,
    /// Weight β of the k3 KL to the reference; 0 switches it off (no reference forward).
    pub kl: f32,
    /// `token` (mean over all tokens) or `sequence` (mean per sequence, then over sequences).
    pub normalisation: Normalisation,
    /// Updates per batch of rollouts.
    pub updates_per_batch: usize,
    /// Sampling temperature of the rollouts.
    pub temperature: f32,
}
/// How the loss is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation { /// mean over tokens (the reference script)
    Token, /// mean per sequence, then over sequences (the paper's formula)
    Sequence }

/// Optimiser settings.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserOptions { /// peak learning rate
    pub learning_rate: f64, /// first moment decay
    pub beta1: f64, /// second moment decay
    pub beta2: f64, /// ε
    pub eps: f64, /// decoupled decay
    pub weight_decay: f64, /// global norm above which gradients are scaled down; 0 is off
    pub max_grad_norm: f64, /// schedule
    pub schedule: Schedule, /// steps of linear warm-up
    pub warmup_steps: usize, /// steps in all (for the decay)
    pub total_steps: usize, /// final learning rate as a share of the peak
    pub final_share: f64 }
/// Learning-rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule { /// constant
    Constant, /// linear decay
    Linear, /// cosine decay
    Cosine }

/// What one GRPO step measured.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct StepReport {
    /// Loss of the first update.
    pub loss: f64, /// k3 KL to the reference per token
    pub kl: f64, /// entropy per sampled token (nats)
    pub entropy: f64, /// share of tokens whose ratio was clipped
    pub clip_share: f64, /// global gradient norm before clipping
    pub grad_norm: f64, /// learning rate used
    pub learning_rate: f64, /// groups with zero variance, skipped
    pub groups_skipped: usize, /// episodes masked
    pub episodes_masked: usize, /// sampled tokens trained on
    pub tokens: usize, /// largest |rollout − learner| log-probability
    pub logprob_diff_max: f64, /// mean of the same
    pub logprob_diff_mean: f64 }

/// Trains one set of weights.
pub struct Learner {}
impl Learner {
    /// `workers` threads share each batch; micro-batches hold at most `token_budget` tokens.
    pub fn new(model: Qwen2_5Vl, weights: &Weights, optimiser: OptimiserOptions, workers: usize, token_budget: usize) -> Result<Self> { todo!() }
    /// One GRPO step; `reference` is needed when `kl > 0`.
    pub fn grpo_step(&mut self, groups: &[Group], options: &GrpoOptions, reference: Option<&Qwen2_5Vl>) -> Result<StepReport> { todo!() }
    /// One supervised step (mean over target tokens); returns the loss.
    pub fn sft_step(&mut self, batch: &[Example]) -> Result<f64> { todo!() }
    /// Steps taken.
    pub fn steps(&self) -> usize { todo!() }
    /// Writes optimiser state (`optimiser.safetensors`, `learner.json`) into `dir`.
    pub fn save(&self, dir: &Path) -> Result<()> { todo!() }
    /// Restores it.
    pub fn restore(&mut self, dir: &Path) -> Result<()> { todo!() }
}

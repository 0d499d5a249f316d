//! The learner: advantages, GRPO and supervised losses, AdamW, schedules, checkpoints of the optimiser.
//!
//! It takes token sequences with a mask of what is trained, and knows nothing of tools or turns.
//!
//! # The way of a step
//!
//! 1. Every sequence is checked ([`Violation`] lists the rules) and cut down to what its targets depend on.
//! 2. Sequences are packed into micro-batches by token budget, without padding, and shared over worker threads.
//! 3. A worker runs the network on a micro-batch and gets one log-probability per target. The loss and its derivative by each of these are
//!    closed formulas in `f64`; the backward pass starts from that derivative.
//! 4. Gradients are summed in `f32` in the order of the plan, so that no number depends on timing, nor, but for the
//!    rounding of another plan, on the number of workers.
//! 5. Loss and gradients are checked to be finite, clipped by global norm, and AdamW moves the weights in place: networks over the same
//!    [`Weights`](mmhost_model::Weights) see the update.

mod advantage;
mod batch;
mod checkpoint;
mod error;
mod gradients;
mod grpo;
mod invariants;
mod loss;
mod optimiser;
mod options;
mod schedule;
mod sft;
mod shard;
#[cfg(test)]
mod tests;

pub use advantage::{GroupAdvantages, group_advantages};
pub use error::{Error, Result, Violation};
pub use grpo::StepReport;
pub use options::{GrpoOptions, Normalisation, OptimiserOptions};
pub use schedule::{Schedule, learning_rate};

use batch::MicroBatch;
use candle_core::Tensor;
use gradients::Gradients;
use mmhost_model::{Qwen2_5Vl, Segment, Weights};
use optimiser::AdamW;
use shard::Workers;
use std::path::Path;

/// A supervised example: `mask[i]` says that token `i` is a target (predicted from the tokens before it).
#[derive(Debug, Clone)]
pub struct Example {
    /// Tokens and images.
    pub segment: Segment,
    /// `[T]`, false at the first token and at image tokens.
    pub mask: Vec<bool>,
}

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

/// Trains one set of weights.
pub struct Learner {
    model: Qwen2_5Vl,
    optimiser: AdamW,
    gradients: Gradients,
    workers: Workers,
    token_budget: usize,
    steps: usize,
}

impl Learner {
    /// `workers` threads share each batch; micro-batches hold at most `token_budget` tokens, unless a single sequence is longer.
    ///
    /// `model` is [`Qwen2_5Vl::new`] over `weights`, which are trained in place. Memory grows with `workers · token_budget`; every
    /// micro-batch costs one pass over all gradients, so a few thousand tokens are better than a few hundred.
    ///
    /// On a CPU, set `CANDLE_NUM_THREADS=1` before the process first uses candle: its sums of gradients otherwise wake a
    /// pool of threads that wait by spinning, which takes a third of a small model's step from the workers.
    pub fn new(model: Qwen2_5Vl, weights: &Weights, optimiser: OptimiserOptions, workers: usize, token_budget: usize) -> Result<Self> {
        optimiser.validate()?;
        for (field, value) in [("workers", workers), ("token_budget", token_budget)] {
            if value == 0 {
                return Err(Error::Option { field, found: "0".into(), expected: "at least 1" });
            }
        }
        let optimiser = AdamW::new(weights.vars(), optimiser)?;
        let gradients = Gradients::new(optimiser.vars().map(|var| var.elem_count()));
        Ok(Self { model, optimiser, gradients, workers: Workers::new(workers)?, token_budget, steps: 0 })
    }

    /// Steps taken: calls of [`Learner::grpo_step`] and [`Learner::sft_step`] that succeeded. The learning-rate schedule counts these.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        learning_rate(&self.optimiser.options, self.steps)
    }

    /// Writes optimiser state (`optimiser.safetensors`, `learner.json`) into `dir`, which exists. Each file is complete under its name or
    /// absent, and on disk when this returns. The weights are the model folder's to save.
    pub fn save(&self, dir: &Path) -> Result<()> {
        checkpoint::save(dir, &self.optimiser, self.steps)
    }

    /// Restores what [`Learner::save`] wrote: with the weights of the same moment, training goes on bit for bit as if it had never
    /// stopped. On an error nothing has changed. The settings given to [`Learner::new`] stay in force.
    pub fn restore(&mut self, dir: &Path) -> Result<()> {
        self.steps = checkpoint::restore(dir, &mut self.optimiser)?;
        Ok(())
    }

    /// Forward and backward of all micro-batches; the gradients are left in `self.gradients`.
    ///
    /// `loss` takes a micro-batch's index and the log-probabilities of its targets, appends the loss's derivative by each of them,
    /// and returns one `R` per member, which `each` gets with the member's index in the batch.
    fn backpropagate<R: Send>(
        &mut self,
        batches: &[MicroBatch],
        temperature: f32,
        loss: impl Fn(usize, &[f32], &mut Vec<f32>) -> Result<Vec<R>> + Sync,
        mut each: impl FnMut(usize, R) + Send,
    ) -> Result<()> {
        let Self { model, optimiser, gradients, workers, .. } = self;
        gradients.clear();
        let work = |batch: usize| {
            let logprobs = batches[batch].logprobs(model, temperature)?;
            let mut slopes = Vec::with_capacity(logprobs.elem_count());
            let results = loss(batch, &logprobs.to_vec1::<f32>()?, &mut slopes)?;
            // The derivative of Σ slope · logprob by each log-probability is its slope.
            let slopes = Tensor::from_vec(slopes, logprobs.shape(), logprobs.device())?;
            let store = (logprobs * slopes)?.sum_all()?.backward()?;
            Ok((batch, results, store))
        };
        workers.run(batches.len(), work, |(batch, results, store)| {
            for ((index, _), result) in batches[batch].members.iter().zip(results) {
                each(*index, result);
            }
            gradients.add(optimiser.vars(), store)
        })
    }

    /// Moves the weights by the gradients at hand; returns the gradient norm before clipping.
    fn update(&mut self) -> Result<f64> {
        let rate = self.learning_rate();
        self.optimiser.update(&self.gradients, rate, self.steps)
    }
}

//! Supervised training: the mean of `−log p` over the target tokens of a batch.

use crate::batch::{MicroBatch, Sequence};
use crate::invariants::Rules;
use crate::{Error, Example, Learner, Result};
use mmhost_model::ModelConfig;
use std::ops::Range;

/// Checks supervised examples and makes sequences of them; errors name them `what N`.
pub(crate) fn supervised_sequences<'a>(config: &ModelConfig, batch: &'a [Example], what: &str) -> Result<Vec<Sequence<'a>>> {
    let rules = Rules::of(config);
    let sequence = |(index, example): (usize, &'a Example)| {
        let id = || format!("{what} {index}");
        rules.check_sequence(&example.segment, &example.mask).map_err(|violation| Error::Invariant { id: id(), violation })?;
        Sequence::new(config, &example.segment, &example.mask)
    };
    batch.iter().enumerate().map(sequence).collect()
}

/// A sequence's part of the mean of `−log p` over `num_targets` targets; appends its derivative by each log-probability.
pub(crate) fn supervised(logprobs: &[f32], num_targets: usize, gradient: &mut Vec<f32>) -> f64 {
    gradient.extend(std::iter::repeat_n(-1.0 / num_targets as f32, logprobs.len()));
    logprobs.iter().map(|&p| -f64::from(p)).sum::<f64>() / num_targets as f64
}

impl Learner {
    /// One supervised step (mean over target tokens); returns the loss. A batch without targets counts as a step and has loss 0.
    ///
    /// # Errors
    ///
    /// As [`Learner::grpo_step`]; sequences are named `example N` after their place in the batch.
    pub fn sft_step(&mut self, batch: &[Example]) -> Result<f64> {
        let sequences = supervised_sequences(self.model.config(), batch, "example")?;
        let tokens: usize = sequences.iter().map(|sequence| sequence.targets.len()).sum();
        let batches = MicroBatch::pack(&sequences, self.token_budget, self.workers.count());
        if batches.is_empty() {
            self.steps += 1;
            return Ok(0.0);
        }
        let mut losses = vec![0.0; sequences.len()];
        self.backpropagate(
            &batches,
            1.0,
            |batch, new, gradient| {
                let of = |(_, span): &(usize, Range<usize>)| supervised(&new[span.clone()], tokens, gradient);
                Ok(batches[batch].members.iter().map(of).collect())
            },
            |index, loss| losses[index] = loss,
        )?;
        if let Some(index) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::NonFiniteLoss { step: self.steps, id: format!("example {index}"), value: losses[index] });
        }
        self.update()?;
        self.steps += 1;
        Ok(losses.iter().sum())
    }
}

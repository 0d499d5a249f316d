//! Supervised training: the mean of `−log p` over the target tokens of a batch.

use crate::batch::{MicroBatch, Sequence};
use crate::invariants::Rules;
use crate::{Error, Example, Learner, Result};
use std::ops::Range;

impl Learner {
    /// One supervised step (mean over target tokens); returns the loss. A batch without targets counts as a step and has loss 0.
    ///
    /// # Errors
    ///
    /// As [`Learner::grpo_step`]; sequences are named `example N` after their place in the batch.
    pub fn sft_step(&mut self, batch: &[Example]) -> Result<f64> {
        let config = self.model.config();
        let rules = Rules::of(config);
        let id = |index: usize| format!("example {index}");
        let sequences = batch
            .iter()
            .enumerate()
            .map(|(index, example)| {
                rules.check_sequence(&example.segment, &example.mask).map_err(|violation| Error::Invariant { id: id(index), violation })?;
                Sequence::new(config, &example.segment, &example.mask)
            })
            .collect::<Result<Vec<_>>>()?;
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
                gradient.resize(new.len(), -1.0 / tokens as f32);
                let of = |(_, span): &(usize, Range<usize>)| {
                    let surprisal: f64 = new[span.clone()].iter().map(|&p| -f64::from(p)).sum();
                    surprisal / tokens as f64
                };
                Ok(batches[batch].members.iter().map(of).collect())
            },
            |index, loss| losses[index] = loss,
        )?;
        if let Some(index) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::NonFiniteLoss { step: self.steps, id: id(index), value: losses[index] });
        }
        self.update()?;
        self.steps += 1;
        Ok(losses.iter().sum())
    }
}

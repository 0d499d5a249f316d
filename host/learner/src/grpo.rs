//! One step of group-relative policy optimisation (GRPO, arXiv 2402.03300).

use crate::advantage::group_advantages;
use crate::batch::{MicroBatch, Sequence};
use crate::invariants::Rules;
use crate::loss::{SequenceLoss, grpo, token_weights};
use crate::sft::{supervised, supervised_sequences};
use crate::{Error, Example, Group, GrpoOptions, Learner, Result, Trajectory};
use mmhost_model::Qwen2_5Vl;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::OnceLock;

/// What one GRPO step measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Loss of the first update, the rehearsal's included.
    pub loss: f64,
    /// k3 KL to the reference per token, before the first update; 0 without a reference.
    pub kl: f64,
    /// Entropy per sampled token (nats), before the first update, estimated without bias by the mean of `−log p` over the sampled
    /// tokens (exact sampling assumed: top-p and top-k bias it downwards).
    pub entropy: f64,
    /// Share of tokens whose ratio the clipping stopped, over all updates (in the first there is nothing to clip).
    pub clip_share: f64,
    /// Global gradient norm before clipping, mean over the updates.
    pub grad_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Groups with zero variance, or fewer than two scored episodes: skipped from the policy term.
    pub groups_skipped: usize,
    /// Episodes without a reward: masked.
    pub episodes_masked: usize,
    /// Sampled tokens trained on.
    pub tokens: usize,
    /// Supervised loss of the rehearsal in nats per target token, before the first update; 0 without one.
    pub rehearsal_loss: f64,
    /// Largest |rollout − learner| log-probability, before the first update.
    pub logprob_diff_max: f64,
    /// Mean of the same.
    pub logprob_diff_mean: f64,
}

/// An episode that takes part in the loss.
struct Member<'a> {
    trajectory: &'a Trajectory,
    advantage: f64,
}

/// The largest difference between rollout and learner within a sequence, and the sum of all.
#[derive(Default)]
struct Drift {
    largest: f64,
    /// Index among the sampled tokens, and the learner's log-probability there.
    index: usize,
    learner: f32,
    sum: f64,
}

impl Learner {
    /// One GRPO step; `reference` is needed when `kl > 0`.
    ///
    /// An episode's advantage is relative to its group ([`group_advantages`]). Masked episodes take no part. Groups whose advantages are
    /// all zero leave the batch, or stay in it for the KL term alone ([`GrpoOptions::kl_on_skipped`]). When nothing is left to
    /// learn from, the step counts (the schedule goes on) but changes no weight.
    ///
    /// # Errors
    ///
    /// An error leaves the weights as they were before the update at fault; in the first update, as they were before
    /// the step. A broken rule of the data is [`Error::Invariant`] and names the episode; see [`Error`] for the rest.
    pub fn grpo_step(&mut self, groups: &[Group], options: &GrpoOptions, reference: Option<&Qwen2_5Vl>) -> Result<StepReport> {
        self.grpo_step_with_rehearsal(groups, &[], options, reference)
    }

    /// One GRPO step whose loss also holds the supervised loss of `rehearsal` (mean over its target tokens): what the policy knew before must not be
    /// lost while it learns to act (the pretraining term of InstructGPT, arXiv 2203.02155, equation 2).
    ///
    /// # Errors
    ///
    /// As [`Learner::grpo_step`]; rehearsed sequences are named `rehearsal N` after their place.
    pub fn grpo_step_with_rehearsal(
        &mut self,
        groups: &[Group],
        rehearsal: &[Example],
        options: &GrpoOptions,
        reference: Option<&Qwen2_5Vl>,
    ) -> Result<StepReport> {
        options.validate()?;
        let reference = match (options.kl > 0.0, reference) {
            (false, _) => None,
            (true, Some(reference)) => Some(reference),
            (true, None) => return Err(Error::NoReference { kl: options.kl }),
        };
        let mut report = StepReport { learning_rate: self.learning_rate(), ..Default::default() };
        let members = self.members(groups, options, &mut report)?;
        let config = self.model.config();
        let sequences = members
            .iter()
            .map(|member| Sequence::new(config, &member.trajectory.segment, &member.trajectory.mask))
            .collect::<Result<Vec<_>>>()?;
        let counts: Vec<usize> = sequences.iter().map(|sequence| sequence.targets.len()).collect();
        let rehearsed = supervised_sequences(config, rehearsal, "rehearsal")?;
        let num_rehearsed: usize = rehearsed.iter().map(|sequence| sequence.targets.len()).sum();
        // The rehearsed sequences stand behind the members.
        let sequences: Vec<Sequence> = sequences.into_iter().chain(rehearsed).collect();
        let weights = token_weights(&counts, options.normalisation);
        let batches = MicroBatch::pack(&sequences, self.token_budget, self.workers.count());
        report.tokens = counts.iter().sum();
        if batches.is_empty() {
            self.steps += 1;
            return Ok(report);
        }

        // The reference does not move between updates: its log-probabilities are taken once.
        let frozen: Vec<OnceLock<Vec<f32>>> = batches.iter().map(|_| OnceLock::new()).collect();
        let mut clipped = 0;
        for update in 0..options.updates_per_batch {
            let mut losses: Vec<(SequenceLoss, Drift)> = sequences.iter().map(|_| Default::default()).collect();
            self.backpropagate(
                &batches,
                options.temperature,
                |batch, new, gradient| {
                    let frozen = match (reference, frozen[batch].get()) {
                        (None, _) => None,
                        (Some(_), Some(known)) => Some(known),
                        (Some(reference), None) => {
                            let logprobs = batches[batch].logprobs(reference, options.temperature)?.to_vec1()?;
                            Some(frozen[batch].get_or_init(|| logprobs))
                        }
                    };
                    let of = |(index, span): &(usize, Range<usize>)| {
                        let Some(Member { trajectory, advantage }) = members.get(*index) else {
                            let loss = supervised(&new[span.clone()], num_rehearsed, gradient);
                            return (SequenceLoss { loss, ..Default::default() }, Drift::default());
                        };
                        let (new, old) = (&new[span.clone()], &trajectory.logprobs);
                        let frozen = frozen.map(|all| &all[span.clone()]);
                        (grpo(new, old, frozen, *advantage, weights[*index], options, gradient), drift(new, old))
                    };
                    Ok(batches[batch].members.iter().map(of).collect())
                },
                |index, loss| losses[index] = loss,
            )?;
            for (index, (loss, _)) in losses.iter().enumerate() {
                if !loss.loss.is_finite() {
                    let rehearsed = || format!("rehearsal {}", index - members.len());
                    let id = members.get(index).map_or_else(rehearsed, |member| member.trajectory.id.clone());
                    return Err(Error::NonFiniteLoss { step: self.steps, id, value: loss.loss });
                }
            }
            if update == 0 {
                let total = |part: fn(&(SequenceLoss, Drift)) -> f64| losses.iter().map(part).sum::<f64>();
                report.rehearsal_loss = losses[members.len()..].iter().map(|(loss, _)| loss.loss).sum();
                // Only the rehearsal may be there: all groups can be skipped.
                let tokens = report.tokens.max(1) as f64;
                report.loss = total(|(loss, _)| loss.loss);
                report.kl = total(|(loss, _)| loss.kl) / tokens;
                report.entropy = total(|(loss, _)| loss.surprisal) / tokens;
                report.logprob_diff_mean = total(|(_, drift)| drift.sum) / tokens;
                report.logprob_diff_max = check_drift(&members, &losses, options)?;
            }
            clipped += losses.iter().map(|(loss, _)| loss.clipped).sum::<usize>();
            report.grad_norm += self.update()? / options.updates_per_batch as f64;
        }
        report.clip_share = clipped as f64 / (report.tokens.max(1) * options.updates_per_batch) as f64;
        self.steps += 1;
        Ok(report)
    }

    /// Checks every episode and gathers those that take part.
    fn members<'a>(&self, groups: &'a [Group], options: &GrpoOptions, report: &mut StepReport) -> Result<Vec<Member<'a>>> {
        let rules = Rules::of(self.model.config());
        let keep_skipped = options.kl_on_skipped && options.kl > 0.0;
        let mut members = Vec::new();
        for group in groups {
            group.iter().try_for_each(|trajectory| rules.check_trajectory(trajectory))?;
            let rewards: Vec<Option<f64>> = group.iter().map(|trajectory| trajectory.reward).collect();
            let scored = group_advantages(&rewards);
            report.groups_skipped += usize::from(scored.skipped);
            report.episodes_masked += rewards.iter().filter(|reward| reward.is_none()).count();
            if scored.skipped && !keep_skipped {
                continue;
            }
            for (trajectory, advantage) in group.iter().zip(scored.advantages) {
                members.extend(advantage.map(|advantage| Member { trajectory, advantage }));
            }
        }
        Ok(members)
    }
}

fn drift(new: &[f32], old: &[f32]) -> Drift {
    let mut drift = Drift::default();
    for (index, (&new, &old)) in new.iter().zip(old).enumerate() {
        let difference = (f64::from(new) - f64::from(old)).abs();
        drift.sum += difference;
        if difference > drift.largest {
            drift = Drift { largest: difference, index, learner: new, ..drift };
        }
    }
    drift
}

/// The largest difference of the batch, or an error when it is too large.
fn check_drift(members: &[Member], losses: &[(SequenceLoss, Drift)], options: &GrpoOptions) -> Result<f64> {
    let largest = members.iter().zip(losses).max_by(|(_, (_, a)), (_, (_, b))| a.largest.total_cmp(&b.largest));
    let Some((Member { trajectory, .. }, (_, drift))) = largest else { return Ok(0.0) };
    if drift.largest > options.max_logprob_diff {
        let sampled = trajectory.mask.iter().enumerate().filter(|(_, target)| **target);
        let error = Error::LogprobDifference {
            id: trajectory.id.clone(),
            position: sampled.map(|(position, _)| position).nth(drift.index).unwrap_or_default(),
            rollout: trajectory.logprobs[drift.index],
            learner: drift.learner,
            difference: drift.largest,
            tolerance: options.max_logprob_diff,
        };
        if options.stop_on_logprob_diff {
            return Err(error);
        }
        tracing::warn!("{error}");
    }
    Ok(drift.largest)
}

//! The GRPO loss of one sequence, with its derivative in closed form.
//!
//! With `r = exp(new − old)` and `d = reference − new` per sampled token, advantage `A`, clipping range ε and KL weight β:
//!
//! ```text
//! policy = −min(r·A, clamp(r, 1−ε, 1+ε)·A)        the clipped surrogate (arXiv 1707.06347, equation 7)
//! kl     = exp(d) − d − 1                         the k3 estimator, never below zero
//! loss   = Σ weight · (policy + β·kl)
//! ```
//!
//! The loss needs nothing but log-probabilities, so its derivative by each of them is written down instead of recorded: the
//! backward pass of the network starts from those numbers. Everything here is `f64`.

use crate::{GrpoOptions, Normalisation};

/// What one sequence contributes to a step. Sums run over its sampled tokens, without weights unless said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SequenceLoss {
    /// Weighted loss.
    pub loss: f64,
    /// Sum of the k3 estimates.
    pub kl: f64,
    /// Sum of `−new`: an unbiased estimate of the entropy where the tokens were sampled from this policy.
    pub surprisal: f64,
    /// Tokens whose ratio the clipping stopped.
    pub clipped: usize,
}

/// The GRPO loss of one sequence; its derivative by each of `new` is appended to `gradient`.
///
/// `new`, `old` and `reference` hold one log-probability per sampled token; `weight` is the token's share in the batch mean.
pub(crate) fn grpo(
    new: &[f32],
    old: &[f32],
    reference: Option<&[f32]>,
    advantage: f64,
    weight: f64,
    options: &GrpoOptions,
    gradient: &mut Vec<f32>,
) -> SequenceLoss {
    let (low, high) = (1.0 - f64::from(options.clip), 1.0 + f64::from(options.clip));
    let beta = f64::from(options.kl);
    let mut sum = SequenceLoss::default();
    for (t, (&new, &old)) in new.iter().zip(old).enumerate() {
        let new = f64::from(new);
        let ratio = (new - f64::from(old)).exp();
        let surrogate = ratio * advantage;
        let clipped = ratio.clamp(low, high) * advantage;
        let (mut loss, mut slope) = if clipped < surrogate {
            sum.clipped += 1;
            (-clipped, 0.0)
        } else {
            (-surrogate, -surrogate)
        };
        if let Some(reference) = reference {
            let d = f64::from(reference[t]) - new;
            let kl = d.exp() - d - 1.0;
            sum.kl += kl;
            loss += beta * kl;
            slope += beta * (1.0 - d.exp());
        }
        sum.loss += weight * loss;
        sum.surprisal -= new;
        gradient.push((weight * slope) as f32);
    }
    sum
}

/// The share of each token in the batch mean, per sequence, given how many sampled tokens every sequence of the batch has.
/// Sequences without sampled tokens count for nothing.
pub(crate) fn token_weights(tokens: &[usize], normalisation: Normalisation) -> Vec<f64> {
    let total: usize = tokens.iter().sum();
    let sequences = tokens.iter().filter(|&&n| n > 0).count();
    tokens
        .iter()
        .map(|&n| match normalisation {
            _ if n == 0 => 0.0,
            Normalisation::Token => 1.0 / total as f64,
            Normalisation::Sequence => 1.0 / (n as f64 * sequences as f64),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn options(clip: f32, kl: f32) -> GrpoOptions {
        GrpoOptions { clip, kl, ..Default::default() }
    }

    /// Log-probabilities whose ratios reach beyond the clipping range on both sides.
    fn log_probabilities(seed: u64, count: usize) -> [Vec<f32>; 3] {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let new: Vec<f32> = (0..count).map(|_| -rng.random::<f32>() * 4.0).collect();
        let mut near = || new.iter().map(|n| (n + rng.random_range(-0.6..0.6f32)).min(0.0)).collect();
        let (old, reference) = (near(), near());
        [new, old, reference]
    }

    /// The formulas as they stand in the papers, token by token.
    fn plain(new: &[f64], old: &[f64], reference: &[f64], advantage: f64, clip: f64, kl: f64) -> f64 {
        let mut total = 0.0;
        for i in 0..new.len() {
            let pi = new[i].exp();
            let ratio = pi / old[i].exp();
            let clipped = if ratio < 1.0 - clip {
                1.0 - clip
            } else if ratio > 1.0 + clip {
                1.0 + clip
            } else {
                ratio
            };
            let objective = f64::min(ratio * advantage, clipped * advantage);
            let other = reference[i].exp() / pi;
            total += objective - kl * (other - other.ln() - 1.0);
        }
        -total / new.len() as f64
    }

    fn double(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| f64::from(v)).collect()
    }

    #[test]
    fn the_loss_equals_the_formulas() {
        for (seed, advantage) in [(1, 1.3), (2, -0.7), (3, 0.0)] {
            let [new, old, reference] = log_probabilities(seed, 50);
            let options = options(0.25, 0.125);
            let found = grpo(&new, &old, Some(&reference), advantage, 1.0 / 50.0, &options, &mut Vec::new());
            let expected = plain(&double(&new), &double(&old), &double(&reference), advantage, 0.25, 0.125);
            assert!((found.loss - expected).abs() < 1e-12, "{} {expected}", found.loss);
            assert_eq!(found.clipped > 0, advantage != 0.0);
            assert!(found.kl > 0.0);
        }
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        for (seed, advantage) in [(4, 0.9), (5, -1.1)] {
            let [new, old, reference] = log_probabilities(seed, 40);
            let options = options(0.25, 0.125);
            let mut gradient = Vec::new();
            grpo(&new, &old, Some(&reference), advantage, 1.0 / 40.0, &options, &mut gradient);
            let (old, reference) = (double(&old), double(&reference));
            let loss = |i: usize, step: f64| {
                let mut moved = double(&new);
                moved[i] += step;
                plain(&moved, &old, &reference, advantage, 0.25, 0.125)
            };
            for (i, &found) in gradient.iter().enumerate() {
                let expected = (loss(i, 1e-6) - loss(i, -1e-6)) / 2e-6;
                assert!((f64::from(found) - expected).abs() < 1e-7, "token {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn on_the_sampling_policy_the_slope_is_the_advantage() {
        let [new, _, _] = log_probabilities(6, 10);
        let mut gradient = Vec::new();
        let found = grpo(&new, &new, None, 2.0, 0.1, &options(0.2, 0.5), &mut gradient);
        assert!((found.loss + 2.0).abs() < 1e-12);
        assert!(gradient.iter().all(|&g| (g + 0.2).abs() < 1e-7));
        assert_eq!((found.clipped, found.kl), (0, 0.0));
    }

    #[test]
    fn weights_sum_to_one_in_both_normalisations() {
        let tokens = [3, 0, 5, 2];
        let token = token_weights(&tokens, Normalisation::Token);
        assert_eq!(token, [0.1, 0.0, 0.1, 0.1]);
        let sequence = token_weights(&tokens, Normalisation::Sequence);
        for (weight, expected) in sequence.iter().zip([1.0 / 9.0, 0.0, 1.0 / 15.0, 1.0 / 6.0]) {
            assert!((weight - expected).abs() < 1e-15);
        }
    }
}

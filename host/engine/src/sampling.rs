//! Drawing a token from a row of logits.
//!
//! The log-probability of the drawn token is that of the full distribution `softmax(logits / temperature)`, before top-p and
//! top-k, computed as the learner computes it: shifted by the largest logit, exponentials summed, logarithm taken in `f32`.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::{EngineError, Sampling};

/// Weights are summed in blocks of this many, so that a draw finds its block first and its token within it.
const BLOCK: usize = 256;
/// Running sums kept side by side within a block; a fixed number, so that every machine adds in the same order.
const LANES: usize = 16;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
}

impl Sampling {
    /// Checks the ranges that the fields' documentation gives.
    pub fn validate(&self) -> Result<(), EngineError> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(EngineError::Sampling {
                field: "temperature",
                found: self.temperature,
                expected: "a finite number, 0 (greedy) or above",
            });
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(EngineError::Sampling { field: "top_p", found: self.top_p, expected: "a number above 0 and at most 1 (off)" });
        }
        Ok(())
    }
}

/// The uniform number in `[0, 1)` that token `index` of a turn is drawn with, given that the turn's generator was asked for
/// `index` numbers before: ChaCha8 keyed by the turn's seed, two words of its stream per token.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Draws tokens; keeps its buffers from row to row.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// `exp(logit / temperature - max)` of every token `[V]`.
    weights: Vec<f32>,
    /// Sums of [`BLOCK`] weights each.
    blocks: Vec<f64>,
    /// Tokens that top-k and top-p leave.
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// Draws from `logits` `[V]`. Tokens in `never` are not drawn (their probability mass still counts in the
    /// log-probability, as it does in the learner). `None` when a logit is not a number or none is finite.
    pub(crate) fn draw(&mut self, logits: &[f32], sampling: &Sampling, rng: &mut ChaCha8Rng, never: &[u32]) -> Option<Drawn> {
        let greedy = sampling.temperature == 0.0;
        let inverse = if greedy { 1.0 } else { 1.0 / sampling.temperature };
        let max = max(logits) * inverse;
        let total = self.exponentials(logits, inverse, max);
        if !(max.is_finite() && total.is_finite() && total > 0.0) {
            return None;
        }
        let token = if greedy {
            argmax(logits, never)?
        } else {
            let u = uniform(rng);
            self.exclude(never);
            if sampling.top_k > 0 || sampling.top_p < 1.0 {
                self.draw_truncated(u, sampling.top_p, sampling.top_k)
            } else {
                self.draw_full(u)
            }
            // Every weight that may be drawn has underflowed: what is left is the likeliest of them.
            .or_else(|| argmax(logits, never))?
        };
        let logprob = (logits[token as usize] * inverse - max) - (total as f32).ln();
        Some(Drawn { token, logprob })
    }

    /// Fills `weights` and `blocks`; returns the sum over all tokens.
    fn exponentials(&mut self, logits: &[f32], inverse: f32, max: f32) -> f64 {
        self.weights.resize(logits.len(), 0.0);
        for (w, &x) in self.weights.iter_mut().zip(logits) {
            *w = exp(x * inverse - max);
        }
        self.blocks.clear();
        self.blocks.extend(self.weights.chunks(BLOCK).map(block_sum));
        self.blocks.iter().sum()
    }

    /// Takes the weight of some tokens away.
    fn exclude(&mut self, never: &[u32]) {
        for &id in never {
            if let Some(weight) = self.weights.get_mut(id as usize) {
                *weight = 0.0;
                let block = id as usize / BLOCK;
                let end = ((block + 1) * BLOCK).min(self.weights.len());
                self.blocks[block] = block_sum(&self.weights[block * BLOCK..end]);
            }
        }
    }

    /// Inverts the cumulative distribution at `u`.
    fn draw_full(&self, u: f64) -> Option<u32> {
        let mut left = u * self.blocks.iter().sum::<f64>();
        for (b, &sum) in self.blocks.iter().enumerate() {
            if left < sum {
                let block = &self.weights[b * BLOCK..self.weights.len().min((b + 1) * BLOCK)];
                // `sum` was added up in `f32`; the walk adds in `f64` and must end where the block ends.
                left *= block.iter().map(|&w| f64::from(w)).sum::<f64>() / sum;
                let within = walk(block.iter().copied(), left)?;
                return Some((b * BLOCK + within) as u32);
            }
            left -= sum;
        }
        // Rounding left `u · total` at the very end: the last token that has weight.
        self.weights.iter().rposition(|&w| w > 0.0).map(|i| i as u32)
    }

    /// Top-k, then the nucleus of what is left: the fewest likeliest tokens whose mass reaches `top_p`. Equal weights are
    /// ordered by id.
    fn draw_truncated(&mut self, u: f64, top_p: f32, top_k: usize) -> Option<u32> {
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(self.weights.iter().enumerate().filter(|(_, w)| **w > 0.0).map(|(i, &w)| (w, i as u32)));
        let likelier = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            // Tokens below this weight hold less than 1 - top_p together, so the nucleus lies among the others.
            let mass: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
            let floor = (1.0 - f64::from(top_p)) * mass / candidates.len() as f64;
            candidates.retain(|c| f64::from(c.0) >= floor);
            candidates.sort_unstable_by(likelier);
            let mut sum = 0.0;
            let reached = candidates.iter().position(|c| {
                sum += f64::from(c.0);
                sum >= f64::from(top_p) * mass
            });
            if let Some(last) = reached {
                candidates.truncate(last + 1);
            }
        } else {
            candidates.sort_unstable_by(likelier);
        }
        let left = u * candidates.iter().map(|c| f64::from(c.0)).sum::<f64>();
        walk(candidates.iter().map(|c| c.0), left).map(|i| candidates[i].1)
    }
}

/// Where the running sum of `weights` passes `left`; the last one that has weight where rounding leaves it short.
fn walk(weights: impl Iterator<Item = f32>, mut left: f64) -> Option<usize> {
    let mut last = None;
    for (i, w) in weights.enumerate() {
        if w > 0.0 {
            last = Some(i);
            if left < f64::from(w) {
                break;
            }
            left -= f64::from(w);
        }
    }
    last
}

/// The largest value; not-a-number is passed over.
fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (m, &v) in lanes.iter_mut().zip(chunk) {
            *m = if v > *m { v } else { *m };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

/// The first of the largest values, tokens in `never` passed over.
fn argmax(x: &[f32], never: &[u32]) -> Option<u32> {
    let best = max(x);
    if let Some(i) = x.iter().position(|&v| v == best)
        && !never.contains(&(i as u32))
    {
        return Some(i as u32);
    }
    let mut found: Option<(u32, f32)> = None;
    for (i, &v) in (0u32..).zip(x) {
        if !never.contains(&i) && found.is_none_or(|(_, best)| v > best) {
            found = Some((i, v));
        }
    }
    found.map(|(i, _)| i)
}

/// Sum of at most [`BLOCK`] weights.
fn block_sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f32; LANES];
    let chunks = weights.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (s, &w) in lanes.iter_mut().zip(chunk) {
            *s += w;
        }
    }
    lanes.iter().chain(rest).map(|&w| f64::from(w)).sum()
}

/// `eˣ` for `x <= 0`, in straight-line arithmetic that the compiler vectorises; relative error below 2e-7, and not a number
/// stays so. Below -87 it is 0.
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // Choices rather than `f32::max`, which would drop not-a-number.
    let underflows = x < -87.0;
    let x = if underflows { -87.0 } else { x };
    // 1. x = n·ln 2 + r with |r| <= ln 2 / 2
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // 2. eʳ by the minimax polynomial of Cephes' expf
    let p = 1.987_569_2e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * r * r + r + 1.0;
    // 3. times 2ⁿ: n stands in the low bits of `shifted`
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if underflows { 0.0 } else { y * scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const FULL: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed: 0 };

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// Uneven logits with a known shape, more than one block of them.
    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 9.0).collect()
    }

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let max = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
        let exp: Vec<f64> = logits.iter().map(|&x| ((f64::from(x) - max) / temperature).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|e| e / sum).collect()
    }

    const DRAWS: usize = 60_000;

    /// Shares of [`DRAWS`] draws.
    fn shares(logits: &[f32], sampling: &Sampling, never: &[u32]) -> Vec<f64> {
        let (mut sampler, mut rng, mut counts) = (Sampler::default(), rng(5), vec![0f64; logits.len()]);
        for _ in 0..DRAWS {
            counts[sampler.draw(logits, sampling, &mut rng, never).unwrap().token as usize] += 1.0 / DRAWS as f64;
        }
        counts
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            // Five standard deviations; where few draws are expected, a handful more; where none, none.
            let few = if *e > 0.0 { 4.0 / DRAWS as f64 } else { 0.0 };
            assert!((g - e).abs() <= 5.0 * (e * (1.0 - e) / DRAWS as f64).sqrt() + few, "token {i}: share {g}, probability {e}");
        }
    }

    #[test]
    fn exponential_is_accurate() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2e-7, "exp({x}) = {}, expected {expected}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn logprob_is_that_of_the_full_distribution() {
        let logits = logits(2048);
        for (temperature, top_p, top_k) in [(1.0, 1.0, 0), (0.7, 1.0, 0), (1.3, 0.9, 0), (1.0, 1.0, 5), (0.8, 0.5, 40), (0.0, 1.0, 0)] {
            let expected = softmax(&logits, if temperature == 0.0 { 1.0 } else { f64::from(temperature) });
            let sampling = Sampling { temperature, top_p, top_k, seed: 1 };
            let (mut sampler, mut rng) = (Sampler::default(), rng(1));
            for _ in 0..50 {
                let drawn = sampler.draw(&logits, &sampling, &mut rng, &[]).unwrap();
                let difference = f64::from(drawn.logprob) - expected[drawn.token as usize].ln();
                assert!(difference.abs() < 5e-6, "{sampling:?}: token {} differs by {difference}", drawn.token);
            }
        }
    }

    #[test]
    fn full_distribution_is_sampled() {
        for temperature in [1.0f32, 0.5, 2.0] {
            let logits = logits(600);
            assert_close(&shares(&logits, &Sampling { temperature, ..FULL }, &[]), &softmax(&logits, f64::from(temperature)));
        }
    }

    #[test]
    fn top_k_and_top_p_keep_the_likeliest() {
        let logits = logits(300);
        let p = softmax(&logits, 1.0);
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
        for (top_k, top_p) in [(1, 1.0f32), (7, 1.0), (0, 0.3), (0, 0.95), (20, 0.5), (300, 0.8), (1000, 1.0)] {
            let k = if top_k == 0 { p.len() } else { top_k.min(p.len()) };
            let mass: f64 = order[..k].iter().map(|&i| p[i]).sum();
            let mut expected = vec![0.0; p.len()];
            let mut sum = 0.0;
            for &i in &order[..k] {
                expected[i] = p[i];
                sum += p[i];
                if sum >= f64::from(top_p) * mass {
                    break;
                }
            }
            expected.iter_mut().for_each(|e| *e /= sum);
            assert_close(&shares(&logits, &Sampling { top_k, top_p, ..FULL }, &[]), &expected);
        }
    }

    #[test]
    fn greedy_takes_the_lowest_of_equal_ids() {
        let mut row = vec![0.0; 100];
        row[63] = 2.0;
        row[17] = 2.0;
        let greedy = Sampling { temperature: 0.0, ..FULL };
        let mut sampler = Sampler::default();
        assert_eq!(sampler.draw(&row, &greedy, &mut rng(0), &[]).unwrap().token, 17);
        assert_eq!(sampler.draw(&row, &greedy, &mut rng(0), &[17]).unwrap().token, 63);
        assert_eq!(sampler.draw(&row, &greedy, &mut rng(0), &[17, 63]).unwrap().token, 0);
        // A tie at the edge of top-k goes to the lower id as well.
        assert_eq!(sampler.draw(&row, &Sampling { top_k: 1, ..FULL }, &mut rng(0), &[]).unwrap().token, 17);
    }

    #[test]
    fn excluded_tokens_are_never_drawn() {
        let logits = logits(300);
        let mut expected = softmax(&logits, 1.0);
        let never = [3, 299, 270];
        never.iter().for_each(|&i| expected[i as usize] = 0.0);
        let sum: f64 = expected.iter().sum();
        expected.iter_mut().for_each(|e| *e /= sum);
        assert_close(&shares(&logits, &FULL, &never), &expected);
        // Even where nothing else has any weight left.
        let mut row = vec![-200.0; 10];
        row[4] = 0.0;
        row[6] = -150.0;
        assert_eq!(Sampler::default().draw(&row, &FULL, &mut rng(0), &[4]).map(|d| d.token == 4), Some(false));
    }

    #[test]
    fn draws_depend_on_seed_and_index_only() {
        let rows: Vec<Vec<f32>> = (0..20).map(|i| logits(500 + i)).collect();
        let (mut sampler, mut sequential) = (Sampler::default(), rng(42));
        let tokens: Vec<u32> = rows.iter().map(|r| sampler.draw(r, &FULL, &mut sequential, &[]).unwrap().token).collect();
        // Any draw again on its own, with a fresh sampler, from the same place of the stream.
        for (i, row) in rows.iter().enumerate().rev() {
            let mut at = rng(42);
            at.set_word_pos(2 * i as u128);
            assert_eq!(Sampler::default().draw(row, &FULL, &mut at, &[]).unwrap().token, tokens[i]);
        }
        let mut other = rng(43);
        let others: Vec<u32> = rows.iter().map(|r| sampler.draw(r, &FULL, &mut other, &[]).unwrap().token).collect();
        assert_ne!(tokens, others);
    }

    #[test]
    fn rows_without_a_distribution_give_nothing() {
        let mut sampler = Sampler::default();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = logits(100);
            row[70] = bad;
            for sampling in [FULL, Sampling { temperature: 0.0, ..FULL }] {
                assert_eq!(sampler.draw(&row, &sampling, &mut rng(0), &[]), None);
            }
        }
        assert_eq!(sampler.draw(&[f32::NEG_INFINITY; 4], &FULL, &mut rng(0), &[]), None);
        assert_eq!(sampler.draw(&[], &FULL, &mut rng(0), &[]), None);
        let mut row = logits(100);
        row[3] = f32::NEG_INFINITY;
        assert!(sampler.draw(&row, &FULL, &mut rng(0), &[]).is_some());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (sampling, field) in [
            (Sampling { temperature: -1.0, ..FULL }, "temperature"),
            (Sampling { temperature: f32::NAN, ..FULL }, "temperature"),
            (Sampling { top_p: 0.0, ..FULL }, "top_p"),
            (Sampling { top_p: 1.5, ..FULL }, "top_p"),
        ] {
            let message = sampling.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
        FULL.validate().unwrap();
    }
}

//! Log-probabilities straight from hidden states: the logits `[N, V]` exist only in blocks of [`ROWS`] × [`COLS`].

use candle_core::{Device, Result, Tensor, bail};

use super::matmul::{Mat, matmul};
use super::node::{Backward, is_fused, node, read};
use super::plain;
use super::simd::{LANES, Lanes, load, store};

/// Rows of a block of logits: enough to repay the packing of the head.
const ROWS: usize = 384;
/// Columns of a block; a block stays in the second-level cache.
const COLS: usize = 512;

/// Log-probability `[N]` of `targets` under `softmax(hidden · headᵀ / temperature)`: `hidden` `[N, D]`, `head` `[V, D]`.
///
/// # Errors
/// If the shapes do not fit, a target is outside the vocabulary or the temperature is not positive.
pub fn target_logprob(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<Tensor> {
    let shape = check(hidden, head, targets, temperature)?;
    let inputs = [hidden, head];
    if !is_fused(&inputs) {
        return Ok(plain::target_logprob_entropy(hidden, head, targets, temperature)?.0);
    }
    let stats = read(&inputs, |v| Ok(forward(v[0], v[1], targets, 1.0 / temperature, shape, false)))?;
    let logprob = stats.iter().map(|s| s.target - s.log_sum()).collect();
    let targets: Vec<u32> = targets.to_vec();
    let log_sums: Vec<f32> = stats.iter().map(Stats::log_sum).collect();
    node("target_logprob", &inputs, logprob, targets.len(), move |b| Ok(backward(b, &targets, &log_sums, 1.0 / temperature, shape)))
}

/// [`target_logprob`] and the entropy `[N]` (nats) of the same distributions, from one pass. No gradient.
///
/// # Errors
/// As [`target_logprob`].
pub fn target_logprob_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<(Tensor, Tensor)> {
    let shape = check(hidden, head, targets, temperature)?;
    let (hidden, head) = (hidden.detach(), head.detach());
    let inputs = [&hidden, &head];
    if !is_fused(&inputs) {
        return plain::target_logprob_entropy(&hidden, &head, targets, temperature);
    }
    let stats = read(&inputs, |v| Ok(forward(v[0], v[1], targets, 1.0 / temperature, shape, true)))?;
    let vector = |f: &dyn Fn(&Stats) -> f32| Tensor::from_vec(stats.iter().map(f).collect(), stats.len(), &Device::Cpu);
    // H = log Σe^x - Σ p·x
    Ok((vector(&|s| s.target - s.log_sum())?, vector(&|s| s.log_sum() - s.weighted / s.sum)?))
}

/// (N, D, V).
type Dims = (usize, usize, usize);

fn check(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<Dims> {
    let ((n, d), (v, head_d)) = (hidden.dims2()?, head.dims2()?);
    if head_d != d || targets.len() != n {
        bail!("target_logprob: hidden {:?}, head {:?} and {} targets do not fit together", hidden.dims(), head.dims(), targets.len());
    }
    if let Some(target) = targets.iter().find(|&&t| t as usize >= v) {
        bail!("target_logprob: target {target} of a vocabulary of {v}");
    }
    if temperature.is_nan() || temperature <= 0.0 {
        bail!("target_logprob: the temperature must be positive, got {temperature}");
    }
    Ok((n, d, v))
}

/// Of one row of logits, divided by the temperature, as far as it has been seen.
#[derive(Clone, Copy)]
struct Stats {
    max: f32,
    /// `Σ e^(x - max)`
    sum: f32,
    /// `Σ e^(x - max)·x`
    weighted: f32,
    /// Logit of the target.
    target: f32,
}

impl Stats {
    fn log_sum(&self) -> f32 {
        self.max + self.sum.ln()
    }

    /// Takes in `logits`, columns `first..` of the row, yet undivided.
    #[inline]
    fn update(&mut self, logits: &[f32], first: usize, target: u32, inverse_temperature: f32, entropy: bool) {
        let scale = Lanes::splat(inverse_temperature);
        let lowest = Lanes::splat(f32::NEG_INFINITY);
        let mut max = Lanes::splat(self.max);
        // What is missing of the last sixteen is 0 when loaded: it must count as -∞ in the maximum and as nothing in the sums.
        let whole = logits.len() / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            max = max.max(load(logits, i) * scale);
        }
        let tail = &logits[whole..];
        let mut largest = max.max(lowest).max_lane();
        for &x in tail {
            largest = largest.max(x * inverse_temperature);
        }
        let rescale = (self.max - largest).exp();
        let shift = Lanes::splat(largest);
        let (mut sum, mut weighted) = (Lanes::splat(0.0), Lanes::splat(0.0));
        for i in (0..whole).step_by(LANES) {
            let x = load(logits, i) * scale;
            let e = (x - shift).exp();
            sum = sum + e;
            if entropy {
                weighted = e.mul_add(x, weighted);
            }
        }
        let (mut sum, mut weighted) = (sum.sum(), weighted.sum());
        for &x in tail {
            let x = x * inverse_temperature;
            let e = (x - largest).exp();
            sum += e;
            weighted += e * x;
        }
        self.sum = self.sum * rescale + sum;
        self.weighted = self.weighted * rescale + weighted;
        self.max = largest;
        if let Some(&x) = (target as usize).checked_sub(first).and_then(|i| logits.get(i)) {
            self.target = x * inverse_temperature;
        }
    }
}

fn forward(hidden: &[f32], head: &[f32], targets: &[u32], inverse_temperature: f32, (n, d, v): Dims, entropy: bool) -> Vec<Stats> {
    let mut stats = vec![Stats { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, target: 0.0 }; n];
    let mut logits = vec![0.0; ROWS.min(n) * COLS.min(v)];
    for row in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - row);
        for col in (0..v).step_by(COLS) {
            let cols = COLS.min(v - col);
            block(&mut logits, hidden, head, (row, rows), (col, cols), d);
            for ((logits, stats), &target) in logits.chunks_exact(cols).zip(&mut stats[row..row + rows]).zip(&targets[row..]) {
                stats.update(logits, col, target, inverse_temperature, entropy);
            }
        }
    }
    stats
}

/// Logits of some rows and columns, not yet divided by the temperature.
fn block(logits: &mut [f32], hidden: &[f32], head: &[f32], (row, rows): (usize, usize), (col, cols): (usize, usize), d: usize) {
    let (x, w) = (&hidden[row * d..][..rows * d], &head[col * d..][..cols * d]);
    matmul(logits, cols, Mat::rows(x, d), Mat::rows(w, d).t(), (rows, cols, d), false);
}

/// Gradients: that of a logit `j` of row `i` is `grad[i]·(1[j = target] - p[j]) / temperature`.
fn backward(b: &Backward, targets: &[u32], log_sums: &[f32], inverse_temperature: f32, (n, d, v): Dims) -> Vec<Option<Vec<f32>>> {
    let (hidden, head) = (b.inputs[0], b.inputs[1]);
    let mut d_hidden = vec![0.0; if b.wanted[0] { n * d } else { 0 }];
    let mut d_head = vec![0.0; if b.wanted[1] { v * d } else { 0 }];
    let mut logits = vec![0.0; ROWS.min(n) * COLS.min(v)];
    let scale = Lanes::splat(inverse_temperature);
    for col in (0..v).step_by(COLS) {
        let cols = COLS.min(v - col);
        for row in (0..n).step_by(ROWS) {
            let rows = ROWS.min(n - row);
            block(&mut logits, hidden, head, (row, rows), (col, cols), d);
            for (i, logits) in logits.chunks_exact_mut(cols).take(rows).enumerate() {
                let i = row + i;
                let g = b.grad[i] * inverse_temperature;
                let (factor, shift) = (Lanes::splat(-g), Lanes::splat(log_sums[i]));
                for j in (0..cols).step_by(LANES) {
                    let p = (load(logits, j) * scale - shift).exp();
                    store(logits, j, factor * p);
                }
                if let Some(x) = (targets[i] as usize).checked_sub(col).and_then(|j| logits.get_mut(j)) {
                    *x += g;
                }
            }
            let d_logits = Mat::rows(&logits, cols);
            if b.wanted[0] {
                let w = Mat::rows(&head[col * d..][..cols * d], d);
                matmul(&mut d_hidden[row * d..][..rows * d], d, d_logits, w, (rows, d, cols), true);
            }
            if b.wanted[1] {
                let x = Mat::rows(&hidden[row * d..][..rows * d], d);
                matmul(&mut d_head[col * d..][..cols * d], d, d_logits.t(), x, (cols, d, rows), true);
            }
        }
    }
    vec![b.wanted[0].then_some(d_hidden), b.wanted[1].then_some(d_head)]
}

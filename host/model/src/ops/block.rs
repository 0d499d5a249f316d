//! Whole residual blocks of a transformer: norm, projections, attention or MLP, residual.
//!
//! The same kernels in the same order as the single operations, so the same bits, but a few sequences at a time: what flows
//! between the kernels stays in the second-level cache, and candle's backward keeps and adds gradients of the block's input
//! only. What the backward needs is kept: the projections' results; norms and activations are computed again.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::attention::{self, Heads, Rope};
use super::linear;
use super::matmul::{Mat, Reused, matmul};
use super::mlp::{swiglu_backward, swiglu_forward};
use super::node::{Backward, is_fused, node, read, written};
use super::norm;
use super::simd::add_assign;
use super::{rms_norm, rope_attention, swiglu};

/// Rows processed at a time, about: enough to repay packing the weights, few enough for the second-level cache.
const ROWS: usize = 192;

/// A linear map with or without bias.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `[out, in]`
    pub weight: &'a Tensor,
    /// `[out]`
    pub bias: Option<&'a Tensor>,
}

impl Linear<'_> {
    fn check(&self, what: &str, out: usize, input: usize) -> Result<()> {
        if self.weight.dims() != [out, input] || self.bias.is_some_and(|b| b.dims() != [out]) {
            bail!("{what}: expected a weight [{out}, {input}], got {:?} with bias {:?}", self.weight.dims(), self.bias.map(Tensor::dims));
        }
        Ok(())
    }
}

/// The parameters of a block: norm, the projection out of the residual stream, the projection back into it.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Weight of the norm `[D]`.
    pub norm: &'a Tensor,
    /// Epsilon of the norm.
    pub eps: f32,
    /// From `D` to `(Hq + 2·Hkv)·Dh` (attention) or to `2I` (MLP).
    pub input: Linear<'a>,
    /// From `Hq·Dh` or `I` to `D`.
    pub output: Linear<'a>,
}

/// Places of a block's tensors among the inputs of its node.
const X: usize = 0;
const NORM: usize = 1;
const W_IN: usize = 2;
const W_OUT: usize = 3;

/// Sizes and biases of a block.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// `D`
    width: usize,
    /// Width after the first projection.
    inner: usize,
    /// Width before the last one.
    mixed: usize,
    eps: f32,
    /// Places of the biases among the inputs.
    bias_in: Option<usize>,
    bias_out: Option<usize>,
}

impl Shape {
    /// The weights, prepared once for all rows, as the forward multiplies by them.
    fn forward_weights<'a>(&self, v: &[&'a [f32]]) -> (Reused<'a>, Reused<'a>) {
        let w_in = Reused::new(Mat::rows(v[W_IN], self.width).t(), self.width, self.inner);
        (w_in, Reused::new(Mat::rows(v[W_OUT], self.mixed).t(), self.mixed, self.width))
    }

    /// The same as the backward multiplies by them.
    fn backward_weights<'a>(&self, v: &[&'a [f32]]) -> (Reused<'a>, Reused<'a>) {
        let w_in = Reused::new(Mat::rows(v[W_IN], self.width), self.inner, self.width);
        (w_in, Reused::new(Mat::rows(v[W_OUT], self.mixed), self.width, self.mixed))
    }
}

impl<'a> Block<'a> {
    fn inputs(&self, x: &'a Tensor) -> Vec<&'a Tensor> {
        [x, self.norm, self.input.weight, self.output.weight].into_iter().chain(self.input.bias).chain(self.output.bias).collect()
    }

    fn shape(&self, what: &str, width: usize, inner: usize, mixed: usize) -> Result<Shape> {
        if self.norm.dims() != [width] {
            bail!("{what}: expected a norm of [{width}], got {:?}", self.norm.dims());
        }
        self.input.check(what, inner, width)?;
        self.output.check(what, width, mixed)?;
        let bias_in = self.input.bias.map(|_| W_OUT + 1);
        let bias_out = self.output.bias.map(|_| W_OUT + 1 + usize::from(bias_in.is_some()));
        Ok(Shape { width, inner, mixed, eps: self.eps, bias_in, bias_out })
    }
}

/// `x + mlp(norm(x))`, the MLP a SwiGLU whose first projection holds gate and up one after the other: `x` and result `[T, D]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn mlp_block(x: &Tensor, block: &Block) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let inner = block.input.weight.dim(0)?;
    let shape = block.shape("mlp_block", width, inner, inner / 2)?;
    let inputs = block.inputs(x);
    if !is_fused(&inputs) {
        let h = super::linear(&rms_norm(x, block.norm, block.eps)?, block.input.weight, block.input.bias, None)?;
        return super::linear(&swiglu(&h)?, block.output.weight, block.output.bias, Some(x));
    }
    let keep = inputs.iter().any(|t| t.track_op());
    let (out, gate_up) = read(&inputs, |v| {
        let mut gate_up = Vec::new();
        let out = written(t * width, |out| gate_up = mlp_forward(out, v, shape, keep));
        Ok((out, gate_up))
    })?;
    node("mlp_block", &inputs, out, (t, width), move |b| Ok(mlp_backward(b, &gate_up, shape)))
}

/// `x + attention(norm(x))`, the first projection giving queries, keys and values one after another: `x` and result `[T, D]`.
/// The rest is as in [`rope_attention`].
///
/// # Errors
/// If the shapes do not fit.
pub fn attention_block(x: &Tensor, block: &Block, rope: &Rope, heads: Heads, cu_seqlens: &Arc<[u32]>, causal: bool) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    let shape = block.shape("attention_block", width, heads.qkv_width(), heads.out_width())?;
    attention::check((t, heads.qkv_width()), rope, heads, cu_seqlens)?;
    let inputs = block.inputs(x);
    if !is_fused(&inputs) {
        let qkv = super::linear(&rms_norm(x, block.norm, block.eps)?, block.input.weight, block.input.bias, None)?;
        let mixed = rope_attention(&qkv, rope, heads, cu_seqlens, causal)?;
        return super::linear(&mixed, block.output.weight, block.output.bias, Some(x));
    }
    let sequences = Sequences { rope: rope.clone(), heads, cu_seqlens: cu_seqlens.clone(), causal };
    let keep = inputs.iter().any(|t| t.track_op());
    let (out, kept) = read(&inputs, |v| {
        let mut kept = Kept::default();
        let out = written(t * width, |out| kept = attention_forward(out, v, shape, &sequences, keep));
        Ok((out, kept))
    })?;
    node("attention_block", &inputs, out, (t, width), move |b| Ok(attention_backward(b, &kept, shape, &sequences)))
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `N` pieces of memory of the given sizes, kept from call to call; what they hold is of no interest.
fn with_scratch<const N: usize, R>(sizes: [usize; N], f: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    // Taken out of the thread's place while `f` runs, so that nothing stays borrowed.
    let mut pieces = SCRATCH.take();
    pieces.resize_with(pieces.len().max(N), Vec::new);
    let mut iter = pieces.iter_mut();
    let slices = sizes.map(|size| match iter.next() {
        Some(piece) => {
            if piece.len() < size {
                piece.resize(size, 0.0);
            }
            &mut piece[..size]
        }
        None => &mut [],
    });
    let result = f(slices);
    SCRATCH.set(pieces);
    result
}

/// Rows `from..to` of a matrix `width` wide.
fn rows(x: &[f32], (from, to): (usize, usize), width: usize) -> &[f32] {
    &x[from * width..to * width]
}

fn rows_mut(x: &mut [f32], (from, to): (usize, usize), width: usize) -> &mut [f32] {
    &mut x[from * width..to * width]
}

/// Ranges of [`ROWS`] rows.
fn row_ranges(t: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..t).step_by(ROWS).map(move |from| (from, (from + ROWS).min(t)))
}

/// Returns gate and up `[T, 2I]` if `keep`.
fn mlp_forward(out: &mut [f32], v: &[&[f32]], s: Shape, keep: bool) -> Vec<f32> {
    let t = v[X].len() / s.width.max(1);
    let block = ROWS.min(t);
    let (w_in, w_out) = s.forward_weights(v);
    let mut compute = |kept: &mut [f32]| {
        with_scratch([block * s.width, if keep { 0 } else { block * s.inner }, block * s.mixed], |[normed, scratch, mixed]| {
            for range in row_ranges(t) {
                let n = range.1 - range.0;
                let x = rows(v[X], range, s.width);
                let gate_up = if keep { rows_mut(kept, range, s.inner) } else { &mut scratch[..n * s.inner] };
                let (normed, mixed) = (&mut normed[..n * s.width], &mut mixed[..n * s.mixed]);
                norm::forward(normed, x, v[NORM], s.eps);
                linear::forward(gate_up, normed, &w_in, s.bias_in.map(|i| v[i]), None, (n, s.width, s.inner));
                swiglu_forward(mixed, gate_up, s.mixed);
                let out = rows_mut(out, range, s.width);
                linear::forward(out, mixed, &w_out, s.bias_out.map(|i| v[i]), Some(x), (n, s.mixed, s.width));
            }
        });
    };
    if keep {
        written(t * s.inner, compute)
    } else {
        compute(&mut []);
        Vec::new()
    }
}

/// Gradients of a block's parameters, added to range by range; empty where not wanted.
struct Sums {
    norm: Vec<f32>,
    w_in: Vec<f32>,
    w_out: Vec<f32>,
    bias_in: Vec<f32>,
    bias_out: Vec<f32>,
}

impl Sums {
    fn new(b: &Backward, s: Shape) -> Self {
        let zeros = |i: Option<usize>| vec![0.0; i.filter(|&i| b.wanted[i]).map_or(0, |i| b.inputs[i].len())];
        Self {
            // Falls out of the gradient of x whether it is wanted or not.
            norm: vec![0.0; s.width],
            w_in: zeros(Some(W_IN)),
            w_out: zeros(Some(W_OUT)),
            bias_in: zeros(s.bias_in),
            bias_out: zeros(s.bias_out),
        }
    }

    /// The last projection's: `grad` is the gradient of the block's result, `mixed` what was projected.
    fn add_output(&mut self, grad: &[f32], mixed: &[f32], n: usize, s: Shape) {
        add_weight(&mut self.w_out, &mut self.bias_out, grad, mixed, (n, s.mixed, s.width));
    }

    /// The first projection's: `grad` is the gradient of its result, `normed` what was projected.
    fn add_input(&mut self, grad: &[f32], normed: &[f32], n: usize, s: Shape) {
        add_weight(&mut self.w_in, &mut self.bias_in, grad, normed, (n, s.width, s.inner));
    }

    fn into_gradients(self, dx: Vec<f32>, s: Shape, num: usize) -> Vec<Option<Vec<f32>>> {
        let mut gradients = vec![None; num];
        let places = [(Some(X), dx), (Some(NORM), self.norm), (Some(W_IN), self.w_in), (Some(W_OUT), self.w_out)];
        for (place, values) in places.into_iter().chain([(s.bias_in, self.bias_in), (s.bias_out, self.bias_out)]) {
            if let Some(place) = place {
                gradients[place] = Some(values);
            }
        }
        gradients
    }
}

fn add_weight(dw: &mut [f32], db: &mut [f32], grad: &[f32], x: &[f32], (n, input, output): (usize, usize, usize)) {
    if !dw.is_empty() {
        matmul(dw, input, Mat::rows(grad, output).t(), Mat::rows(x, input), (output, input, n), true);
    }
    if !db.is_empty() {
        grad.chunks_exact(output).for_each(|row| add_assign(db, row));
    }
}

fn mlp_backward(b: &Backward, gate_up: &[f32], s: Shape) -> Vec<Option<Vec<f32>>> {
    let v = b.inputs;
    let t = v[X].len() / s.width.max(1);
    let block = ROWS.min(t);
    let mut sums = Sums::new(b, s);
    let (w_in, w_out) = s.backward_weights(v);
    let sizes = [block * s.width, block * s.width, block * s.mixed, block * s.mixed, block * s.inner];
    let dx = written(v[X].len(), |dx| {
        with_scratch(sizes, |[normed, d_normed, mixed, d_mixed, d_inner]| {
            for range in row_ranges(t) {
                let n = range.1 - range.0;
                let (x, grad, gate_up) = (rows(v[X], range, s.width), rows(b.grad, range, s.width), rows(gate_up, range, s.inner));
                let (normed, d_normed) = (&mut normed[..n * s.width], &mut d_normed[..n * s.width]);
                let (mixed, d_mixed, d_inner) = (&mut mixed[..n * s.mixed], &mut d_mixed[..n * s.mixed], &mut d_inner[..n * s.inner]);
                if b.wanted[W_OUT] {
                    swiglu_forward(mixed, gate_up, s.mixed);
                }
                sums.add_output(grad, mixed, n, s);
                matmul(d_mixed, s.mixed, Mat::rows(grad, s.width), &w_out, (n, s.mixed, s.width), false);
                swiglu_backward(d_inner, gate_up, d_mixed, s.mixed);
                if b.wanted[W_IN] {
                    norm::forward(normed, x, v[NORM], s.eps);
                }
                sums.add_input(d_inner, normed, n, s);
                matmul(d_normed, s.width, Mat::rows(d_inner, s.inner), &w_in, (n, s.width, s.inner), false);
                norm::backward(rows_mut(dx, range, s.width), &mut sums.norm, x, v[NORM], d_normed, s.eps, Some(grad));
            }
        });
    });
    sums.into_gradients(dx, s, v.len())
}

/// How the rows of an attention block form sequences.
struct Sequences {
    rope: Rope,
    heads: Heads,
    cu_seqlens: Arc<[u32]>,
    causal: bool,
}

impl Sequences {
    /// Neighbouring sequences of together about [`ROWS`] rows: their ends within `cu_seqlens`, and their rows.
    fn groups(&self) -> Vec<(&[u32], (usize, usize))> {
        let mut groups = Vec::new();
        let mut first = 0;
        for i in 1..self.cu_seqlens.len() {
            let (from, to) = (self.cu_seqlens[first] as usize, self.cu_seqlens[i] as usize);
            if to - from >= ROWS || i + 1 == self.cu_seqlens.len() {
                groups.push((&self.cu_seqlens[first..=i], (from, to)));
                first = i;
            }
        }
        groups
    }
}

/// What an attention block keeps for its backward.
#[derive(Default)]
struct Kept {
    /// Queries, keys and values `[T, (Hq + 2·Hkv)·Dh]`, not rotated.
    qkv: Vec<f32>,
    /// Result of the attention `[T, Hq·Dh]`.
    mixed: Vec<f32>,
    /// `[T, Hq]`
    log_sums: Vec<f32>,
}

fn attention_forward(out: &mut [f32], v: &[&[f32]], s: Shape, sequences: &Sequences, keep: bool) -> Kept {
    let t = v[X].len() / s.width.max(1);
    let groups = sequences.groups();
    let largest = groups.iter().map(|(_, (from, to))| to - from).max().unwrap_or(0);
    let scratch_rows = if keep { 0 } else { largest };
    let mut kept = Kept { log_sums: vec![0.0; if keep { t * sequences.heads.q } else { 0 }], ..Kept::default() };
    let (w_in, w_out) = s.forward_weights(v);
    let (log_sums, mixed) = (&mut kept.log_sums, &mut kept.mixed);
    let mut compute = |all_qkv: &mut [f32], all_mixed: &mut [f32]| {
        let sizes = [largest * s.width, scratch_rows * s.inner, scratch_rows * s.mixed];
        with_scratch(sizes, |[normed, qkv_scratch, mixed_scratch]| {
            for &(cu_seqlens, range) in &groups {
                let n = range.1 - range.0;
                let x = rows(v[X], range, s.width);
                let normed = &mut normed[..n * s.width];
                let (qkv, mixed) = if keep {
                    (rows_mut(all_qkv, range, s.inner), rows_mut(all_mixed, range, s.mixed))
                } else {
                    (&mut qkv_scratch[..n * s.inner], &mut mixed_scratch[..n * s.mixed])
                };
                norm::forward(normed, x, v[NORM], s.eps);
                linear::forward(qkv, normed, &w_in, s.bias_in.map(|i| v[i]), None, (n, s.width, s.inner));
                let log_sums = if keep { rows_mut(log_sums, range, sequences.heads.q) } else { &mut [] };
                attention::forward(mixed, log_sums, qkv, &sequences.rope, sequences.heads, cu_seqlens, sequences.causal);
                let out = rows_mut(out, range, s.width);
                linear::forward(out, mixed, &w_out, s.bias_out.map(|i| v[i]), Some(x), (n, s.mixed, s.width));
            }
        });
    };
    if keep {
        kept.qkv = written(t * s.inner, |qkv| *mixed = written(t * s.mixed, |mixed| compute(qkv, mixed)));
    } else {
        compute(&mut [], &mut []);
    }
    kept
}

fn attention_backward(b: &Backward, kept: &Kept, s: Shape, sequences: &Sequences) -> Vec<Option<Vec<f32>>> {
    let v = b.inputs;
    let groups = sequences.groups();
    let largest = groups.iter().map(|(_, (from, to))| to - from).max().unwrap_or(0);
    let mut sums = Sums::new(b, s);
    let (w_in, w_out) = s.backward_weights(v);
    let sizes = [largest * s.width, largest * s.width, largest * s.mixed, largest * s.inner];
    let dx = written(v[X].len(), |dx| {
        with_scratch(sizes, |[normed, d_normed, d_mixed, d_qkv]| {
            for &(cu_seqlens, range) in &groups {
                let n = range.1 - range.0;
                let (x, grad) = (rows(v[X], range, s.width), rows(b.grad, range, s.width));
                let (qkv, mixed) = (rows(&kept.qkv, range, s.inner), rows(&kept.mixed, range, s.mixed));
                let log_sums = rows(&kept.log_sums, range, sequences.heads.q);
                let (normed, d_normed) = (&mut normed[..n * s.width], &mut d_normed[..n * s.width]);
                let (d_mixed, d_qkv) = (&mut d_mixed[..n * s.mixed], &mut d_qkv[..n * s.inner]);
                sums.add_output(grad, mixed, n, s);
                matmul(d_mixed, s.mixed, Mat::rows(grad, s.width), &w_out, (n, s.mixed, s.width), false);
                let saved = attention::Saved { qkv, out: mixed, log_sums };
                attention::backward(d_qkv, saved, d_mixed, &sequences.rope, sequences.heads, cu_seqlens, sequences.causal);
                if b.wanted[W_IN] {
                    norm::forward(normed, x, v[NORM], s.eps);
                }
                sums.add_input(d_qkv, normed, n, s);
                matmul(d_normed, s.width, Mat::rows(d_qkv, s.inner), &w_in, (n, s.width, s.inner), false);
                norm::backward(rows_mut(dx, range, s.width), &mut sums.norm, x, v[NORM], d_normed, s.eps, Some(grad));
            }
        });
    });
    sums.into_gradients(dx, s, v.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_rows_once() {
        let cu_seqlens: Arc<[u32]> = vec![0, 100, 100, 150, 400, 401].into();
        let rope = Rope::new(Vec::new(), Vec::new()).unwrap();
        let s = Sequences { rope, heads: Heads { q: 1, kv: 1, dim: 2 }, cu_seqlens, causal: true };
        let rows: Vec<_> = s.groups().into_iter().map(|(_, rows)| rows).collect();
        assert_eq!(rows, [(0, 400), (400, 401)]);
    }
}

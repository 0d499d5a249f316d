//! Rotary attention over packed sequences.
//!
//! Legend: `L` tokens of a sequence, `G` query heads per key/value head, `Dh` width of a head. Query rows of one key/value head are
//! gathered as `[L·G, Dh]`, the heads of a token next to one another, so that one product serves the whole group.
//!
//! Scores exist for a block of query rows at a time. Forward keeps the logarithm of each row's sum of exponentials; backward
//! recomputes the probabilities from it (Dao et al. 2022), so nothing of size `L × L` is kept.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::matmul::{Mat, matmul};
use super::node::{is_fused, node, read, written};
use super::plain::{self, segments};
use super::simd::{LANES, Lanes, dot, load, store};
use super::threads::{self, SharedMut};

/// Query rows of a block of scores, about.
const ROWS: usize = 64;

/// Head counts of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads, a multiple of `kv`.
    pub q: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of a head, even.
    pub dim: usize,
}

impl Heads {
    /// Width of a packed `[q | k | v]` row.
    pub fn qkv_width(&self) -> usize {
        (self.q + 2 * self.kv) * self.dim
    }

    /// Width of the result, `Hq · Dh`.
    pub fn out_width(&self) -> usize {
        self.q * self.dim
    }

    /// Query heads per key/value head.
    pub(super) fn group(&self) -> usize {
        self.q / self.kv
    }

    /// What scores are multiplied by.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Rotation tables, one row per token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
}

impl Rope {
    /// Tables `cos` and `sin`, row-major `[T, Dh / 2]`.
    ///
    /// # Errors
    /// If they differ in length.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>) -> Result<Self> {
        if cos.len() != sin.len() {
            bail!("rotation tables differ in length: cos has {}, sin {}", cos.len(), sin.len());
        }
        Ok(Self { cos: Arc::new(cos), sin: Arc::new(sin) })
    }

    /// Cosines, row-major `[T, Dh / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines, row-major `[T, Dh / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// The rows of token `t` for heads of width `dim`.
    pub(super) fn at(&self, t: usize, dim: usize) -> (&[f32], &[f32]) {
        let half = dim / 2;
        (&self.cos[t * half..][..half], &self.sin[t * half..][..half])
    }
}

/// Checks that `t` rows of `width` values, tables, heads and sequences fit together.
pub(super) fn check((t, width): (usize, usize), rope: &Rope, heads: Heads, cu_seqlens: &[u32]) -> Result<()> {
    if heads.kv == 0 || !heads.q.is_multiple_of(heads.kv) || !heads.dim.is_multiple_of(2) || width != heads.qkv_width() {
        bail!("rope_attention: qkv [{t}, {width}] and {heads:?} do not fit together");
    }
    if rope.cos.len() != t * heads.dim / 2 {
        bail!("rope_attention: {t} tokens of {} frequencies need tables of {}, got {}", heads.dim / 2, t * heads.dim / 2, rope.cos.len());
    }
    let ordered = cu_seqlens.windows(2).all(|w| w[0] <= w[1]);
    if cu_seqlens.first() != Some(&0) || cu_seqlens.last().map(|&end| end as usize) != Some(t) || !ordered {
        bail!("rope_attention: cu_seqlens must rise from 0 to the number of tokens {t}");
    }
    Ok(())
}

/// Attention within each sequence, with rotary positions applied to queries and keys (first and second half of a head turn
/// together, as in Hugging Face's models).
///
/// `qkv` `[T, (Hq + 2·Hkv)·Dh]` holds queries, keys and values side by side; `cu_seqlens` `[S + 1]` says where each
/// sequence begins and ends. The result is `[T, Hq·Dh]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn rope_attention(qkv: &Tensor, rope: &Rope, heads: Heads, cu_seqlens: &Arc<[u32]>, causal: bool) -> Result<Tensor> {
    let (t, width) = qkv.dims2()?;
    check((t, width), rope, heads, cu_seqlens)?;
    if !is_fused(&[qkv]) {
        return plain::rope_attention(qkv, rope, heads, cu_seqlens, causal);
    }
    let mut log_sums = vec![0.0; if qkv.track_op() { t * heads.q } else { 0 }];
    let out =
        read(&[qkv], |v| Ok(written(t * heads.out_width(), |out| forward(out, &mut log_sums, v[0], rope, heads, cu_seqlens, causal))))?;
    let (rope, cu_seqlens) = (rope.clone(), cu_seqlens.clone());
    node("rope_attention", &[qkv], out, (t, heads.out_width()), move |b| {
        let saved = Saved { qkv: b.inputs[0], out: b.out, log_sums: &log_sums };
        Ok(vec![Some(written(t * width, |d_qkv| backward(d_qkv, saved, b.grad, &rope, heads, &cu_seqlens, causal)))])
    })
}

/// Turns `x`, one head of a token, by the token's angles and multiplies by `scale`.
#[inline]
pub(super) fn rotate(y: &mut [f32], x: &[f32], (cos, sin): (&[f32], &[f32]), scale: f32) {
    let half = cos.len();
    let ((y1, y2), (x1, x2)) = (y.split_at_mut(half), x.split_at(half));
    let scale = Lanes::splat(scale);
    for i in (0..half).step_by(LANES) {
        let (c, s) = (load(cos, i) * scale, load(sin, i) * scale);
        let (a, b) = (load(x1, i), load(x2, i));
        store(y1, i, a * c - b * s);
        store(y2, i, a.mul_add(s, b * c));
    }
}

/// Turns back: the transpose of [`rotate`], hence the backward of it.
#[inline]
fn rotate_back(y: &mut [f32], x: &[f32], (cos, sin): (&[f32], &[f32]), scale: f32) {
    let half = cos.len();
    let ((y1, y2), (x1, x2)) = (y.split_at_mut(half), x.split_at(half));
    let scale = Lanes::splat(scale);
    for i in (0..half).step_by(LANES) {
        let (c, s) = (load(cos, i) * scale, load(sin, i) * scale);
        let (a, b) = (load(x1, i), load(x2, i));
        store(y1, i, a.mul_add(c, b * s));
        store(y2, i, b * c - a * s);
    }
}

/// Exponentials of `scores` less their maximum, in place; returns (maximum, sum). The order of the sum depends on the length only.
#[inline]
pub(super) fn exp_row(scores: &mut [f32]) -> (f32, f32) {
    let whole = scores.len() / LANES * LANES;
    let mut max = Lanes::splat(f32::NEG_INFINITY);
    for i in (0..whole).step_by(LANES) {
        max = max.max(load(scores, i));
    }
    let max = scores[whole..].iter().fold(max.max_lane(), |m, &x| m.max(x));
    let shift = Lanes::splat(max);
    let mut sum = Lanes::splat(0.0);
    for i in (0..whole).step_by(LANES) {
        let e = (load(scores, i) - shift).exp();
        store(scores, i, e);
        sum = sum + e;
    }
    let mut total = sum.sum();
    if whole < scores.len() {
        let e = (load(scores, whole) - shift).exp();
        store(scores, whole, e);
        total += scores[whole..].iter().sum::<f32>();
    }
    (max, total)
}

thread_local! {
    /// Room for one sequence's gathered rows and blocks of scores, kept from call to call.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with as many uninitialised pieces of scratch memory as `sizes` names.
fn with_scratch<const N: usize>(sizes: [usize; N], f: impl FnOnce([&mut [f32]; N])) {
    SCRATCH.with_borrow_mut(|scratch| {
        let total = sizes.iter().sum();
        if scratch.len() < total {
            scratch.resize(total, 0.0);
        }
        let mut rest = &mut scratch[..];
        f(sizes.map(|size| {
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            piece
        }));
    });
}

/// One sequence and one key/value head of a packed batch.
#[derive(Clone, Copy)]
struct Part<'a> {
    rope: &'a Rope,
    heads: Heads,
    /// Row of the first token in the tables.
    first_angle: usize,
    /// Row of the first token in queries, keys, values and results.
    start: usize,
    len: usize,
    kv: usize,
}

impl Part<'_> {
    /// Where query head `g` of the group begins in row `i` of the sequence in `qkv`.
    fn query(&self, i: usize, g: usize) -> usize {
        (self.start + i) * self.heads.qkv_width() + (self.kv * self.heads.group() + g) * self.heads.dim
    }
    fn key(&self, i: usize) -> usize {
        (self.start + i) * self.heads.qkv_width() + (self.heads.q + self.kv) * self.heads.dim
    }
    fn value(&self, i: usize) -> usize {
        self.key(i) + self.heads.kv * self.heads.dim
    }
    /// Where query head `g` of the group begins in row `i` of the sequence in the result.
    fn out(&self, i: usize, g: usize) -> usize {
        (self.start + i) * self.heads.out_width() + (self.kv * self.heads.group() + g) * self.heads.dim
    }
    fn log_sum(&self, i: usize, g: usize) -> usize {
        (self.start + i) * self.heads.q + self.kv * self.heads.group() + g
    }
    fn angles(&self, i: usize) -> (&[f32], &[f32]) {
        self.rope.at(self.first_angle + i, self.heads.dim)
    }
    fn rows(&self) -> usize {
        self.len * self.heads.group()
    }
    /// Values as a matrix `[L, Dh]`.
    fn values<'b>(&self, qkv: &'b [f32]) -> Mat<'b> {
        Mat::rows(&qkv[self.value(0)..], self.heads.qkv_width())
    }

    /// Rotated queries `[L·G, Dh]` (times the scale of scores) and keys `[L, Dh]`.
    fn gather(&self, q: &mut [f32], k: &mut [f32], qkv: &[f32]) {
        let (dim, group) = (self.heads.dim, self.heads.group());
        for i in 0..self.len {
            let angles = self.angles(i);
            for g in 0..group {
                rotate(&mut q[(i * group + g) * dim..][..dim], &qkv[self.query(i, g)..][..dim], angles, self.heads.scale());
            }
            rotate(&mut k[i * dim..][..dim], &qkv[self.key(i)..][..dim], angles, 1.0);
        }
    }

    /// Blocks of queries: (first token, tokens, keys seen by any of them).
    fn blocks(self, causal: bool) -> impl Iterator<Item = (usize, usize, usize)> {
        let step = (ROWS / self.heads.group()).max(1);
        (0..self.len).step_by(step).map(move |i| {
            let n = step.min(self.len - i);
            (i, n, if causal { i + n } else { self.len })
        })
    }
}

/// Calls `f` for every sequence and key/value head, on several threads where allowed.
fn for_each_part(rope: &Rope, heads: Heads, cu_seqlens: &[u32], f: impl Fn(Part) + Sync) {
    let base = cu_seqlens.first().map_or(0, |&first| first as usize);
    let part = |(start, end), kv| Part { rope, heads, first_angle: start, start: start - base, len: end - start, kv };
    let parts: Vec<Part> = segments(cu_seqlens).flat_map(|segment| (0..heads.kv).map(move |kv| part(segment, kv))).collect();
    let work = parts.iter().map(|p| 4 * p.rows() * p.len * heads.dim).sum();
    threads::split(parts.len(), work, |from, to| parts[from..to].iter().for_each(|&part| f(part)));
}

/// Writes the result `out` `[T, Hq·Dh]` and, unless it is empty, `log_sums` `[T, Hq]`.
///
/// `cu_seqlens` may be a stretch out of the middle: its first entry names the row of `rope` at which `qkv` begins.
pub(super) fn forward(out: &mut [f32], log_sums: &mut [f32], qkv: &[f32], rope: &Rope, heads: Heads, cu_seqlens: &[u32], causal: bool) {
    let (dim, group) = (heads.dim, heads.group());
    let keep_log_sums = !log_sums.is_empty();
    let (out, log_sums) = (SharedMut::new(out), SharedMut::new(log_sums));
    for_each_part(rope, heads, cu_seqlens, |part| {
        // SAFETY: a part writes to its own tokens and heads only.
        let (out, log_sums) = unsafe { (out.get(), log_sums.get()) };
        let rows = part.rows();
        let step = (ROWS / group).max(1).min(part.len) * group;
        with_scratch([rows * dim, part.len * dim, step * part.len, step * dim, step], |[q, k, scores, mixed, scales]| {
            part.gather(q, k, qkv);
            for (i, n, seen) in part.blocks(causal) {
                let rows = n * group;
                let queries = Mat::rows(&q[i * group * dim..][..rows * dim], dim);
                matmul(scores, seen, queries, Mat::rows(k, dim).t(), (rows, seen, dim), false);
                for (r, row) in scores.chunks_exact_mut(seen).take(rows).enumerate() {
                    let visible = if causal { i + r / group + 1 } else { seen };
                    let (max, sum) = exp_row(&mut row[..visible]);
                    row[visible..].fill(0.0);
                    scales[r] = 1.0 / sum;
                    if keep_log_sums {
                        log_sums[part.log_sum(i + r / group, r % group)] = max + sum.ln();
                    }
                }
                matmul(mixed, dim, Mat::rows(scores, seen), part.values(qkv), (rows, dim, seen), false);
                for (r, (row, &scale)) in mixed.chunks_exact(dim).zip(scales.iter()).take(rows).enumerate() {
                    let to = &mut out[part.out(i + r / group, r % group)..][..dim];
                    let scale = Lanes::splat(scale);
                    for j in (0..dim).step_by(LANES) {
                        store(to, j, load(row, j) * scale);
                    }
                }
            }
        });
    });
}

/// What the forward leaves to the backward.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub qkv: &'a [f32],
    pub out: &'a [f32],
    pub log_sums: &'a [f32],
}

/// Writes the gradient `d_qkv` from that of the result, `grad`. `cu_seqlens` is as in [`forward`].
pub(super) fn backward(
    d_qkv: &mut [f32],
    Saved { qkv, out, log_sums }: Saved,
    grad: &[f32],
    rope: &Rope,
    heads: Heads,
    cu_seqlens: &[u32],
    causal: bool,
) {
    let (dim, group) = (heads.dim, heads.group());
    let d_qkv = SharedMut::new(d_qkv);
    for_each_part(rope, heads, cu_seqlens, |part| {
        // SAFETY: a part writes to its own tokens and heads only.
        let d_qkv = unsafe { d_qkv.get() };
        let rows = part.rows();
        let len = part.len;
        let step = (ROWS / group).max(1).min(len) * group;
        let sizes = [rows * dim, len * dim, step * len, step * len, step * dim, step * dim, len * dim, len * dim];
        with_scratch(sizes, |[q, k, p, d_p, d_out, d_q, d_k, d_v]| {
            part.gather(q, k, qkv);
            d_k.fill(0.0);
            d_v.fill(0.0);
            for (i, n, seen) in part.blocks(causal) {
                let rows = n * group;
                for r in 0..rows {
                    let from = part.out(i + r / group, r % group);
                    d_out[r * dim..][..dim].copy_from_slice(&grad[from..][..dim]);
                }
                let queries = Mat::rows(&q[i * group * dim..][..rows * dim], dim);
                let d_rows = Mat::rows(d_out, dim);
                matmul(p, seen, queries, Mat::rows(k, dim).t(), (rows, seen, dim), false);
                matmul(d_p, seen, d_rows, part.values(qkv).t(), (rows, seen, dim), false);
                for (r, (p, d_p)) in p.chunks_exact_mut(seen).zip(d_p.chunks_exact_mut(seen)).take(rows).enumerate() {
                    let (token, g) = (i + r / group, r % group);
                    let visible = if causal { token + 1 } else { seen };
                    let from = part.out(token, g);
                    // Σ_j p·dp of the row, from the result: (Dao et al. 2022, eq. 4)
                    let mean = Lanes::splat(dot(&grad[from..][..dim], &out[from..][..dim]));
                    let shift = Lanes::splat(log_sums[part.log_sum(token, g)]);
                    let (p_seen, p_rest) = p.split_at_mut(visible);
                    let (d_seen, d_rest) = d_p.split_at_mut(visible);
                    for j in (0..visible).step_by(LANES) {
                        let e = (load(p_seen, j) - shift).exp();
                        let d = e * (load(d_seen, j) - mean);
                        store(p_seen, j, e);
                        store(d_seen, j, d);
                    }
                    p_rest.fill(0.0);
                    d_rest.fill(0.0);
                }
                let (p, d_s) = (Mat::rows(p, seen), Mat::rows(d_p, seen));
                matmul(d_v, dim, p.t(), d_rows, (seen, dim, rows), true);
                matmul(d_k, dim, d_s.t(), queries, (seen, dim, rows), true);
                matmul(d_q, dim, d_s, Mat::rows(k, dim), (rows, dim, seen), false);
                for r in 0..rows {
                    let (token, g) = (i + r / group, r % group);
                    let to = &mut d_qkv[part.query(token, g)..][..dim];
                    rotate_back(to, &d_q[r * dim..][..dim], part.angles(token), heads.scale());
                }
            }
            for i in 0..len {
                let angles = part.angles(i);
                rotate_back(&mut d_qkv[part.key(i)..][..dim], &d_k[i * dim..][..dim], angles, 1.0);
                d_qkv[part.value(i)..][..dim].copy_from_slice(&d_v[i * dim..][..dim]);
            }
        });
    });
}

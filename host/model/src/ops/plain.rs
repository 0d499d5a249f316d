//! The same operations composed of plain, differentiable candle operations.
//!
//! They run where no fused kernel exists (other devices, other dtypes) and are what the tests compare the kernels with.

use candle_core::{D, DType, IndexOp, Result, Tensor};

use super::{Heads, Rope};

/// `x · wᵀ + bias + residual`; see [`super::linear`].
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    let mut y = x.matmul(&w.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    if let Some(residual) = residual {
        y = (y + residual)?;
    }
    Ok(y)
}

/// Root-mean-square normalisation, computed in `f32`; see [`super::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?;
    x.broadcast_mul(&scale)?.to_dtype(dtype)?.broadcast_mul(weight)
}

/// Softmax over the last dimension with a backward.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let max = x.detach().max_keepdim(D::Minus1)?;
    let exp = x.broadcast_sub(&max)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// Rotates `x` `[T, H, Dh]` by the tables `cos` and `sin` `[T, Dh / 2]`, halves convention.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

/// Queries, keys and values, each `[T, H, Dh]`, the first two rotated.
fn split_and_rotate(qkv: &Tensor, rope: &Rope, heads: Heads) -> Result<(Tensor, Tensor, Tensor)> {
    let t = qkv.dim(0)?;
    let half = heads.dim / 2;
    let table = |v: &[f32]| Tensor::from_slice(v, (t, half), qkv.device())?.to_dtype(qkv.dtype());
    let (cos, sin) = (table(rope.cos())?, table(rope.sin())?);
    let part = |start: usize, n: usize| qkv.narrow(1, start * heads.dim, n * heads.dim)?.reshape((t, n, heads.dim));
    let q = rotate(&part(0, heads.q)?, &cos, &sin)?;
    let k = rotate(&part(heads.q, heads.kv)?, &cos, &sin)?;
    let v = part(heads.q + heads.kv, heads.kv)?;
    Ok((q, k, v))
}

/// Attention of `q` `[L, Hq, Dh]` over `k`, `v` `[S, Hkv, Dh]`; query `i` sees keys up to `i + S - L` when causal.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, causal: bool) -> Result<Tensor> {
    let (l, s, group) = (q.dim(0)?, k.dim(0)?, heads.q / heads.kv);
    // (L, H, Dh) -> (Hkv, group·L, Dh)
    let q = q.reshape((l, heads.kv, group, heads.dim))?.permute((1, 2, 0, 3))?.contiguous()?.reshape((heads.kv, group * l, heads.dim))?;
    let k = k.transpose(0, 1)?.contiguous()?;
    let v = v.transpose(0, 1)?.contiguous()?;
    let mut scores = (q.matmul(&k.t()?)? * (1.0 / (heads.dim as f64).sqrt()))?;
    if causal {
        let mask: Vec<f32> =
            (0..group * l).flat_map(|i| (0..s).map(move |j| if j <= i % l + s - l { 0.0 } else { f32::NEG_INFINITY })).collect();
        let mask = Tensor::from_vec(mask, (1, group * l, s), q.device())?.to_dtype(q.dtype())?;
        scores = scores.broadcast_add(&mask)?;
    }
    let out = softmax(&scores)?.matmul(&v)?;
    // (Hkv, group·L, Dh) -> (L, Hq·Dh)
    out.reshape((heads.kv, group, l, heads.dim))?.permute((2, 0, 1, 3))?.contiguous()?.reshape((l, heads.q * heads.dim))
}

/// Rotary attention over packed sequences; see [`super::rope_attention`].
pub fn rope_attention(qkv: &Tensor, rope: &Rope, heads: Heads, cu_seqlens: &[u32], causal: bool) -> Result<Tensor> {
    let (q, k, v) = split_and_rotate(qkv, rope, heads)?;
    let mut out = Vec::with_capacity(cu_seqlens.len());
    for (start, end) in segments(cu_seqlens) {
        let at = |x: &Tensor| x.narrow(0, start, end - start);
        out.push(attend(&at(&q)?, &at(&k)?, &at(&v)?, heads, causal)?);
    }
    if out.is_empty() {
        return Tensor::zeros((0, heads.q * heads.dim), qkv.dtype(), qkv.device());
    }
    Tensor::cat(&out, 0)
}

/// Appends the new keys and values to each sequence's pair and attends; see [`super::rope_attention_cached`].
pub(super) fn rope_attention_cached(
    qkv: &Tensor,
    rope: &Rope,
    heads: Heads,
    cu_seqlens: &[u32],
    caches: &mut [&mut Option<(Tensor, Tensor)>],
) -> Result<Tensor> {
    let (q, k, v) = split_and_rotate(qkv, rope, heads)?;
    let mut out = Vec::with_capacity(caches.len());
    for (cache, range) in caches.iter_mut().zip(cu_seqlens.windows(2)) {
        let (start, len) = (range[0] as usize, (range[1] - range[0]) as usize);
        if len == 0 {
            continue;
        }
        let (mut k, mut v) = (k.narrow(0, start, len)?, v.narrow(0, start, len)?);
        if let Some((old_k, old_v)) = cache.take() {
            k = Tensor::cat(&[old_k, k], 0)?;
            v = Tensor::cat(&[old_v, v], 0)?;
        }
        out.push(attend(&q.narrow(0, start, len)?, &k, &v, heads, true)?);
        **cache = Some((k.detach(), v.detach()));
    }
    Ok(Tensor::cat(&out, 0)?.detach())
}

/// `silu(gate) · up` of `[gate | up]`; see [`super::swiglu`].
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(1)? / 2;
    gate_up.narrow(1, 0, inner)?.silu()? * gate_up.narrow(1, inner, inner)?
}

/// Rows of a table by index; see [`super::embedding`] and [`super::take_rows`].
pub fn take_rows(x: &Tensor, idx: &[u32]) -> Result<Tensor> {
    x.index_select(&Tensor::from_slice(idx, idx.len(), x.device())?, 0)
}

/// Replaces rows of `base`; see [`super::splice_rows`].
pub fn splice_rows(base: &Tensor, rows: &Tensor, at: &[u32]) -> Result<Tensor> {
    let t = base.dim(0)?;
    if at.is_empty() {
        return Ok(base.clone());
    }
    // Row i of the result is row from[i] of [base ; rows].
    let mut from: Vec<u32> = (0..t as u32).collect();
    for (row, &i) in at.iter().enumerate() {
        from[i as usize] = (t + row) as u32;
    }
    take_rows(&Tensor::cat(&[base, rows], 0)?, &from)
}

/// Log-probabilities of `targets` and the entropy of each row, in `f32`; see [`super::target_logprob_entropy`].
pub fn target_logprob_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<(Tensor, Tensor)> {
    let logits = (hidden.matmul(&head.t()?)?.to_dtype(DType::F32)? / f64::from(temperature))?;
    let logits = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let exp = logits.exp()?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    let log_sum = sum.log()?;
    let index = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    let logprob = (logits.gather(&index, D::Minus1)? - &log_sum)?.i((.., 0))?;
    let mean_logit = (exp.broadcast_div(&sum)? * logits)?.sum(D::Minus1)?;
    let entropy = (log_sum.i((.., 0))? - mean_logit)?;
    Ok((logprob, entropy))
}

/// The non-empty sequences of `cu_seqlens` as (start, end).
pub(super) fn segments(cu_seqlens: &[u32]) -> impl Iterator<Item = (usize, usize)> + '_ {
    cu_seqlens.windows(2).map(|w| (w[0] as usize, w[1] as usize)).filter(|(start, end)| end > start)
}

//! Attention of new tokens over a growing cache.
//!
//! Prefill, append and decode are the same call and the same arithmetic as the attention of the learner: every score, sum and
//! mixture is computed in an order that depends on the number of keys only.

use candle_core::{Device, Result, Tensor, bail};

use super::attention::{Heads, Rope, check, exp_row, rotate};
use super::node::{is_fused, read, written};
use super::plain;
use super::simd::{LANES, Lanes, load, store};
use super::threads::{self, SharedMut};

/// Keys (rotated) and values of one sequence in one layer, growing. A clone is a fork that shares nothing.
#[derive(Debug, Clone, Default)]
pub struct LayerKv {
    len: usize,
    store: Store,
}

#[derive(Debug, Clone, Default)]
enum Store {
    #[default]
    Empty,
    /// On the CPU in `f32`.
    Host(Host),
    /// Elsewhere: keys and values, each `[len, Hkv, Dh]`.
    Tensors(Option<(Tensor, Tensor)>),
}

/// Keys in blocks of sixteen tokens, `[block][Hkv][Dh][16]`, so that a register holds one component of sixteen keys;
/// values token by token, `[len][Hkv][Dh]`.
#[derive(Debug, Clone, Default)]
struct Host {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl LayerKv {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::Empty | Store::Tensors(None) => 0,
            Store::Host(host) => (host.k.len() + host.v.len()) * size_of::<f32>(),
            Store::Tensors(Some((k, v))) => (k.elem_count() + v.elem_count()) * k.dtype().size_in_bytes(),
        }
    }
}

/// Appends the new tokens' keys and values to the caches and attends causally to all that each cache then holds. No gradient.
///
/// `qkv` and `rope` are those of the new tokens, as in [`super::rope_attention`]; `cu_seqlens` delimits the *new* tokens of each
/// sequence (one each in decoding); `caches` has one entry per sequence. The result is `[T, Hq·Dh]`.
///
/// # Errors
/// If the shapes do not fit, or a cache was filled on another device or with other heads.
pub fn rope_attention_cached(qkv: &Tensor, rope: &Rope, heads: Heads, cu_seqlens: &[u32], caches: &mut [&mut LayerKv]) -> Result<Tensor> {
    let (t, width) = qkv.dims2()?;
    check((t, width), rope, heads, cu_seqlens)?;
    if caches.len() + 1 != cu_seqlens.len() {
        bail!("rope_attention_cached: {} caches for {} sequences", caches.len(), cu_seqlens.len() - 1);
    }
    let lengths = cu_seqlens.windows(2).map(|w| (w[1] - w[0]) as usize);
    if !is_fused(&[qkv]) {
        let mut tensors = caches.iter_mut().map(|cache| cache.tensors()).collect::<Result<Vec<_>>>()?;
        let out = plain::rope_attention_cached(qkv, rope, heads, cu_seqlens, &mut tensors)?;
        caches.iter_mut().zip(lengths).for_each(|(cache, new)| cache.len += new);
        return Ok(out);
    }
    for cache in caches.iter_mut() {
        cache.host(heads)?;
    }
    let out = read(&[qkv], |values| {
        let mut sequences = Vec::with_capacity(caches.len());
        for (cache, w) in caches.iter_mut().zip(cu_seqlens.windows(2)) {
            let (start, end) = (w[0] as usize, w[1] as usize);
            let old = cache.len;
            let host = cache.host(heads)?;
            (start..end).for_each(|token| host.append(old + token - start, values[0], token, rope, heads));
            cache.len = old + end - start;
        }
        for (cache, w) in caches.iter_mut().zip(cu_seqlens.windows(2)) {
            let len = cache.len;
            let (start, end) = (w[0] as usize, w[1] as usize);
            sequences.push(Sequence { start, new: end - start, old: len - (end - start), host: cache.host(heads)? });
        }
        Ok(written(t * heads.out_width(), |out| attend(out, values[0], rope, heads, &sequences)))
    })?;
    Tensor::from_vec(out, (t, heads.out_width()), &Device::Cpu)
}

impl LayerKv {
    fn tensors(&mut self) -> Result<&mut Option<(Tensor, Tensor)>> {
        if matches!(self.store, Store::Empty) {
            self.store = Store::Tensors(None);
        }
        match &mut self.store {
            Store::Tensors(tensors) => Ok(tensors),
            _ => bail!("a cache filled on the CPU is used on another device"),
        }
    }

    fn host(&mut self, heads: Heads) -> Result<&mut Host> {
        if matches!(self.store, Store::Empty) {
            self.store = Store::Host(Host::default());
        }
        let Store::Host(host) = &mut self.store else { bail!("a cache filled on another device is used on the CPU") };
        if host.v.len() != self.len * heads.kv * heads.dim {
            bail!("a cache of {} tokens holds {} values, not those of {} heads of width {}", self.len, host.v.len(), heads.kv, heads.dim);
        }
        Ok(host)
    }
}

impl Host {
    /// Stores the key and value of row `token` of `qkv` at position `at`, the next free one.
    fn append(&mut self, at: usize, qkv: &[f32], token: usize, rope: &Rope, heads: Heads) {
        let dim = heads.dim;
        let row = &qkv[token * heads.qkv_width()..][..heads.qkv_width()];
        let (keys, values) = row[heads.q * dim..].split_at(heads.kv * dim);
        self.v.extend_from_slice(values);
        let block_size = heads.kv * dim * LANES;
        if at.is_multiple_of(LANES) {
            self.k.resize(self.k.len() + block_size, 0.0);
        }
        let block = &mut self.k[at / LANES * block_size..];
        let mut turned = vec![0.0; dim];
        for (h, key) in keys.chunks_exact(dim).enumerate() {
            rotate(&mut turned, key, rope.at(token, dim), 1.0);
            for (d, &x) in turned.iter().enumerate() {
                block[(h * dim + d) * LANES + at % LANES] = x;
            }
        }
    }
}

struct Sequence<'a> {
    /// First row of the new tokens.
    start: usize,
    /// New tokens.
    new: usize,
    /// Tokens in the cache before them.
    old: usize,
    host: &'a Host,
}

/// Query rows computed together, so that a key or value once loaded serves several.
const ROWS: usize = 4;

fn attend(out: &mut [f32], qkv: &[f32], rope: &Rope, heads: Heads, sequences: &[Sequence]) {
    let work = sequences.iter().map(|s| 4 * s.new * (s.old + s.new) * heads.out_width()).sum();
    let out = SharedMut::new(out);
    threads::split(sequences.len(), work, |from, to| {
        // SAFETY: a sequence writes to its own rows only.
        let out = unsafe { out.get() };
        for s in &sequences[from..to] {
            for kv in 0..heads.kv {
                attend_head(out, qkv, rope, heads, s, kv);
            }
        }
    });
}

/// All new tokens of a sequence, one key/value head.
fn attend_head(out: &mut [f32], qkv: &[f32], rope: &Rope, heads: Heads, s: &Sequence, kv: usize) {
    let (dim, group) = (heads.dim, heads.group());
    let total = s.old + s.new;
    let stride = total.next_multiple_of(LANES);
    let mut queries = vec![0.0; ROWS * dim];
    let mut scores = vec![0.0; ROWS * stride];
    let mut mixed = vec![0.0; ROWS * dim];
    let rows = s.new * group;
    for first in (0..rows).step_by(ROWS) {
        let n = ROWS.min(rows - first);
        // Row r is head r % group of new token r / group.
        let place = |r: usize| (s.start + (first + r) / group, kv * group + (first + r) % group);
        let visible = |r: usize| s.old + (first + r) / group + 1;
        for r in 0..n {
            let (token, head) = place(r);
            let from = &qkv[token * heads.qkv_width() + head * dim..][..dim];
            rotate(&mut queries[r * dim..][..dim], from, rope.at(token, dim), heads.scale());
        }
        // The last row sees most; what the others may not see is left out of their exponentials.
        let seen = visible(n - 1);
        // Rows beyond `n` repeat the last one and are not read.
        for block in 0..seen.div_ceil(LANES) {
            let keys = &s.host.k[(block * heads.kv + kv) * dim * LANES..][..dim * LANES];
            let mut sums = [Lanes::splat(0.0); ROWS];
            for (d, key) in keys.chunks_exact(LANES).enumerate() {
                let key = load(key, 0);
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = Lanes::splat(queries[r * dim + d]).mul_add(key, *sum);
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                store(&mut scores[r * stride..][..stride], block * LANES, *sum);
            }
        }
        let mut scales = [0.0; ROWS];
        for (r, scale) in scales.iter_mut().enumerate().take(n) {
            let row = &mut scores[r * stride..][..seen];
            let (_, sum) = exp_row(&mut row[..visible(r)]);
            row[visible(r)..].fill(0.0);
            *scale = 1.0 / sum;
        }
        mix(&mut mixed, &scores, stride, &s.host.v[kv * dim..], heads.kv * dim, (n, seen, dim));
        for (r, &scale) in scales.iter().enumerate().take(n) {
            let (token, head) = place(r);
            let to = &mut out[token * heads.out_width() + head * dim..][..dim];
            let scale = Lanes::splat(scale);
            for i in (0..dim).step_by(LANES) {
                store(to, i, load(&mixed[r * dim..][..dim], i) * scale);
            }
        }
    }
}

/// `mixed = weights · values` for `n` rows: one chain of multiply-adds over the keys per element, as in a matrix product.
fn mix(mixed: &mut [f32], weights: &[f32], stride: usize, values: &[f32], value_stride: usize, (n, seen, dim): (usize, usize, usize)) {
    for i in (0..dim).step_by(2 * LANES) {
        let two = i + LANES < dim;
        let mut sums = [[Lanes::splat(0.0); 2]; ROWS];
        for j in 0..seen {
            let value = &values[j * value_stride..][..dim];
            let v = [load(value, i), if two { load(value, i + LANES) } else { Lanes::splat(0.0) }];
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = Lanes::splat(weights[r * stride + j]);
                sums[0] = w.mul_add(v[0], sums[0]);
                sums[1] = w.mul_add(v[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate().take(n) {
            let row = &mut mixed[r * dim..][..dim];
            store(row, i, sums[0]);
            if two {
                store(row, i + LANES, sums[1]);
            }
        }
    }
}

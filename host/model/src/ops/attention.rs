//! Rotary attention over packed sequences.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::plain;

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
}

/// Rotation tables, one row per token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
}

impl Rope {
    /// Tables `cos` and `sin`, row-major `[T, Dh / 2]`.
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
}

/// Keys (rotated) and values of one sequence in one layer, growing. A clone is a fork that shares nothing.
#[derive(Debug, Clone, Default)]
pub struct LayerKv {
    tensors: Option<(Tensor, Tensor)>,
    len: usize,
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
        self.tensors.iter().map(|(k, v)| (k.elem_count() + v.elem_count()) * k.dtype().size_in_bytes()).sum()
    }
}

/// Attention within each sequence, with rotary positions applied to queries and keys.
///
/// `qkv` `[T, (Hq + 2·Hkv)·Dh]` holds queries, keys and values side by side; the result is `[T, Hq·Dh]`.
pub fn rope_attention(qkv: &Tensor, rope: &Rope, heads: Heads, cu_seqlens: &Arc<[u32]>, causal: bool) -> Result<Tensor> {
    plain::rope_attention(qkv, rope, heads, cu_seqlens, causal)
}

/// Appends the new tokens' keys and values to the caches and attends causally to all that the cache then holds. No gradient.
///
/// `cu_seqlens` delimits the *new* tokens of each sequence; `caches` has one entry per sequence.
pub fn rope_attention_cached(
    qkv: &Tensor,
    rope: &Rope,
    heads: Heads,
    cu_seqlens: &[u32],
    caches: &mut [&mut LayerKv],
) -> Result<Tensor> {
    for (cache, w) in caches.iter_mut().zip(cu_seqlens.windows(2)) {
        cache.len += (w[1] - w[0]) as usize;
    }
    let mut tensors: Vec<_> = caches.iter_mut().map(|c| &mut c.tensors).collect();
    plain::rope_attention_cached(qkv, rope, heads, cu_seqlens, &mut tensors)
}

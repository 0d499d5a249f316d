//! Root-mean-square normalisation.

use candle_core::{Result, Tensor};

use super::plain;

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension: `x` and result `[T, D]`, `weight` `[D]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    plain::rms_norm(x, weight, eps)
}

//! Affine maps.

use candle_core::{Result, Tensor};

use super::plain;

/// `x · wᵀ + bias + residual`: `x` `[T, in]`, `w` `[out, in]`, `bias` `[out]`, `residual` and result `[T, out]`.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    plain::linear(x, w, bias, residual)
}

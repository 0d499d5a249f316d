//! Activations.

use candle_core::{Result, Tensor};

use super::plain;

/// `silu(gate) · up`: `gate_up` `[T, 2I]`, the gate in the first half; result `[T, I]`.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    plain::swiglu(gate_up)
}

/// `x · Φ(x)` with the exact error function, elementwise.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

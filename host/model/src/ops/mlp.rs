//! Activations.

use candle_core::{Result, Tensor, bail};

use super::node::{is_fused, node, read, written};
use super::plain;
use super::simd::{LANES, Lanes, load, store};

/// `silu(gate) · up`: `gate_up` `[T, 2I]`, the gate in the first half; result `[T, I]`.
///
/// # Errors
/// If the width is odd.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let (t, width) = gate_up.dims2()?;
    if !width.is_multiple_of(2) {
        bail!("swiglu: gate and up are as wide as each other, got a width of {width} together");
    }
    let inner = width / 2;
    if !is_fused(&[gate_up]) {
        return plain::swiglu(gate_up);
    }
    let out = read(&[gate_up], |v| Ok(written(t * inner, |y| swiglu_forward(y, v[0], inner))))?;
    node("swiglu", &[gate_up], out, (t, inner), move |b| {
        Ok(vec![Some(written(t * width, |dx| swiglu_backward(dx, b.inputs[0], b.grad, inner)))])
    })
}

/// `y = silu(gate)·up` row by row; `y` need not be initialised.
pub(super) fn swiglu_forward(y: &mut [f32], gate_up: &[f32], inner: usize) {
    if inner == 0 {
        return;
    }
    for (y, row) in y.chunks_exact_mut(inner).zip(gate_up.chunks_exact(2 * inner)) {
        let (gate, up) = row.split_at(inner);
        for i in (0..inner).step_by(LANES) {
            let g = load(gate, i);
            store(y, i, g * g.sigmoid() * load(up, i));
        }
    }
}

/// Gradient of gate and up, `dx`, from that of the result; `dx` need not be initialised.
pub(super) fn swiglu_backward(dx: &mut [f32], gate_up: &[f32], grad: &[f32], inner: usize) {
    if inner == 0 {
        return;
    }
    let one = Lanes::splat(1.0);
    for ((dx, row), grad) in dx.chunks_exact_mut(2 * inner).zip(gate_up.chunks_exact(2 * inner)).zip(grad.chunks_exact(inner)) {
        let (gate, up) = row.split_at(inner);
        let (d_gate, d_up) = dx.split_at_mut(inner);
        for i in (0..inner).step_by(LANES) {
            let (g, u, d) = (load(gate, i), load(up, i), load(grad, i));
            let s = g.sigmoid();
            let silu = g * s;
            store(d_up, i, d * silu);
            // silu' = s + silu·(1 - s)
            store(d_gate, i, d * u * silu.mul_add(one - s, s));
        }
    }
}

/// `x · Φ(x)` with the exact error function, elementwise.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !is_fused(&[x]) {
        return x.gelu_erf();
    }
    let n = x.elem_count();
    let out = read(&[x], |v| {
        Ok(written(n, |y| {
            for i in (0..n).step_by(LANES) {
                let x = load(v[0], i);
                store(y, i, x * normal_cdf(x));
            }
        }))
    })?;
    node("gelu", &[x], out, x.shape(), move |b| {
        let (x, grad) = (b.inputs[0], b.grad);
        Ok(vec![Some(written(n, |dx| {
            for i in (0..n).step_by(LANES) {
                let v = load(x, i);
                let density = (v * v * Lanes::splat(-0.5)).exp() * Lanes::splat(0.398_942_3);
                store(dx, i, load(grad, i) * v.mul_add(density, normal_cdf(v)));
            }
        }))])
    })
}

/// Φ(x) to about 1e-7: Abramowitz and Stegun 7.1.26 gives `erfc(z) ≈ t·P(t)·exp(-z²)`, `t = 1/(1 + z/2)`, here with the
/// coefficients of Numerical Recipes' `erfcc`, whose fractional error is below 1.2e-7 everywhere.
#[inline(always)]
fn normal_cdf(x: Lanes) -> Lanes {
    let c = Lanes::splat;
    let zero = c(0.0);
    let z = (zero - x).max(x) * c(std::f32::consts::FRAC_1_SQRT_2);
    let t = c(1.0) / z.mul_add(c(0.5), c(1.0));
    let mut p = c(0.170_872_77);
    for k in [-0.822_152_23, 1.488_515_9, -1.135_204, 0.278_868_07, -0.186_288_06, 0.096_784_18, 0.374_091_96, 1.000_023_7, -1.265_512_2] {
        p = p.mul_add(t, c(k));
    }
    let half_erfc = t * (p - z * z).exp() * c(0.5);
    // Φ(x) = erfc(-x/√2)/2: the tail itself below zero, its complement above.
    let positive = c(1.0) - half_erfc;
    half_erfc.where_positive(x, positive)
}

//! Root-mean-square normalisation.

use candle_core::{Result, Tensor, bail};

use super::node::{is_fused, node, read, written};
use super::plain;
use super::simd::{LANES, Lanes, dot, load, store};

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension: `x` and result `[T, D]`, `weight` `[D]`.
///
/// # Errors
/// If a shape does not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let (t, d) = x.dims2()?;
    if weight.dims() != [d] {
        bail!("rms_norm: x {:?} and weight {:?} do not fit together", x.dims(), weight.dims());
    }
    let inputs = [x, weight];
    if !is_fused(&inputs) {
        return plain::rms_norm(x, weight, eps);
    }
    let out = read(&inputs, |v| Ok(written(t * d, |y| forward(y, v[0], v[1], eps))))?;
    node("rms_norm", &inputs, out, (t, d), move |b| {
        let mut dw = vec![0.0; d];
        let dx = written(t * d, |dx| backward(dx, &mut dw, b.inputs[0], b.inputs[1], b.grad, eps, None));
        Ok(vec![Some(dx), Some(dw)])
    })
}

/// Reciprocal root mean square of a row.
#[inline]
fn scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Normalises the rows of `x` into `y`, which need not be initialised.
pub(super) fn forward(y: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let d = weight.len();
    for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
        let scale = Lanes::splat(scale(x, eps));
        for i in (0..d).step_by(LANES) {
            store(y, i, load(x, i) * scale * load(weight, i));
        }
    }
}

/// Gradients from `grad`, that of the result: `dx` is written (plus `residual` where given), `dw` added to.
pub(super) fn backward(dx: &mut [f32], dw: &mut [f32], x: &[f32], weight: &[f32], grad: &[f32], eps: f32, residual: Option<&[f32]>) {
    let d = weight.len();
    for (row, ((dx, x), grad)) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(grad.chunks_exact(d)).enumerate() {
        let scale = scale(x, eps);
        let s = Lanes::splat(scale);
        let mut along = Lanes::splat(0.0);
        for i in (0..d).step_by(LANES) {
            let (x, g) = (load(x, i), load(grad, i));
            along = (g * load(weight, i)).mul_add(x, along);
            store(dw, i, (g * s).mul_add(x, load(dw, i)));
        }
        // d(x·s): s·g·w - x·s³·mean(g·w·x)
        let pull = Lanes::splat(-along.sum() * scale * scale * scale / d as f32);
        for i in (0..d).step_by(LANES) {
            let mut v = pull.mul_add(load(x, i), load(grad, i) * load(weight, i) * s);
            if let Some(residual) = residual {
                v = v + load(&residual[row * d..][..d], i);
            }
            store(dx, i, v);
        }
    }
}

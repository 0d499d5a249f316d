//! The optimiser's arithmetic.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

use super::node::{is_fused, read};
use super::simd::{LANES, Lanes, dot, load, store};

/// Settings of one AdamW update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: the parameter is scaled by `1 - lr · weight_decay`.
    pub weight_decay: f32,
    /// `1 - beta1^t` of step `t` (counted from 1).
    pub bias_c1: f32,
    /// `1 - beta2^t`.
    pub bias_c2: f32,
    /// The gradient is multiplied by this first (gradient clipping, averaging).
    pub grad_scale: f32,
}

/// One AdamW update of `param` in place (Loshchilov and Hutter 2019); `m` and `v` are its moments, one value per element.
///
/// `grad` has `param`'s shape; on the CPU both are `f32`, elsewhere the update runs through host memory.
///
/// # Errors
/// If the sizes differ.
pub fn adamw_step(param: &Var, grad: &Tensor, m: &mut [f32], v: &mut [f32], step: AdamWStep) -> Result<()> {
    let n = param.elem_count();
    if grad.elem_count() != n || m.len() != n || v.len() != n {
        bail!("adamw_step: {n} parameters, {} gradients, moments of {} and {}", grad.elem_count(), m.len(), v.len());
    }
    if is_fused(&[param.as_tensor(), grad]) {
        let grad = grad.contiguous()?;
        return param.inplace_op2(&grad, &AdamW { step, moments: RefCell::new((m, v)) });
    }
    let mut p = param.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
    let g = grad.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
    update(&mut p, &g, m, v, step);
    param.set(&Tensor::from_vec(p, param.shape(), param.device())?.to_dtype(param.dtype())?)
}

struct AdamW<'a> {
    step: AdamWStep,
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp2 for AdamW<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn cpu_fwd(&self, param: &mut CpuStorage, pl: &Layout, grad: &CpuStorage, gl: &Layout) -> Result<()> {
        let (CpuStorage::F32(p), CpuStorage::F32(g)) = (param, grad) else { bail!("adamw: parameter and gradient must be f32") };
        let (Some((p0, p1)), Some((g0, g1))) = (pl.contiguous_offsets(), gl.contiguous_offsets()) else {
            bail!("adamw: parameter and gradient must be contiguous")
        };
        let (m, v) = &mut *self.moments.borrow_mut();
        update(&mut p[p0..p1], &g[g0..g1], m, v, self.step);
        Ok(())
    }
}

fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: AdamWStep) {
    let c = Lanes::splat;
    let (beta1, beta2, eps) = (c(step.beta1), c(step.beta2), c(step.eps));
    let (rest1, rest2) = (c(1.0 - step.beta1), c(1.0 - step.beta2));
    let keep = c(1.0 - step.lr * step.weight_decay);
    let rate = c(-step.lr / step.bias_c1);
    let root_scale = c(1.0 / step.bias_c2.sqrt());
    let grad_scale = c(step.grad_scale);
    for i in (0..p.len()).step_by(LANES) {
        let grad = load(g, i) * grad_scale;
        let first = beta1.mul_add(load(m, i), rest1 * grad);
        let second = beta2.mul_add(load(v, i), rest2 * grad * grad);
        store(m, i, first);
        store(v, i, second);
        let direction = first / second.sqrt().mul_add(root_scale, eps);
        store(p, i, rate.mul_add(direction, keep * load(p, i)));
    }
}

/// Sum of the squares of a gradient's elements (for the global norm), in `f64` over blocks of 4,096 elements.
pub fn sum_of_squares(grad: &Tensor) -> Result<f64> {
    let blocks = |values: &[f32]| values.chunks(4096).map(|block| f64::from(dot(block, block))).sum();
    if is_fused(&[grad]) {
        return read(&[grad], |v| Ok(blocks(v[0])));
    }
    Ok(blocks(&grad.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?))
}

//! The optimiser's arithmetic.

use candle_core::{Result, Tensor, Var};

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

/// One AdamW update of `param` (`f32`) in place; `m` and `v` are its moments, as long as it has elements.
pub fn adamw_step(param: &Var, grad: &Tensor, m: &mut [f32], v: &mut [f32], step: AdamWStep) -> Result<()> {
    let mut p = param.flatten_all()?.to_vec1::<f32>()?;
    let g = grad.flatten_all()?.to_vec1::<f32>()?;
    for (((p, g), m), v) in p.iter_mut().zip(&g).zip(m).zip(v) {
        let g = g * step.grad_scale;
        *m = step.beta1 * *m + (1.0 - step.beta1) * g;
        *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
        *p -= step.lr * (step.weight_decay * *p + (*m / step.bias_c1) / ((*v / step.bias_c2).sqrt() + step.eps));
    }
    param.set(&Tensor::from_vec(p, param.shape(), param.device())?)
}

/// Sum of the squares of a gradient's elements, in `f64`.
pub fn sum_of_squares(grad: &Tensor) -> Result<f64> {
    Ok(grad.flatten_all()?.to_vec1::<f32>()?.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
}

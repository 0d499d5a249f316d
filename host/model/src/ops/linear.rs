//! Affine maps.

use candle_core::{Result, Tensor, bail};

use super::matmul::{Mat, Right, matmul};
use super::node::{Backward, is_fused, node, read, written};
use super::plain;
use super::simd::add_assign;

/// `x · wᵀ + bias + residual`: `x` `[T, in]`, `w` `[out, in]`, `bias` `[out]`, `residual` and result `[T, out]`.
///
/// # Errors
/// If a shape does not fit.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    let (t, input) = x.dims2()?;
    let (output, w_input) = w.dims2()?;
    if w_input != input || bias.is_some_and(|b| b.dims() != [output]) || residual.is_some_and(|r| r.dims() != [t, output]) {
        bail!(
            "linear: x {:?}, w {:?}, bias {:?}, residual {:?} do not fit together",
            x.dims(),
            w.dims(),
            bias.map(Tensor::dims),
            residual.map(Tensor::dims)
        );
    }
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(bias).chain(residual).collect();
    if !is_fused(&inputs) {
        return plain::linear(x, w, bias, residual);
    }
    let has_bias = bias.is_some();
    let has_residual = residual.is_some();
    let out = read(&inputs, |v| {
        let bias = has_bias.then(|| v[2]);
        let residual = has_residual.then(|| v[v.len() - 1]);
        Ok(written(t * output, |y| forward(y, v[0], Mat::rows(v[1], input).t(), bias, residual, (t, input, output))))
    })?;
    node("linear", &inputs, out, (t, output), move |b| Ok(backward(b, has_bias, (t, input, output))))
}

/// `y = x·wᵀ + bias + residual`, given `wᵀ` `[in, out]`; `y` need not be initialised.
pub(super) fn forward<'a>(
    y: &mut [f32],
    x: &[f32],
    wt: impl Into<Right<'a>>,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    (t, input, output): (usize, usize, usize),
) {
    if let Some(residual) = residual {
        y.copy_from_slice(residual);
        if let Some(bias) = bias {
            y.chunks_exact_mut(output).for_each(|row| add_assign(row, bias));
        }
    } else if let Some(bias) = bias {
        y.chunks_exact_mut(output).for_each(|row| row.copy_from_slice(bias));
    }
    let accumulate = bias.is_some() || residual.is_some();
    matmul(y, output, Mat::rows(x, input), wt, (t, output, input), accumulate);
}

fn backward(b: &Backward, has_bias: bool, (t, input, output): (usize, usize, usize)) -> Vec<Option<Vec<f32>>> {
    let (x, w, grad) = (b.inputs[0], b.inputs[1], b.grad);
    let mut gradients = vec![None; b.inputs.len()];
    if b.wanted[0] {
        let dx = |dx: &mut [f32]| matmul(dx, input, Mat::rows(grad, output), Mat::rows(w, input), (t, input, output), false);
        gradients[0] = Some(written(t * input, dx));
    }
    if b.wanted[1] {
        let dw = |dw: &mut [f32]| matmul(dw, input, Mat::rows(grad, output).t(), Mat::rows(x, input), (output, input, t), false);
        gradients[1] = Some(written(output * input, dw));
    }
    if has_bias && b.wanted[2] {
        let mut db = vec![0.0; output];
        grad.chunks_exact(output).for_each(|row| add_assign(&mut db, row));
        gradients[2] = Some(db);
    }
    // The residual is last if it is there at all.
    let residual = 2 + usize::from(has_bias);
    if b.wanted.get(residual) == Some(&true) {
        gradients[residual] = Some(grad.to_vec());
    }
    gradients
}

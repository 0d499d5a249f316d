//! Gathering and placing rows.

use candle_core::{Result, Tensor, bail};

use super::node::{is_fused, node, read};
use super::plain;
use super::simd::add_assign;

/// Rows `ids` of `weight` `[V, D]`, as `[T, D]`.
///
/// # Errors
/// If an id is outside the vocabulary.
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    gather("embedding", weight, ids)
}

/// Rows `idx` of `x` `[T, D]` (an index may occur several times).
///
/// # Errors
/// If an index is outside `x`.
pub fn take_rows(x: &Tensor, idx: &[u32]) -> Result<Tensor> {
    gather("take_rows", x, idx)
}

fn gather(name: &'static str, x: &Tensor, idx: &[u32]) -> Result<Tensor> {
    let (rows, d) = x.dims2()?;
    check(name, idx, rows)?;
    if !is_fused(&[x]) {
        return plain::take_rows(x, idx);
    }
    let out = read(&[x], |v| {
        let mut out = Vec::with_capacity(idx.len() * d);
        idx.iter().for_each(|&i| out.extend_from_slice(row(v[0], i, d)));
        Ok(out)
    })?;
    let idx = if x.track_op() { idx.to_vec() } else { Vec::new() };
    let num = out.len().checked_div(d).unwrap_or(0);
    node(name, &[x], out, (num, d), move |b| {
        let mut dx = vec![0.0; rows * d];
        for (n, &i) in idx.iter().enumerate() {
            add_assign(&mut dx[i as usize * d..][..d], &b.grad[n * d..][..d]);
        }
        Ok(vec![Some(dx)])
    })
}

/// `base` `[T, D]` with row `at[i]` replaced by row `i` of `rows` `[N, D]`; the indices in `at` differ from one another.
///
/// # Errors
/// If the shapes do not fit or an index is outside `base`.
pub fn splice_rows(base: &Tensor, rows: &Tensor, at: &[u32]) -> Result<Tensor> {
    let (t, d) = base.dims2()?;
    if rows.dims() != [at.len(), d] {
        bail!("splice_rows: {} places of width {d}, but rows of shape {:?}", at.len(), rows.dims());
    }
    check("splice_rows", at, t)?;
    if !is_fused(&[base, rows]) {
        return plain::splice_rows(base, rows, at);
    }
    let out = read(&[base, rows], |v| {
        let mut out = v[0].to_vec();
        for (n, &i) in at.iter().enumerate() {
            out[i as usize * d..][..d].copy_from_slice(&v[1][n * d..][..d]);
        }
        Ok(out)
    })?;
    let at = at.to_vec();
    node("splice_rows", &[base, rows], out, (t, d), move |b| {
        let d_base = b.wanted[0].then(|| {
            let mut d_base = b.grad.to_vec();
            at.iter().for_each(|&i| d_base[i as usize * d..][..d].fill(0.0));
            d_base
        });
        let d_rows = b.wanted[1].then(|| {
            let mut d_rows = Vec::with_capacity(at.len() * d);
            at.iter().for_each(|&i| d_rows.extend_from_slice(row(b.grad, i, d)));
            d_rows
        });
        Ok(vec![d_base, d_rows])
    })
}

fn row(x: &[f32], i: u32, d: usize) -> &[f32] {
    &x[i as usize * d..][..d]
}

fn check(name: &str, idx: &[u32], rows: usize) -> Result<()> {
    match idx.iter().find(|&&i| i as usize >= rows) {
        Some(i) => bail!("{name}: row {i} of a tensor of {rows} rows"),
        None => Ok(()),
    }
}

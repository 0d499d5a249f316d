//! Gathering and placing rows.

use candle_core::{Result, Tensor};

use super::plain;

/// Rows `ids` of `weight` `[V, D]`, as `[T, D]`.
pub fn embedding(weight: &Tensor, ids: &[u32]) -> Result<Tensor> {
    plain::take_rows(weight, ids)
}

/// Rows `idx` of `x` `[T, D]` (an index may occur several times).
pub fn take_rows(x: &Tensor, idx: &[u32]) -> Result<Tensor> {
    plain::take_rows(x, idx)
}

/// `base` `[T, D]` with row `at[i]` replaced by row `i` of `rows` `[N, D]`; the indices in `at` differ from one another.
pub fn splice_rows(base: &Tensor, rows: &Tensor, at: &[u32]) -> Result<Tensor> {
    plain::splice_rows(base, rows, at)
}

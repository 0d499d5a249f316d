//! Log-probabilities straight from hidden states.

use candle_core::{Result, Tensor};

use super::plain;

/// Log-probability `[N]` of `targets` under `softmax(hidden · headᵀ / temperature)`: `hidden` `[N, D]`, `head` `[V, D]`.
pub fn target_logprob(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<Tensor> {
    Ok(plain::target_logprob_entropy(hidden, head, targets, temperature)?.0)
}

/// [`target_logprob`] and the entropy `[N]` (nats) of the same distributions. No gradient.
pub fn target_logprob_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32], temperature: f32) -> Result<(Tensor, Tensor)> {
    plain::target_logprob_entropy(&hidden.detach(), &head.detach(), targets, temperature)
}

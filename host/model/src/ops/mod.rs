//! Fused operations of the model, each with its own backward.
//!
//! Every function takes and returns candle tensors and takes part in candle's `backward`. On `f32` tensors of the CPU it
//! runs a fused kernel; on any other device or dtype it falls back to a composition of plain candle operations
//! ([`plain`]), which is differentiable too. candle's own `softmax_last_dim`, `rms_norm`, `rope` and `sdpa` are avoided
//! on purpose: they have no backward and say nothing about it.
//!
//! # Shapes
//!
//! `T` tokens of all sequences laid one after another (no padding), `D` width, `I` inner width of the MLP, `V` vocabulary,
//! `Hq`/`Hkv` query and key/value heads, `Dh` their width.
//!
//! # Threads
//!
//! An operation runs on the calling thread. Small models are fastest when the *caller* shards sequences over worker
//! threads, because then nothing forks and joins inside an operation. [`with_threads`] lets one big sequence use more.
//!
//! candle's own element-wise operations (its backward adds gradients with them) share one pool of threads, one caller at a
//! time. A program that shards over workers should set `CANDLE_NUM_THREADS=1` before its first tensor: a learner step of two workers
//! on two cores takes 0.6 s then, and 1.0 s otherwise.
//!
//! # Determinism
//!
//! A row of a result depends on that row's own inputs only, bit for bit: how many other rows stand in the batch changes
//! neither the order of any sum nor the kernel that computes it. So a rollout does not depend on which sequences
//! happened to be decoded together.

mod attention;
mod block;
mod cache;
mod linear;
mod logprob;
mod matmul;
mod mlp;
mod node;
mod norm;
mod optim;
pub mod plain;
mod rows;
mod simd;
mod threads;

pub use attention::{Heads, Rope, rope_attention};
pub use block::{Block, Linear, attention_block, mlp_block};
pub use cache::{LayerKv, rope_attention_cached};
pub use linear::linear;
pub use logprob::{target_logprob, target_logprob_entropy};
pub use mlp::{gelu, swiglu};
pub use norm::rms_norm;
pub use optim::{AdamWStep, adamw_step, sum_of_squares};
pub use rows::{embedding, splice_rows, take_rows};
pub use threads::{threads, with_threads};

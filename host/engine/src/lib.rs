//! Generation: KV cache, continuous batching over worker shards, seeded sampling.
//!
//! A *sequence* is the engine's view of an episode. A sequence leaves the batch when its turn ends and joins again, its cache
//! kept, when the next turn is asked for.
//!
//! [`Engine`] is what rollouts see. [`LocalEngine`] runs a model in this process: `scheduler` is the callers' side, `worker` the
//! thread that batches, `sequence` what the two share, `sampling` how a token is drawn.

mod local;
mod network;
mod sampling;
mod scheduler;
mod sequence;
mod stats;
mod stop;
#[cfg(test)]
mod tests;
mod worker;

pub use local::{LocalEngine, LocalEngineOptions};
pub use stats::EngineStats;

use mmhost_model::Segment;

/// Names an open sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SequenceId(pub u64);

/// How to draw tokens. The draw depends on `seed` and the token's place in the turn only, never on what else is in the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: usize,
    /// Seed of this turn.
    pub seed: u64,
}

/// One turn to generate.
#[derive(Debug, Clone)]
pub struct TurnRequest {
    /// Tokens to append first. May be empty: right after `open` the turn then begins behind the prompt, later it goes on
    /// behind the last token drawn.
    pub append: Segment,
    /// How to draw.
    pub sampling: Sampling,
    /// Longest turn, in tokens; 0 only appends.
    pub max_new_tokens: usize,
    /// The turn also ends with the token that completes any of these texts (none of them empty) in what was generated.
    pub stop_strings: Vec<String>,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-turn token (it is the last of `tokens`).
    Eos,
    /// `max_new_tokens` reached, or as many tokens as the model has positions for.
    Length,
    /// The stop string of this index.
    Stop(usize),
}

/// What was generated.
#[derive(Debug, Clone)]
pub struct GeneratedTurn {
    /// Sampled ids.
    pub tokens: Vec<u32>,
    /// Log-probability of each sampled id under `softmax(logits / temperature)` (temperature 1 where greedy), before top-p and top-k.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Errors of the engine. None of them touches any other sequence than the one asked about, except [`Self::Model`], which ends
/// the sequences that shared the forward pass.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model failed. The sequence is closed.
    #[error("the model failed: {0}")]
    Model(String),
    /// The sequence is not open.
    #[error("sequence {} is not open: it was closed, its last turn failed, or it never was", .0.0)]
    Unknown(SequenceId),
    /// The engine has stopped, or the worker that ran the turn has.
    #[error("the engine has stopped")]
    Stopped,
    /// The sequence is in a turn already.
    #[error("sequence {} is in a turn already; wait for that turn to end", .0.0)]
    Busy(SequenceId),
    /// The tokens or images of a segment cannot be run. The sequence stays as it was.
    #[error("the segment cannot be appended: {0}")]
    Segment(String),
    /// The sequence would outgrow the model. The sequence stays as it was.
    #[error(
        "the sequence holds {held} tokens and {new} more would pass the model's limit of {limit} (max_position_embeddings); shorten the prompt or end the episode earlier"
    )]
    TooLong {
        /// Tokens held.
        held: usize,
        /// Tokens to be added.
        new: usize,
        /// Most tokens that a sequence may hold.
        limit: usize,
    },
    /// A sampling setting is out of range. The sequence stays as it was.
    #[error("sampling: {field} is {found}, expected {expected}")]
    Sampling {
        /// Name of the setting.
        field: &'static str,
        /// Its value.
        found: f32,
        /// What it may be.
        expected: &'static str,
    },
    /// A stop string is empty. The sequence stays as it was.
    #[error("stop string {0} is empty; leave it out")]
    StopString(usize),
    /// The model gave logits that are not numbers. The sequence is closed.
    #[error("the logits of token {token} in this turn of sequence {} are not finite: the weights have diverged or are corrupt", .sequence.0)]
    NotFinite {
        /// The sequence.
        sequence: SequenceId,
        /// Place of the token in the turn, from 0.
        token: usize,
    },
}

/// Generates tokens for sequences.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Prefills `prompt` once and opens `n` sequences that share it. Dropping the future opens none.
    async fn open(&self, prompt: Segment, n: usize) -> Result<Vec<SequenceId>, EngineError>;
    /// Appends and generates one turn. Dropping the future ends the turn and closes the sequence.
    async fn generate(&self, sequence: SequenceId, request: TurnRequest) -> Result<GeneratedTurn, EngineError>;
    /// Forgets a sequence and frees its cache; a turn in flight ends with [`EngineError::Unknown`]. Closing twice is fine.
    fn close(&self, sequence: SequenceId);
}

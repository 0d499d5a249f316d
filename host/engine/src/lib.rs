//! Generation: KV cache, continuous batching over worker shards, seeded sampling.
//!
//! A *sequence* is the engine's view of an episode. A sequence leaves the batch when its turn ends and joins again, its cache
//! kept, when the next turn is asked for.

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
    /// Tokens to append first (may be empty right after `open`).
    pub append: Segment,
    /// How to draw.
    pub sampling: Sampling,
    /// Longest turn, in tokens.
    pub max_new_tokens: usize,
    /// The turn also ends after any of these texts appears in what was generated.
    pub stop_strings: Vec<String>,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end-of-turn token (it is the last of `tokens`).
    Eos,
    /// `max_new_tokens` reached.
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

/// Errors of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model failed.
    #[error("the model failed: {0}")]
    Model(String),
    /// The sequence is not open.
    #[error("sequence {0:?} is not open")]
    Unknown(SequenceId),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// Generates tokens for sequences.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Prefills `prompt` once and opens `n` sequences that share it.
    async fn open(&self, prompt: Segment, n: usize) -> Result<Vec<SequenceId>, EngineError>;
    /// Appends and generates one turn.
    async fn generate(&self, sequence: SequenceId, request: TurnRequest) -> Result<GeneratedTurn, EngineError>;
    /// Forgets a sequence and frees its cache.
    fn close(&self, sequence: SequenceId);
}

/// The engine over a model in this process.
pub struct LocalEngine {}
/// Settings of the local engine.
#[derive(Debug, Clone)]
pub struct LocalEngineOptions {
    /// Worker shards, each one thread with its own sequences.
    pub workers: usize,
    /// Most sequences decoding at once in one worker.
    pub max_batch: usize,
    /// Most new prompt tokens prefilled in one forward of one worker.
    pub prefill_tokens: usize,
}
impl LocalEngine {
    /// Starts the workers. `model` must be `frozen`; weight updates through the same `Var`s are seen at once, and callers update them only while no turn is in flight.
    pub fn start(model: mmhost_model::Qwen2_5Vl, processor: mmhost_model::Processor, options: LocalEngineOptions) -> Self { todo!() }
}

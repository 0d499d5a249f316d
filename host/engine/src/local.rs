//! The engine over a model in this process.

use std::sync::Arc;

use mmhost_model::{Processor, Qwen2_5Vl, Segment};

use crate::scheduler::Scheduler;
use crate::stop::Decode;
use crate::{Engine, EngineError, EngineStats, GeneratedTurn, SequenceId, TurnRequest};

/// Settings of the local engine.
#[derive(Debug, Clone)]
pub struct LocalEngineOptions {
    /// Worker shards, each one thread with its own sequences. Results do not depend on it.
    pub workers: usize,
    /// Most sequences decoding at once in one worker.
    pub max_batch: usize,
    /// Most new prompt tokens prefilled in one forward of one worker. A longer prompt still runs, in a forward of its own.
    pub prefill_tokens: usize,
}

impl Default for LocalEngineOptions {
    /// One worker per processor core, batches of 64, prompts in forwards of 2,048 tokens.
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { workers, max_batch: 64, prefill_tokens: 2048 }
    }
}

/// The engine over a model in this process.
///
/// A group's prompt is prefilled once; its sequences are forks of that cache. Between turns a sequence belongs to no worker: each
/// turn runs on the worker that has least to do. Tokens and log-probabilities depend on the sequence's tokens, the weights and the
/// turn's seed only, never on the number of workers or on what else they run (bit for bit on the CPU). Image and video placeholder
/// tokens are never drawn.
///
/// Dropping the engine, or [`Self::stop`], ends every turn in flight with [`EngineError::Stopped`].
pub struct LocalEngine {
    scheduler: Scheduler<Qwen2_5Vl>,
}

impl LocalEngine {
    /// Starts the workers. `model` must be `frozen`; weight updates through the same `Var`s are seen at once, and callers update
    /// them only while no turn is in flight. Caches of open sequences hold what the old weights made of their tokens: close
    /// sequences before an update.
    pub fn start(model: Qwen2_5Vl, processor: Processor, options: LocalEngineOptions) -> Self {
        let eos = processor.eos_ids().to_vec();
        Self::start_with(model, &eos, move |ids| processor.tokenizer.decode(ids), &options)
    }

    /// [`Self::start`] without a processor: `eos` are the tokens that end a turn, `decode` turns ids into text (only stop strings
    /// ask for it).
    pub fn start_with(
        model: Qwen2_5Vl,
        eos: &[u32],
        decode: impl Fn(&[u32]) -> mmhost_model::Result<String> + Send + Sync + 'static,
        options: &LocalEngineOptions,
    ) -> Self {
        let decode: Decode = Arc::new(move |ids| decode(ids).map_err(|e| EngineError::Model(e.to_string())));
        Self { scheduler: Scheduler::start(model, &decode, eos, options) }
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> EngineStats {
        self.scheduler.stats()
    }

    /// Ends every turn in flight with [`EngineError::Stopped`], at its worker's next step, and refuses new work.
    pub fn stop(&self) {
        self.scheduler.stop();
    }
}

#[async_trait::async_trait]
impl Engine for LocalEngine {
    async fn open(&self, prompt: Segment, n: usize) -> Result<Vec<SequenceId>, EngineError> {
        self.scheduler.open(prompt, n).await
    }

    async fn generate(&self, sequence: SequenceId, request: TurnRequest) -> Result<GeneratedTurn, EngineError> {
        self.scheduler.generate(sequence, request).await
    }

    fn close(&self, sequence: SequenceId) {
        self.scheduler.close(sequence);
    }
}

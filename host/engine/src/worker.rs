//! One worker: a thread with its own batch.
//!
//! There are no prefill and decode phases. Every sequence in the batch has *input*, tokens that its cache does not hold yet:
//! a new prompt, an appended segment, or the one token drawn last. A step runs the input of all of them in one forward pass and
//! draws the next token of each. New work joins at any step, in order of arrival and as whole requests, while its prompt
//! tokens fit the step's budget (one request always fits), so decoding goes on while prompts arrive. Rows of a forward pass do
//! not depend on one another, so neither does any result on what else was in the batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use candle_core::{CpuStorage, Storage, Tensor};
use mmhost_model::{ImageInput, Packed};
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;

use crate::network::Network;
use crate::sampling::Sampler;
use crate::sequence::{CacheMeter, LoadClaim, Sequence, Shared, TurnClaim};
use crate::stats::StepStats;
use crate::stop::TokenTexts;
use crate::{EngineError, Finish, GeneratedTurn, Sampling, SequenceId};

/// Tokens that a sequence's cache does not hold yet.
#[derive(Default)]
pub(crate) struct Input {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<[u32; 3]>,
    pub(crate) images: Vec<Arc<ImageInput>>,
    /// How many of `ids` are prompt or appended tokens (the others were drawn).
    pub(crate) prompt_tokens: usize,
}

impl Input {
    fn clear(&mut self) {
        self.ids.clear();
        self.positions.clear();
        self.images.clear();
        self.prompt_tokens = 0;
    }
}

/// A prompt to prefill once and to fork.
pub(crate) struct Open<C> {
    pub(crate) ids: Vec<SequenceId>,
    pub(crate) input: Input,
    /// An empty cache, with the cursor already behind the prompt.
    pub(crate) sequence: Box<Sequence<C>>,
    pub(crate) reply: oneshot::Sender<Result<(), EngineError>>,
    pub(crate) load: LoadClaim<C>,
}

/// A turn of a sequence.
pub(crate) struct Turn<C> {
    pub(crate) input: Input,
    pub(crate) sequence: Box<Sequence<C>>,
    pub(crate) claim: TurnClaim<C>,
    pub(crate) sampling: Sampling,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) max_new_tokens: usize,
    pub(crate) stop_strings: Vec<String>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) reply: oneshot::Sender<Result<GeneratedTurn, EngineError>>,
    pub(crate) load: LoadClaim<C>,
}

/// What is sent to a worker.
pub(crate) enum Job<C> {
    Open(Box<Open<C>>),
    Turn(Box<Turn<C>>),
    /// Wakes a worker that has nothing to do, so that it sees that the engine stops.
    Wake,
}

impl<C> Job<C> {
    fn prompt_tokens(&self) -> usize {
        match self {
            Job::Open(open) => open.input.prompt_tokens,
            Job::Turn(turn) => turn.input.prompt_tokens,
            Job::Wake => 0,
        }
    }
}

/// What every worker of an engine has alike.
#[derive(Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) max_batch: usize,
    pub(crate) prefill_tokens: usize,
    pub(crate) eos: Arc<[u32]>,
}

pub(crate) struct Worker<N: Network> {
    network: N,
    shared: Arc<Shared<N::Cache>>,
    options: WorkerOptions,
    never: Vec<u32>,
    max_tokens: usize,
    texts: TokenTexts,
    sampler: Sampler,
    /// Arrived, not yet in the batch.
    waiting: VecDeque<Job<N::Cache>>,
    /// Prompts of this step.
    opens: Vec<Open<N::Cache>>,
    /// The batch.
    turns: Vec<Turn<N::Cache>>,
    batch: Packed,
}

impl<N: Network> Worker<N> {
    pub(crate) fn new(network: N, shared: Arc<Shared<N::Cache>>, options: WorkerOptions, texts: TokenTexts) -> Self {
        Self {
            never: network.placeholders(),
            max_tokens: network.max_tokens(),
            network,
            shared,
            options,
            texts,
            sampler: Sampler::default(),
            waiting: VecDeque::new(),
            opens: Vec::new(),
            turns: Vec::new(),
            batch: Packed::default(),
        }
    }

    /// Works until the engine stops. Whatever is unfinished then is dropped with the worker, which its callers see as
    /// [`EngineError::Stopped`].
    pub(crate) fn run(mut self, inbox: &Receiver<Job<N::Cache>>) {
        loop {
            if self.turns.is_empty() && self.waiting.is_empty() {
                match inbox.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => return,
                }
            }
            self.waiting.extend(inbox.try_iter());
            if self.shared.stopping.load(Ordering::Relaxed) {
                return;
            }
            self.drop_cancelled();
            self.admit();
            self.step();
        }
    }

    /// Lets go of turns and prompts that nobody waits for any more.
    fn drop_cancelled(&mut self) {
        fn gone<C>(turn: &Turn<C>) -> bool {
            turn.claim.cancelled() || turn.reply.is_closed()
        }
        for turn in self.turns.extract_if(.., |t| gone(t)) {
            let id = turn.claim.id();
            turn.fail(EngineError::Unknown(id));
        }
        for _ in 0..self.waiting.len() {
            match self.waiting.pop_front() {
                Some(Job::Turn(turn)) if gone(&turn) => {
                    let id = turn.claim.id();
                    turn.fail(EngineError::Unknown(id));
                }
                Some(Job::Open(open)) if open.reply.is_closed() => {}
                Some(Job::Wake) | None => {}
                Some(job) => self.waiting.push_back(job),
            }
        }
    }

    /// Takes waiting work into the batch, in order of arrival, within the step's budget of prompt tokens. A turn that finds the
    /// batch full waits without holding up the prompts behind it.
    fn admit(&mut self) {
        let mut budget = self.options.prefill_tokens;
        let mut first = true;
        for _ in 0..self.waiting.len() {
            let Some(job) = self.waiting.pop_front() else { return };
            let full = matches!(job, Job::Turn(_)) && self.turns.len() >= self.options.max_batch;
            let tokens = job.prompt_tokens();
            // Once a prompt has not fitted, no later one overtakes it: `budget` stays below every need.
            if !full && tokens > budget && !first {
                budget = 0;
            }
            if full || (tokens > budget && !first) {
                self.waiting.push_back(job);
                continue;
            }
            if tokens > 0 {
                first = false;
                budget = budget.saturating_sub(tokens);
            }
            match job {
                Job::Open(open) => self.opens.push(*open),
                Job::Turn(turn) => self.join(*turn),
                Job::Wake => {}
            }
        }
    }

    /// Takes a turn into the batch. One without input draws its first token from the logits it brings.
    fn join(&mut self, mut turn: Turn<N::Cache>) {
        if !turn.input.ids.is_empty() {
            turn.sequence.next = None;
            self.turns.push(turn);
            return;
        }
        let Some(row) = turn.sequence.next.take() else {
            turn.fail(EngineError::Segment("there is nothing to go on from: no token was appended to an empty sequence".into()));
            return;
        };
        self.shared.count(StepStats { generated_tokens: u64::from(turn.max_new_tokens > 0), ..StepStats::default() });
        match self.advance(&mut turn, &row) {
            Ok(None) => self.turns.push(turn),
            Ok(Some(finish)) => turn.finish(finish),
            Err(error) => turn.fail(error),
        }
    }

    /// One forward pass over the whole batch, and one token more for each of its turns.
    fn step(&mut self) {
        if self.turns.is_empty() && self.opens.is_empty() {
            return;
        }
        let begin = Instant::now();
        let mut stats = StepStats { steps: 1, decoded_rows: self.turns.len() as u64, ..StepStats::default() };
        // 1. Lay the inputs one after another, turns first.
        let batch = &mut self.batch;
        batch.input_ids.clear();
        batch.positions.clear();
        batch.images.clear();
        batch.cu_seqlens.clear();
        batch.cu_seqlens.push(0);
        let inputs = self.turns.iter_mut().map(|t| &mut t.input).chain(self.opens.iter_mut().map(|o| &mut o.input));
        for input in inputs {
            batch.input_ids.extend_from_slice(&input.ids);
            batch.positions.extend_from_slice(&input.positions);
            batch.images.append(&mut input.images);
            batch.cu_seqlens.push(batch.input_ids.len() as u32);
            stats.prefill_tokens += input.prompt_tokens as u64;
            input.clear();
        }
        // 2. Run them.
        let turns = self.turns.iter_mut().map(|t| &mut t.sequence.cache);
        let mut caches: Vec<_> = turns.chain(self.opens.iter_mut().map(|o| &mut o.sequence.cache)).collect();
        let rows = caches.len();
        let logits = self.network.step(&self.batch, &mut caches).and_then(|logits| match logits.dims() {
            [n, _] if *n == rows => Ok(logits),
            shape => Err(EngineError::Model(format!("logits of {rows} sequences have the shape {shape:?}"))),
        });
        // 3. Draw, and let finished turns go. The turns are counted before their callers hear of them.
        stats.generated_tokens = self.turns.iter().filter(|t| t.max_new_tokens > 0).count() as u64;
        stats.time = begin.elapsed();
        self.shared.count(stats);
        match logits.and_then(|logits| self.distribute(&logits)) {
            Ok(()) => {}
            Err(error) => self.fail_batch(&error),
        }
    }

    /// Hands each sequence of the batch its row of `logits` `[S, V]`.
    fn distribute(&mut self, logits: &Tensor) -> Result<(), EngineError> {
        let vocab = logits.dims()[1];
        let (storage, layout) = logits.storage_and_layout();
        let rows = match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[layout.start_offset()..],
            _ => return Err(EngineError::Model("logits are not f32 on the CPU".into())),
        };
        let mut rows = rows.chunks_exact(vocab);
        let mut turns = std::mem::take(&mut self.turns);
        for (mut turn, row) in turns.drain(..).zip(rows.by_ref()) {
            turn.sequence.meter.set(N::cache_bytes(&turn.sequence.cache));
            match self.advance(&mut turn, row) {
                Ok(None) => self.turns.push(turn),
                Ok(Some(finish)) => turn.finish(finish),
                Err(error) => turn.fail(error),
            }
        }
        for (mut open, row) in self.opens.drain(..).zip(rows) {
            open.sequence.meter.set(N::cache_bytes(&open.sequence.cache));
            open.sequence.next = Some(row.into());
            open.finish(&self.shared, N::cache_bytes);
        }
        Ok(())
    }

    /// Draws the next token of a turn from `row` `[V]`; says how the turn ended, if it did.
    fn advance(&mut self, turn: &mut Turn<N::Cache>, row: &[f32]) -> Result<Option<Finish>, EngineError> {
        if turn.max_new_tokens == 0 {
            turn.sequence.next = Some(row.into());
            return Ok(Some(Finish::Length));
        }
        // 1. Draw.
        let drawn = self.sampler.draw(row, &turn.sampling, &mut turn.rng, &self.never);
        let drawn = drawn.ok_or_else(|| EngineError::NotFinite { sequence: turn.claim.id(), token: turn.tokens.len() })?;
        turn.tokens.push(drawn.token);
        turn.logprobs.push(drawn.logprob);
        turn.sequence.uncached = Some(drawn.token);
        // 2. Is this the end?
        if self.options.eos.contains(&drawn.token) {
            return Ok(Some(Finish::Eos));
        }
        if let Some(stop) = self.texts.completed(&turn.tokens, &turn.stop_strings)? {
            return Ok(Some(Finish::Stop(stop)));
        }
        if turn.tokens.len() >= turn.max_new_tokens || N::cache_len(&turn.sequence.cache) >= self.max_tokens {
            return Ok(Some(Finish::Length));
        }
        // 3. If not, it is the next step's input.
        turn.sequence.uncached = None;
        let position = turn.sequence.cursor.next;
        turn.sequence.cursor.next += 1;
        turn.input.ids.push(drawn.token);
        turn.input.positions.push([position; 3]);
        Ok(None)
    }

    /// The pass failed as a whole: what the caches hold is unknown, so every sequence in it ends.
    fn fail_batch(&mut self, error: &EngineError) {
        tracing::error!(sequences = self.turns.len(), prompts = self.opens.len(), %error, "a forward pass failed");
        for turn in self.turns.drain(..) {
            turn.fail(EngineError::Model(error.to_string()));
        }
        for open in self.opens.drain(..) {
            // A caller that has gone needs no answer.
            let _ = open.reply.send(Err(EngineError::Model(error.to_string())));
        }
    }
}

impl<C> Turn<C> {
    /// Puts the sequence back and answers. Where the caller has gone nobody knows what the sequence now holds: it is closed.
    fn finish(self, finish: Finish) {
        let Turn { sequence, claim, tokens, logprobs, reply, load, .. } = self;
        drop(load);
        if reply.is_closed() {
            claim.close();
            return;
        }
        claim.put_back(sequence);
        // The caller's own guard closes the sequence if the answer is never read.
        let _ = reply.send(Ok(GeneratedTurn { tokens, logprobs, finish }));
    }

    /// Closes the sequence and answers with an error.
    fn fail(self, error: EngineError) {
        let Turn { claim, reply, load, .. } = self;
        drop(load);
        claim.close();
        // A caller that has gone needs no answer.
        let _ = reply.send(Err(error));
    }
}

impl<C: Clone> Open<C> {
    /// Forks the prefilled sequence and answers.
    fn finish(self, shared: &Arc<Shared<C>>, bytes: impl Fn(&C) -> usize) {
        let Open { ids, sequence, reply, load, .. } = self;
        drop(load);
        if reply.is_closed() {
            return;
        }
        if let Some((&last, others)) = ids.split_last() {
            for &id in others {
                let mut meter = CacheMeter::new(&shared.cache_total);
                let cache = sequence.cache.clone();
                meter.set(bytes(&cache));
                let fork = Sequence { cache, cursor: sequence.cursor.clone(), uncached: None, next: sequence.next.clone(), meter };
                shared.insert(id, Box::new(fork));
            }
            shared.insert(last, sequence);
        }
        if reply.send(Ok(())).is_err() {
            ids.iter().for_each(|&id| shared.close(id));
        }
    }
}

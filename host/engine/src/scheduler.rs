//! The callers' side: checks requests, places them on workers, waits for answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use mmhost_model::{PositionCursor, Segment};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;

use crate::network::Network;
use crate::sequence::{CacheMeter, Sequence, Shared};
use crate::stats::EngineStats;
use crate::stop::{Decode, TokenTexts};
use crate::worker::{Input, Job, Open, Turn, Worker, WorkerOptions};
use crate::{EngineError, GeneratedTurn, LocalEngineOptions, SequenceId, TurnRequest};

/// Workers over a network and the way to them.
pub(crate) struct Scheduler<N: Network> {
    network: N,
    shared: Arc<Shared<N::Cache>>,
    inboxes: Vec<mpsc::Sender<Job<N::Cache>>>,
    threads: Vec<JoinHandle<()>>,
    next_id: AtomicU64,
}

impl<N: Network> Scheduler<N> {
    pub(crate) fn start(network: N, decode: &Decode, eos: &[u32], options: &LocalEngineOptions) -> Self {
        let workers = options.workers.max(1);
        let shared = Arc::new(Shared::new(workers));
        let worker_options =
            WorkerOptions { max_batch: options.max_batch.max(1), prefill_tokens: options.prefill_tokens.max(1), eos: eos.into() };
        let (mut inboxes, mut threads) = (Vec::new(), Vec::new());
        for index in 0..workers {
            let (inbox, jobs) = mpsc::channel();
            let worker = Worker::new(network.clone(), Arc::clone(&shared), worker_options.clone(), TokenTexts::new(Arc::clone(decode)));
            let stopped = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("engine-{index}")).spawn(move || {
                /// Says that the worker has stopped, also when it panicked.
                struct Stopped<C>(Arc<Shared<C>>, usize);
                impl<C> Drop for Stopped<C> {
                    fn drop(&mut self) {
                        self.0.worker_stopped(self.1);
                        if std::thread::panicking() {
                            tracing::error!(worker = self.1, "an engine worker panicked; its sequences are lost");
                        }
                    }
                }
                // The inbox is declared first, so that it is dropped last: nothing is sent to it once `_stopped` has spoken,
                // and what was sent before is dropped with it, which its callers see.
                let jobs = jobs;
                let _stopped = Stopped(stopped, index);
                worker.run(&jobs);
            });
            inboxes.push(inbox);
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::error!(worker = index, %error, "an engine worker could not be started");
                    shared.worker_stopped(index);
                }
            }
        }
        Self { network, shared, inboxes, threads, next_id: AtomicU64::new(0) }
    }

    pub(crate) async fn open(&self, prompt: Segment, n: usize) -> Result<Vec<SequenceId>, EngineError> {
        if n == 0 {
            return Ok(Vec::new());
        }
        if prompt.tokens.is_empty() {
            return Err(EngineError::Segment("the prompt has no token; a sequence needs at least one to go on from".into()));
        }
        let mut cursor = PositionCursor::default();
        let positions = self.network.positions(&mut cursor, &prompt)?;
        self.check_length(0, prompt.tokens.len())?;

        let first = self.next_id.fetch_add(n as u64, Ordering::Relaxed);
        let ids: Vec<SequenceId> = (first..first + n as u64).map(SequenceId).collect();
        let load = self.shared.place(prompt.tokens.len()).ok_or(EngineError::Stopped)?;
        let sequence = Box::new(Sequence {
            cache: self.network.empty_cache(),
            cursor,
            uncached: None,
            next: None,
            meter: CacheMeter::new(&self.shared.cache_total),
        });
        let prompt_tokens = prompt.tokens.len();
        let input = Input { ids: prompt.tokens, positions, images: prompt.images, prompt_tokens };
        // Declared before the receiver and so dropped after it: see `Guard`.
        let guard = Guard { shared: &self.shared, ids: &ids };
        let (reply, answer) = oneshot::channel();
        self.send(load.worker, Job::Open(Box::new(Open { ids: ids.clone(), input, sequence, reply, load })))?;
        answer.await.map_err(|_| EngineError::Stopped)??;
        std::mem::forget(guard);
        Ok(ids)
    }

    pub(crate) async fn generate(&self, id: SequenceId, request: TurnRequest) -> Result<GeneratedTurn, EngineError> {
        request.sampling.validate()?;
        if let Some(index) = request.stop_strings.iter().position(String::is_empty) {
            return Err(EngineError::StopString(index));
        }
        let (mut sequence, claim) = self.shared.begin_turn(id)?;
        let (input, cursor) = match self.turn_input(&sequence, request.append) {
            Ok(input) => input,
            Err(error) => {
                claim.put_back(sequence);
                return Err(error);
            }
        };
        let Some(load) = self.shared.place(0) else {
            claim.put_back(sequence);
            return Err(EngineError::Stopped);
        };
        sequence.cursor = cursor;
        sequence.uncached = None;
        let guard = Guard { shared: &self.shared, ids: &[id] };
        let (reply, answer) = oneshot::channel();
        let worker = load.worker;
        let room = request.max_new_tokens.min(256);
        let turn = Turn {
            input,
            sequence,
            claim,
            sampling: request.sampling,
            rng: ChaCha8Rng::seed_from_u64(request.sampling.seed),
            max_new_tokens: request.max_new_tokens,
            stop_strings: request.stop_strings,
            tokens: Vec::with_capacity(room),
            logprobs: Vec::with_capacity(room),
            reply,
            load,
        };
        let sent = self.send(worker, Job::Turn(Box::new(turn)));
        let turn = match sent {
            Ok(()) => answer.await.unwrap_or(Err(EngineError::Stopped)),
            Err(error) => Err(error),
        };
        // From here on the worker has settled what becomes of the sequence.
        std::mem::forget(guard);
        turn
    }

    pub(crate) fn close(&self, id: SequenceId) {
        self.shared.close(id);
    }

    pub(crate) fn stats(&self) -> EngineStats {
        self.shared.stats()
    }

    /// Ends every turn in flight with [`EngineError::Stopped`] and lets the workers go.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for inbox in &self.inboxes {
            // A worker that has stopped already needs no waking.
            let _ = inbox.send(Job::Wake);
        }
    }

    /// The token drawn last, which no cache holds yet, and the new segment; and where the cursor then stands.
    fn turn_input(&self, sequence: &Sequence<N::Cache>, append: Segment) -> Result<(Input, PositionCursor), EngineError> {
        let mut cursor = sequence.cursor.clone();
        let mut input = Input { prompt_tokens: append.tokens.len(), ..Input::default() };
        if let Some(token) = sequence.uncached {
            input.ids.push(token);
            input.positions.push([cursor.next; 3]);
            cursor.next += 1;
        }
        input.positions.extend(self.network.positions(&mut cursor, &append)?);
        input.ids.extend(append.tokens);
        input.images = append.images;
        self.check_length(N::cache_len(&sequence.cache), input.ids.len())?;
        Ok((input, cursor))
    }

    fn check_length(&self, held: usize, new: usize) -> Result<(), EngineError> {
        let limit = self.network.max_tokens();
        if held + new > limit { Err(EngineError::TooLong { held, new, limit }) } else { Ok(()) }
    }

    fn send(&self, worker: usize, job: Job<N::Cache>) -> Result<(), EngineError> {
        self.inboxes[worker].send(job).map_err(|_| EngineError::Stopped)
    }
}

impl<N: Network> Drop for Scheduler<N> {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // A worker's panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Closes sequences whose caller has gone before it heard of them. The answer's receiver must be dropped first: a worker then
/// either finds it gone and closes the sequences itself, or has put them where this guard finds them.
struct Guard<'a, C> {
    shared: &'a Shared<C>,
    ids: &'a [SequenceId],
}

impl<C> Drop for Guard<'_, C> {
    fn drop(&mut self) {
        self.ids.iter().for_each(|&id| self.shared.close(id));
    }
}

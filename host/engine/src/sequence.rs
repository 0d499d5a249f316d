//! Open sequences, and what the callers' side and the workers share about them.
//!
//! Between turns a sequence belongs to no worker: it waits in [`Shared`], and its next turn goes to whichever worker has
//! least to do. During a turn it travels with the turn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmhost_model::PositionCursor;

use crate::stats::{EngineStats, StepStats};
use crate::{EngineError, SequenceId};

/// An open sequence between its turns.
pub(crate) struct Sequence<C> {
    pub(crate) cache: C,
    /// Position of the next token.
    pub(crate) cursor: PositionCursor,
    /// The last sampled token, which has not been run through the model yet.
    pub(crate) uncached: Option<u32>,
    /// Logits `[V]` of the next token, where they are known already; forks of one prompt share them.
    pub(crate) next: Option<Arc<[f32]>>,
    pub(crate) meter: CacheMeter,
}

/// Keeps the total of cache bytes right, however a sequence ends.
pub(crate) struct CacheMeter {
    total: Arc<CacheTotal>,
    counted: usize,
}

#[derive(Default)]
pub(crate) struct CacheTotal {
    bytes: AtomicUsize,
    peak: AtomicUsize,
}

impl CacheMeter {
    pub(crate) fn new(total: &Arc<CacheTotal>) -> Self {
        Self { total: Arc::clone(total), counted: 0 }
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes >= self.counted {
            let more = bytes - self.counted;
            let now = self.total.bytes.fetch_add(more, Ordering::Relaxed) + more;
            self.total.peak.fetch_max(now, Ordering::Relaxed);
        } else {
            self.total.bytes.fetch_sub(self.counted - bytes, Ordering::Relaxed);
        }
        self.counted = bytes;
    }
}

impl Drop for CacheMeter {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Where a sequence is.
enum Slot<C> {
    /// Between turns.
    Idle(Box<Sequence<C>>),
    /// In a turn; raising the flag ends it.
    Busy(Arc<AtomicBool>),
    /// Its worker stopped in the middle of a turn.
    Lost,
}

/// How much a worker has to do.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    stopped: bool,
    turns: usize,
    prompt_tokens: usize,
}

/// What callers and workers share.
pub(crate) struct Shared<C> {
    slots: Mutex<HashMap<SequenceId, Slot<C>>>,
    loads: Mutex<Vec<Load>>,
    stats: Mutex<EngineStats>,
    pub(crate) cache_total: Arc<CacheTotal>,
    pub(crate) stopping: AtomicBool,
}

/// A lock is held for a few lines that cannot panic halfway, so a poisoned one still guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C> Shared<C> {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            slots: Mutex::default(),
            loads: Mutex::new(vec![Load::default(); workers]),
            stats: Mutex::default(),
            cache_total: Arc::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Puts a new sequence where turns find it.
    pub(crate) fn insert(&self, id: SequenceId, sequence: Box<Sequence<C>>) {
        lock(&self.slots).insert(id, Slot::Idle(sequence));
    }

    /// Takes a sequence out for a turn.
    pub(crate) fn begin_turn(self: &Arc<Self>, id: SequenceId) -> Result<(Box<Sequence<C>>, TurnClaim<C>), EngineError> {
        let cancel = Arc::new(AtomicBool::new(false));
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.get_mut(&id) else { return Err(EngineError::Unknown(id)) };
        match std::mem::replace(slot, Slot::Busy(Arc::clone(&cancel))) {
            Slot::Idle(sequence) => Ok((sequence, TurnClaim { shared: Arc::clone(self), id, cancel, ended: false })),
            Slot::Busy(flag) => {
                *slot = Slot::Busy(flag);
                Err(EngineError::Busy(id))
            }
            Slot::Lost => {
                *slot = Slot::Lost;
                Err(EngineError::Stopped)
            }
        }
    }

    /// Forgets a sequence; a turn in flight ends at its worker's next step.
    pub(crate) fn close(&self, id: SequenceId) {
        let slot = lock(&self.slots).remove(&id);
        if let Some(Slot::Busy(cancel)) = slot {
            cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Gives a turn, or `prompt_tokens` to prefill, to the worker that has least to do; among equals to the first. `None`
    /// when all have stopped.
    pub(crate) fn place(self: &Arc<Self>, prompt_tokens: usize) -> Option<LoadClaim<C>> {
        let mut loads = lock(&self.loads);
        let turns = usize::from(prompt_tokens == 0);
        let running = loads.iter_mut().enumerate().filter(|(_, load)| !load.stopped);
        let (worker, load) = running.min_by_key(|(_, load)| match turns {
            0 => (load.prompt_tokens, load.turns),
            _ => (load.turns, load.prompt_tokens),
        })?;
        load.turns += turns;
        load.prompt_tokens += prompt_tokens;
        Some(LoadClaim { shared: Arc::clone(self), worker, turns, prompt_tokens })
    }

    /// Sends nothing more to a worker.
    pub(crate) fn worker_stopped(&self, worker: usize) {
        lock(&self.loads)[worker].stopped = true;
    }

    pub(crate) fn count(&self, step: StepStats) {
        *lock(&self.stats) += step;
    }

    pub(crate) fn stats(&self) -> EngineStats {
        EngineStats {
            cache_bytes: self.cache_total.bytes.load(Ordering::Relaxed),
            peak_cache_bytes: self.cache_total.peak.load(Ordering::Relaxed),
            ..*lock(&self.stats)
        }
    }
}

/// The right to run a turn of a sequence. Dropped unended, the sequence counts as lost.
pub(crate) struct TurnClaim<C> {
    shared: Arc<Shared<C>>,
    id: SequenceId,
    cancel: Arc<AtomicBool>,
    ended: bool,
}

impl<C> TurnClaim<C> {
    pub(crate) fn id(&self) -> SequenceId {
        self.id
    }

    /// Whether the sequence was closed meanwhile.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Puts the sequence back, unless it was closed meanwhile.
    pub(crate) fn put_back(mut self, sequence: Box<Sequence<C>>) {
        self.ended = true;
        if let Some(slot) = lock(&self.shared.slots).get_mut(&self.id) {
            *slot = Slot::Idle(sequence);
        }
    }

    /// Closes the sequence: its turn failed, and what its cache holds is of no use.
    pub(crate) fn close(mut self) {
        self.ended = true;
        self.shared.close(self.id);
    }
}

impl<C> Drop for TurnClaim<C> {
    fn drop(&mut self) {
        if !self.ended
            && let Some(slot) = lock(&self.shared.slots).get_mut(&self.id)
        {
            *slot = Slot::Lost;
        }
    }
}

/// Work counted to a worker until it is dropped.
pub(crate) struct LoadClaim<C> {
    shared: Arc<Shared<C>>,
    pub(crate) worker: usize,
    turns: usize,
    prompt_tokens: usize,
}

impl<C> Drop for LoadClaim<C> {
    fn drop(&mut self) {
        let load = &mut lock(&self.shared.loads)[self.worker];
        load.turns -= self.turns;
        load.prompt_tokens -= self.prompt_tokens;
    }
}

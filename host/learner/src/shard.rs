//! Micro-batches and the threads that share them.
//!
//! Sequences are packed into micro-batches by a plan that depends on their sizes alone. Threads take micro-batches as they become
//! free, but results are consumed in the order of the plan, so that timing never reaches the numbers.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The size of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Tokens that the decoder reads; micro-batches are limited in these.
    pub tokens: usize,
    /// Work, for balance: tokens and image patches.
    pub work: usize,
}

/// Cuts a batch into micro-batches of at most `token_budget` tokens (a longer sequence gets one of its own): as few as possible, but
/// a multiple of `workers`, with even work. Neighbours stay together: they are of one group and share images, which the model then
/// reads once.
pub(crate) fn plan(sizes: &[Size], token_budget: usize, workers: usize) -> Vec<Range<usize>> {
    let tokens: usize = sizes.iter().map(|size| size.tokens.min(token_budget)).sum();
    let count = tokens.div_ceil(token_budget).next_multiple_of(workers).min(sizes.len());
    let mut work_left: usize = sizes.iter().map(|size| size.work).sum();
    let mut plan: Vec<Range<usize>> = Vec::with_capacity(count);
    while let Some(start) = Some(plan.last().map_or(0, |last| last.end)).filter(|&start| start < sizes.len()) {
        let to_come = count.saturating_sub(plan.len() + 1);
        let share = work_left / (to_come + 1);
        let Size { mut tokens, mut work } = sizes[start];
        let mut end = start + 1;
        while let Some(next) = sizes[..sizes.len() - to_come].get(end) {
            // Taken if it fits and brings the work nearer to the share.
            if tokens + next.tokens > token_budget || 2 * work + next.work > 2 * share {
                break;
            }
            tokens += next.tokens;
            work += next.work;
            end += 1;
        }
        work_left -= work;
        plan.push(start..end);
    }
    plan
}

/// Threads that share a batch.
pub(crate) struct Workers {
    /// One pool of a single thread per worker: operations that would fork run within it. Empty for a single worker, which
    /// runs on the caller's thread and lets operations fork as they like.
    pools: Vec<rayon::ThreadPool>,
}

impl Workers {
    /// `count` workers.
    pub fn new(count: usize) -> Result<Self> {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pools = if count > 1 {
            (0..count).map(pool).collect::<std::result::Result<_, _>>().map_err(|source| Error::Workers { workers: count, source })?
        } else {
            Vec::new()
        };
        Ok(Self { pools })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// Runs `work` for 0, 1, … `jobs − 1` on all workers and hands the results to `consume` in that order, on whichever thread
    /// has the next one. Stops at the first error; of several, the one of the lowest job is returned.
    pub fn run<T: Send>(
        &self,
        jobs: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
        mut consume: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        if self.pools.is_empty() {
            return (0..jobs).try_for_each(|job| consume(work(job)?));
        }
        struct Queue<T, C> {
            next: usize,
            waiting: BTreeMap<usize, Result<T>>,
            consume: C,
            outcome: Result<()>,
        }
        let claimed = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let queue = Mutex::new(Queue { next: 0, waiting: BTreeMap::new(), consume: &mut consume, outcome: Ok(()) });
        let drain = || {
            // Jobs are claimed in order, so every job below a failed one is either done or being done.
            while !failed.load(Ordering::Relaxed) {
                let job = claimed.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    break;
                }
                let result = work(job);
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                // A poisoned lock means that another worker panicked; the scope below passes that panic on.
                let Ok(mut guard) = queue.lock() else { break };
                let queue = &mut *guard;
                queue.waiting.insert(job, result);
                while queue.outcome.is_ok()
                    && let Some(result) = queue.waiting.remove(&queue.next)
                {
                    queue.outcome = result.and_then(&mut queue.consume);
                    queue.next += 1;
                }
                if queue.outcome.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for pool in &self.pools {
                let drain = &drain;
                scope.spawn(move || pool.install(drain));
            }
        });
        match queue.into_inner() {
            Ok(queue) => queue.outcome,
            Err(poisoned) => poisoned.into_inner().outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(tokens: &[usize]) -> Vec<Size> {
        tokens.iter().map(|&tokens| Size { tokens, work: tokens }).collect()
    }

    #[test]
    fn plans_hold_every_sequence_once_within_the_budget() {
        let lengths: Vec<usize> = (0..97).map(|i| 40 + (i * 37) % 90).collect();
        for workers in 1..4 {
            let plan = plan(&sizes(&lengths), 700, workers);
            assert_eq!((plan[0].start, plan[plan.len() - 1].end), (0, 97));
            assert!(plan.windows(2).all(|pair| pair[0].end == pair[1].start));
            let loads: Vec<usize> = plan.iter().map(|bin| lengths[bin.clone()].iter().sum()).collect();
            assert!(loads.iter().all(|&load| load <= 700), "{loads:?}");
            let least = lengths.iter().sum::<usize>().div_ceil(700);
            assert!(plan.len() <= least.next_multiple_of(workers) + 1, "{loads:?}");
        }
    }

    #[test]
    fn work_is_even() {
        let lengths: Vec<usize> = (0..128).map(|i| 60 + (i * 53) % 80).collect();
        for workers in [2, 4] {
            let plan = plan(&sizes(&lengths), 100_000, workers);
            let loads: Vec<usize> = plan.iter().map(|bin| lengths[bin.clone()].iter().sum()).collect();
            assert_eq!(loads.len(), workers);
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() < 140, "{loads:?}");
        }
    }

    #[test]
    fn small_batches_are_still_shared() {
        assert_eq!(plan(&sizes(&[5, 5, 5, 5]), 1000, 2), [0..2, 2..4]);
        assert_eq!(plan(&sizes(&[90, 5]), 1000, 2), [0..1, 1..2]);
        assert_eq!(plan(&sizes(&[5]), 1000, 2), std::slice::from_ref(&(0..1)));
        assert!(plan(&sizes(&[]), 1000, 2).is_empty());
        // Too long for the budget: alone.
        assert_eq!(plan(&sizes(&[5, 50, 5, 5]), 10, 1), [0..1, 1..2, 2..4]);
    }

    #[test]
    fn results_come_in_order_whoever_made_them() {
        for count in [1, 2, 3] {
            let workers = Workers::new(count).unwrap();
            let mut seen = Vec::new();
            let slow_at_first = |job: usize| {
                std::thread::sleep(std::time::Duration::from_millis(if job == 0 { 20 } else { 1 }));
                Ok(job)
            };
            workers
                .run(9, slow_at_first, |job| {
                    seen.push(job);
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, (0..9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_wins_and_later_results_are_dropped() {
        let fail = |job: usize| Error::NonFiniteLoss { step: job, id: String::new(), value: f64::NAN };
        for count in [1, 2] {
            let workers = Workers::new(count).unwrap();
            let mut seen = Vec::new();
            let work = |job: usize| if job >= 3 { Err(fail(job)) } else { Ok(job) };
            let error = workers
                .run(20, work, |job| {
                    seen.push(job);
                    Ok(())
                })
                .unwrap_err();
            assert!(matches!(error, Error::NonFiniteLoss { step: 3, .. }), "{error}");
            assert_eq!(seen, [0, 1, 2]);
        }
    }
}

//! Between a run and a server: a bounded queue, and a task that empties it with retries.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::Fault;
use crate::{Ended, Row, Say};

/// How patient the delivery is.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Rows that wait at most.
    pub queue: usize,
    /// Time that a request may take.
    pub timeout: Duration,
    /// Wait before the second try; it doubles with every other one.
    pub first_wait: Duration,
    /// Longest such wait.
    pub longest_wait: Duration,
    /// Time that is left for delivery when the run has ended.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            queue: 2048,
            timeout: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Rows that are sent in one request at most.
const BATCH: usize = 100;

/// A server that takes rows.
pub(crate) trait Service: Send + 'static {
    /// Its name for people.
    const NAME: &'static str;

    /// Finds the run on the server, or makes it; tells its last step on record there.
    fn open(&mut self) -> impl Future<Output = Result<Option<usize>, Fault>> + Send;
    /// Sends rows in ascending order of steps.
    fn send(&mut self, rows: &[Row]) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Tells how the run ended.
    fn close(&mut self, ended: Ended) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// What became of the rows.
#[derive(Default)]
struct Counts {
    offered: AtomicUsize,
    delivered: AtomicUsize,
    overflow_told: AtomicBool,
    last_fault: Mutex<Option<String>>,
}

/// The near end of a queue.
pub(crate) struct Queue {
    name: &'static str,
    rows: mpsc::Sender<Row>,
    end: watch::Sender<Option<(Ended, Instant)>>,
    task: JoinHandle<()>,
    counts: Arc<Counts>,
    grace: Duration,
    say: Say,
}

impl Queue {
    /// Starts the task that empties the queue.
    pub fn start<S: Service>(service: S, pace: &Pace, say: Say) -> Self {
        let (rows, waiting) = mpsc::channel(pace.queue.max(1));
        let (end, ended) = watch::channel(None);
        let counts = Arc::new(Counts::default());
        let delivery = Delivery { service, ended, counts: counts.clone(), pace: pace.clone(), say: say.clone(), troubled: false };
        let task = tokio::spawn(delivery.run(waiting));
        Self { name: S::NAME, rows, end, task, counts, grace: pace.grace, say }
    }

    /// Queues a row; never waits.
    pub fn offer(&self, row: Row) {
        self.counts.offered.fetch_add(1, Ordering::Relaxed);
        if let Err(mpsc::error::TrySendError::Full(_)) = self.rows.try_send(row)
            && !self.counts.overflow_told.swap(true, Ordering::Relaxed)
        {
            (self.say)(&format!("{}: too much is waiting to be sent; what does not fit in the queue is dropped", self.name));
        }
    }

    /// Waits for the delivery, but not for long, and tells what was not delivered.
    pub async fn finish(self, ended: Ended) {
        let Self { name, rows, end, mut task, counts, grace, say } = self;
        let deadline = Instant::now() + grace;
        let _ = end.send(Some((ended, deadline)));
        drop(rows);
        // A request under way at the deadline is cut off.
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
        }
        let offered = counts.offered.load(Ordering::Relaxed);
        let lost = offered - counts.delivered.load(Ordering::Relaxed).min(offered);
        if lost > 0 {
            let fault = counts.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let why = fault.map(|why| format!("; the last fault: {why}")).unwrap_or_default();
            say(&format!("{name}: {lost} of {offered} rows were not delivered{why}"));
        }
    }
}

/// What a service is asked to do.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Open,
    Send(&'a [Row]),
    Close(Ended),
}

struct Delivery<S> {
    service: S,
    ended: watch::Receiver<Option<(Ended, Instant)>>,
    counts: Arc<Counts>,
    pace: Pace,
    say: Say,
    /// Trouble has been told.
    troubled: bool,
}

impl<S: Service> Delivery<S> {
    async fn run(mut self, mut waiting: mpsc::Receiver<Row>) {
        let Some(recorded) = self.insist(Ask::Open).await else { return };
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            let queued = batch.len();
            // A resumed run does again what the server knows, with the same figures.
            batch.retain(|row| recorded.is_none_or(|last| row.step > last));
            if !batch.is_empty() {
                let rows = std::mem::take(&mut batch);
                if self.insist(Ask::Send(&rows)).await.is_none() {
                    return;
                }
            }
            self.counts.delivered.fetch_add(queued, Ordering::Relaxed);
        }
        let ended = self.ended.borrow().map(|(ended, _)| ended);
        if let Some(ended) = ended {
            self.insist(Ask::Close(ended)).await;
        }
    }

    /// Tries until it succeeds; `None` when it never will, or when the time after the run's end is over.
    async fn insist(&mut self, ask: Ask<'_>) -> Option<Option<usize>> {
        let mut wait = self.pace.first_wait;
        loop {
            let answer = match ask {
                Ask::Open => self.service.open().await,
                Ask::Send(rows) => self.service.send(rows).await.map(|()| None),
                Ask::Close(ended) => self.service.close(ended).await.map(|()| None),
            };
            let fault = match answer {
                Ok(last_step) => return Some(last_step),
                Err(fault) => fault,
            };
            *self.counts.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.why().to_owned());
            let Fault::Later { why, after } = fault else {
                (self.say)(&format!("{}: {}; the run goes on without it", S::NAME, fault.why()));
                return None;
            };
            if !std::mem::replace(&mut self.troubled, true) {
                (self.say)(&format!("{}: {why}; the run goes on, and it is tried again", S::NAME));
            }
            let until = Instant::now() + after.unwrap_or(wait);
            wait = (wait * 2).min(self.pace.longest_wait);
            if !self.sleep_until(until).await {
                return None;
            }
        }
    }

    /// Waits, but when the run has ended not beyond its deadline; says whether another try is in time.
    async fn sleep_until(&mut self, until: Instant) -> bool {
        loop {
            let ended = *self.ended.borrow_and_update();
            match ended {
                Some((_, deadline)) => {
                    // In a hurry: short waits, whatever the server asks for.
                    let next = until.min(Instant::now() + self.pace.first_wait);
                    tokio::time::sleep_until(next.min(deadline)).await;
                    return Instant::now() < deadline;
                }
                None => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => return true,
                        // The tracker was dropped without an end: nobody waits for the rest.
                        changed = self.ended.changed() => if changed.is_err() { return false },
                    }
                }
            }
        }
    }
}

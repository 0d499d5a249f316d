//! All trackers of a run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::{Client, Fault};
use crate::events::EventWriter;
use crate::mlflow::Mlflow;
use crate::queue::{Pace, Queue};
use crate::wandb::Wandb;
use crate::{Row, TrackOptions, now_ms};

/// Tells the user a line.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What trackers are told of a run.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Its configuration by dotted key.
    pub params: BTreeMap<String, String>,
    /// The step after which it was resumed.
    pub resumed_after: Option<usize>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Finished,
    /// With an error.
    Failed,
}

/// Tells every configured tracker the figures of a run.
pub struct Tracker {
    events: Option<EventWriter>,
    /// Rows that event files could not take.
    events_lost: usize,
    queues: Vec<Queue>,
    /// The last row, until the next step begins: a server takes a step once.
    pending: Option<Row>,
    say: Say,
}

impl Tracker {
    /// Starts the trackers that `options` name. What is in their way is told through `say`, and the run goes on without. Keys are read by
    /// `key` from the variables that the options name. Must be called within a tokio runtime.
    pub fn start(options: &TrackOptions, info: &RunInfo, pace: &Pace, key: impl Fn(&str) -> Option<String>, say: Say) -> Self {
        let mut tracker = Self { events: None, events_lost: 0, queues: Vec::new(), pending: None, say: say.clone() };
        if options.tensorboard {
            match EventWriter::create(&info.dir, now_ms(), info.resumed_after.map(|step| step + 1)) {
                Ok(events) => tracker.events = Some(events),
                Err(error) => {
                    say(&format!("TensorBoard: no event file can be made in {}: {error}; the run goes on without", info.dir.display()))
                }
            }
        }
        let without = |name: &str, fault: Fault| say(&format!("{name}: {}; the run goes on without it", fault.why()));
        let missing = |name: &str, variable: &str| {
            say(&format!("{name}: the environment variable {variable} is not set, so there is no key; the run goes on without it"));
        };
        if let Some(wandb) = &options.wandb {
            match key(&wandb.key_env).filter(|key| !key.is_empty()) {
                None => missing("W&B", &wandb.key_env),
                found => {
                    match Client::new(&wandb.url, found, |key| format!("Basic {}", STANDARD.encode(format!("api:{key}"))), pace.timeout) {
                        Ok(client) => {
                            let service = Wandb::new(client, wandb.project.clone(), wandb.entity.clone(), info.clone());
                            tracker.queues.push(Queue::start(service, pace, say.clone()));
                        }
                        Err(fault) => without("W&B", fault),
                    }
                }
            }
        }
        if let Some(mlflow) = &options.mlflow {
            let token = mlflow.token_env.as_deref().map(|variable| (variable, key(variable).filter(|key| !key.is_empty())));
            match token {
                Some((variable, None)) => missing("MLflow", variable),
                token => match Client::new(&mlflow.url, token.and_then(|(_, key)| key), |key| format!("Bearer {key}"), pace.timeout) {
                    Ok(client) => {
                        let service = Mlflow::new(client, mlflow.experiment.clone(), info.clone());
                        tracker.queues.push(Queue::start(service, pace, say.clone()));
                    }
                    Err(fault) => without("MLflow", fault),
                },
            }
        }
        tracker
    }

    /// Tells servers again what an earlier process may not have delivered; what they have is not sent twice.
    pub fn replay(&mut self, step: usize, values: Vec<(String, f64)>) {
        self.hold(step, values);
    }

    /// Tells figures of a step; steps never go back. Never waits for a server.
    pub fn add(&mut self, step: usize, values: Vec<(String, f64)>) {
        let row = Row { step, time_ms: now_ms(), values: finite(values) };
        if let Some(events) = &mut self.events
            && let Err(error) = events.add(&row)
        {
            if self.events_lost == 0 {
                (self.say)(&format!("TensorBoard: {} cannot be written: {error}; the run goes on without", events.path().display()));
            }
            self.events_lost += 1;
        }
        self.hold(step, row.values);
    }

    fn hold(&mut self, step: usize, values: Vec<(String, f64)>) {
        if self.queues.is_empty() {
            return;
        }
        let values = finite(values);
        match &mut self.pending {
            Some(row) if row.step == step => row.values.extend(values),
            pending => {
                let before = pending.replace(Row { step, time_ms: now_ms(), values });
                self.offer(before);
            }
        }
    }

    fn offer(&self, row: Option<Row>) {
        let Some(row) = row else { return };
        for queue in &self.queues {
            queue.offer(row.clone());
        }
    }

    /// Delivers what is waiting, within the pace's grace, and tells what could not be delivered.
    pub async fn finish(mut self, ended: Ended) {
        let last = self.pending.take();
        self.offer(last);
        if self.events_lost > 0 {
            (self.say)(&format!("TensorBoard: {} rows were not written", self.events_lost));
        }
        let mut finishing = tokio::task::JoinSet::new();
        for queue in self.queues {
            finishing.spawn(queue.finish(ended));
        }
        finishing.join_all().await;
    }
}

fn finite(values: Vec<(String, f64)>) -> Vec<(String, f64)> {
    values.into_iter().filter(|(_, value)| value.is_finite()).collect()
}

/// What an earlier process knew of a run's run on a server; damaged or missing, it is made anew.
pub(crate) fn read_state<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Keeps what the next process must know. A disk that refuses costs rows sent twice after a resume, never the run.
pub(crate) fn write_state(path: &Path, state: &impl Serialize) {
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        let partial = path.with_extension("partial");
        std::fs::File::create(&partial)?.write_all(&serde_json::to_vec(state)?)?;
        std::fs::rename(&partial, path)
    };
    let _ = write();
}

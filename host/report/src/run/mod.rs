//! Reading a run directory for people: whole, half-written, from an older version or damaged. What cannot be read is named and left out.

mod checkpoints;
mod config;
mod overview;
mod steps;

pub use checkpoints::Checkpoint;
pub use config::{Difference, differences, flatten};
pub use overview::{bytes_on_disk, run_description, runs_difference, runs_table, size};
pub use steps::Steps;
pub(crate) use steps::StepsReader;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It ended with its summary.
    Finished,
    /// A process holds its lock.
    Running,
    /// It has no summary, and no process works on it: it was killed, or it failed.
    Stopped,
    /// It was begun, and nothing has been recorded yet.
    Empty,
}

impl State {
    /// The state as a word.
    pub fn name(self) -> &'static str {
        match self {
            State::Finished => "finished",
            State::Running => "running",
            State::Stopped => "stopped",
            State::Empty => "empty",
        }
    }
}

/// What a run directory says about its run, episodes aside.
#[derive(Debug, Clone)]
pub struct Run {
    /// The directory.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub state: State,
    /// Whether a process holds its lock, finished or not.
    pub locked: bool,
    /// The version that wrote it, as run.toml says.
    pub version: Option<String>,
    /// SHA-256 of its plugins by name, as run.toml says, or else its newest checkpoint.
    pub plugins: BTreeMap<String, String>,
    /// run.toml as it stands.
    pub config_text: Option<String>,
    /// Its values by dotted key, as text.
    pub config: BTreeMap<String, String>,
    /// metrics.jsonl by column.
    pub steps: Steps,
    /// summary.json; without it what base.json and the newest checkpoint tell of the same.
    pub summary: Summarised,
    /// When it began, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// When it was last written to, in milliseconds since 1970.
    pub written_ms: Option<u64>,
    /// Its checkpoints, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// What is missing or damaged, in sentences.
    pub problems: Vec<String>,
}

/// The figures before and after training, as stored: older versions may lack some.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summarised {
    /// Metrics of the base by workflow and split.
    pub base: Option<Value>,
    /// Metrics of the trained policy by workflow and split.
    pub trained: Option<Value>,
    /// Seconds by phase.
    pub timing: BTreeMap<String, f64>,
    /// Most memory that the process held, in bytes.
    pub peak_memory_bytes: Option<f64>,
    /// Largest differences of the invariants.
    pub invariants: BTreeMap<String, f64>,
}

impl Run {
    /// Reads everything but the episodes of the run in `path`.
    ///
    /// # Errors
    /// When `path` is no directory that holds a run, or cannot be listed.
    pub fn open(path: &Path) -> Result<Self> {
        let known = ["run.toml", "metrics.jsonl", "base.json", "summary.json", "episodes", ".lock"];
        let listing = fs::read_dir(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::NoRun(path.to_owned()),
            _ => Error::Unreadable { path: path.to_owned(), source },
        })?;
        drop(listing);
        if !known.iter().any(|name| path.join(name).exists()) {
            return Err(Error::NoRun(path.to_owned()));
        }
        let mut problems = Vec::new();
        let steps = Steps::read(&path.join("metrics.jsonl"), &mut problems);
        Ok(Self::with_steps(path, steps, problems))
    }

    /// The rest of the run in `path`, whatever is there of it.
    pub(crate) fn with_steps(path: &Path, steps: Steps, mut problems: Vec<String>) -> Self {
        let locked = is_locked(path);
        let config = config::read(path, &mut problems);
        let checkpoints = checkpoints::list(&path.join("checkpoints"));
        let summary_json = read_json(&path.join("summary.json"), &mut problems);
        let finished = summary_json.is_some();
        let progress = checkpoints.last().and_then(|newest| read_json(&newest.path.join("progress.json"), &mut problems));
        let summary = summarised(summary_json, path, progress.as_ref(), &mut problems);
        let mut plugins = config.plugins;
        if plugins.is_empty() {
            let of_checkpoint = progress.as_ref().and_then(|p| p["plugins"].as_object());
            let digests = of_checkpoint.into_iter().flatten();
            plugins = digests.filter_map(|(name, digest)| Some((name.clone(), digest.as_str()?.to_owned()))).collect();
        }
        let recorded = !steps.is_empty() || summary.base.is_some() || path.join("episodes").is_dir();
        let state = match (finished, locked, recorded) {
            (true, _, _) => State::Finished,
            (false, true, _) => State::Running,
            (false, false, true) => State::Stopped,
            (false, false, false) => State::Empty,
        };
        Self {
            path: path.to_owned(),
            name: name_of(path),
            state,
            locked,
            version: config.version,
            plugins,
            config_text: config.text,
            config: config.values,
            started_ms: first_written(path),
            written_ms: last_written(path),
            steps,
            summary,
            checkpoints,
            problems,
        }
    }

    /// GRPO steps that its configuration asks for.
    pub fn planned_steps(&self) -> Option<usize> {
        self.config.get("train.steps")?.parse().ok()
    }

    /// The last step on record.
    pub fn last_step(&self) -> usize {
        self.steps.last_step().unwrap_or(0)
    }
}

/// Whether a process holds the run's lock. The look is a shared lock of an instant.
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path.join(".lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The directory's own name; `runs/latest` is told by what it points to.
fn name_of(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.file_name().map_or_else(|| real.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read_json(path: &Path, problems: &mut Vec<String>) -> Option<Value> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            problems.push(format!("{file} cannot be read: {error}."));
            return None;
        }
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) if value.is_object() => Some(value),
        Ok(_) => {
            problems.push(format!("{file} is damaged: expected a JSON object."));
            None
        }
        Err(error) => {
            problems.push(format!("{file} is damaged: {error}."));
            None
        }
    }
}

fn summarised(summary: Option<Value>, path: &Path, progress: Option<&Value>, problems: &mut Vec<String>) -> Summarised {
    let numbers = |value: &Value| -> BTreeMap<String, f64> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter_map(|(name, number)| Some((name.clone(), number.as_f64()?))).collect()
    };
    let object = |value: &Value| value.is_object().then(|| value.clone());
    if let Some(summary) = summary {
        let found = Summarised {
            base: object(&summary["base"]),
            trained: object(&summary["trained"]),
            timing: numbers(&summary["timing"]),
            peak_memory_bytes: summary["peak_memory_bytes"].as_f64(),
            invariants: numbers(&summary["invariants"]),
        };
        for (field, there) in [("base", found.base.is_some()), ("trained", found.trained.is_some()), ("timing", !found.timing.is_empty())] {
            if !there {
                problems.push(format!("summary.json has no `{field}`; an older version may have written it."));
            }
        }
        return found;
    }
    Summarised {
        base: read_json(&path.join("base.json"), problems),
        trained: None,
        timing: progress.map(|p| numbers(&p["timing"])).unwrap_or_default(),
        peak_memory_bytes: None,
        invariants: progress.map(|p| numbers(&p["invariants"])).unwrap_or_default(),
    }
}

fn modified_ms(path: &Path) -> Option<u64> {
    milliseconds(fs::metadata(path).ok()?.modified().ok()?)
}

fn milliseconds(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// run.toml is written once, at the start.
fn first_written(path: &Path) -> Option<u64> {
    modified_ms(&path.join("run.toml")).or_else(|| modified_ms(&path.join(".lock")))
}

fn last_written(path: &Path) -> Option<u64> {
    ["summary.json", "metrics.jsonl", "base.json", "run.toml", "checkpoints", "episodes"]
        .iter()
        .filter_map(|name| modified_ms(&path.join(name)))
        .max()
}

//! A run directory: created once, locked while a process writes to it, written so that a kill at any instant loses nothing that was
//! reported as done.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::failure::{Blame, Outcome, bad_input};

const LOCK: &str = ".lock";
const CONFIG: &str = "run.toml";
const METRICS: &str = "metrics.jsonl";

/// An open run directory. The lock is held until it is dropped.
pub struct RunDir {
    path: PathBuf,
    /// Whether the directory was not there before.
    is_new: bool,
    _lock: File,
}

impl RunDir {
    /// Creates `path`, or a directory named by the present time under `runs/`.
    pub fn create(path: Option<&Path>) -> Outcome<Self> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => Path::new("runs").join(jiff::Zoned::now().strftime("%Y-%m-%d-%H%M%S").to_string()),
        };
        let is_new = !path.exists();
        fs::create_dir_all(&path).input(format!("cannot create the run directory {}", path.display()))?;
        // The lock comes first: a directory that another process has just created and locked may still be without its run.toml.
        let lock = lock(&path)?;
        if path.join(CONFIG).exists() {
            return Err(bad_input(format!(
                "{} already holds a run; continue it with --resume, or name another directory with --run",
                path.display()
            )));
        }
        Ok(Self { path, is_new, _lock: lock })
    }

    /// Removes the directory of a run that came to nothing before it began, unless it was there before.
    pub fn abandon(self) {
        if self.is_new {
            // What cannot be removed does no harm: it holds no run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// Opens a run to go on with it.
    pub fn open(path: &Path) -> Outcome<Self> {
        if !path.join(CONFIG).is_file() {
            return Err(bad_input(format!("{} is not a run directory: it has no {CONFIG}", path.display())));
        }
        Ok(Self { path: path.to_path_buf(), is_new: false, _lock: lock(path)? })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration's file.
    pub fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Where episodes and their images are kept.
    pub fn episodes_path(&self) -> PathBuf {
        self.path.join("episodes")
    }

    /// The folder of a step's checkpoint.
    pub fn checkpoint_path(&self, step: usize) -> PathBuf {
        self.path.join("checkpoints").join(format!("step-{step:06}"))
    }

    /// Writes the resolved configuration, headed by what it ran with.
    pub fn write_config(&self, config: &Config, plugins: &BTreeMap<String, String>) -> Outcome<()> {
        let mut text = format!("# mmhost {}; plugins by SHA-256:\n", env!("CARGO_PKG_VERSION"));
        for (name, digest) in plugins {
            text.push_str(&format!("#   {name} {digest}\n"));
        }
        text.push_str(&config.to_toml()?);
        self.write(CONFIG, text.as_bytes())?;
        point_latest(&self.path);
        Ok(())
    }

    /// Fills a checkpoint's folder through `fill`, syncs it, and only then gives it its name.
    pub fn build_checkpoint(&self, step: usize, fill: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<()> {
        let path = self.checkpoint_path(step);
        let partial = path.with_extension("partial");
        let doing = || format!("cannot write the checkpoint {}", path.display());
        if partial.exists() {
            fs::remove_dir_all(&partial).input(doing())?;
        }
        fs::create_dir_all(self.path.join("checkpoints")).input(doing())?;
        fill(&partial)?;
        if path.exists() {
            fs::remove_dir_all(&path).input(doing())?;
        }
        fs::rename(&partial, &path).input(doing())?;
        File::open(self.path.join("checkpoints")).and_then(|dir| dir.sync_all()).input(doing())
    }

    /// Removes checkpoints but the base (step 0), the newest, and the `keep` before it; 0 keeps all.
    pub fn remove_old_checkpoints(&self, keep: usize) -> Outcome<()> {
        if keep == 0 {
            return Ok(());
        }
        let mut steps = self.checkpoint_steps()?;
        steps.retain(|(step, _)| *step > 0);
        steps.sort();
        let surplus = steps.len().saturating_sub(keep + 1);
        for (_, path) in steps.into_iter().take(surplus) {
            fs::remove_dir_all(&path).input(format!("cannot remove the old checkpoint {}", path.display()))?;
        }
        Ok(())
    }

    /// The newest complete checkpoint: its step and folder. A checkpoint gets its name only when it is whole.
    pub fn latest_checkpoint(&self) -> Outcome<Option<(usize, PathBuf)>> {
        Ok(self.checkpoint_steps()?.into_iter().max())
    }

    fn checkpoint_steps(&self) -> Outcome<Vec<(usize, PathBuf)>> {
        let dir = self.path.join("checkpoints");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&dir).input(format!("cannot read {}", dir.display()))?;
        let steps = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
            Some((step, path))
        });
        Ok(steps.collect())
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, name: &str, content: &[u8]) -> Outcome<()> {
        write_atomically(&self.path.join(name), content)
    }

    /// Writes a JSON file whole or not at all.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Outcome<()> {
        self.write(name, &serde_json::to_vec_pretty(value).internal(format!("cannot write {name} as JSON"))?)
    }

    /// Reads a JSON file that this run wrote; `None` if it does not exist.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Outcome<Option<T>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => {
                let bytes = read.input(format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&bytes).map(Some).input(format!("{} is damaged", path.display()))
            }
        }
    }

    /// Appends one line to `metrics.jsonl`.
    pub fn append_metrics(&self, line: &impl Serialize) -> Outcome<()> {
        let path = self.path.join(METRICS);
        let doing = || format!("cannot append to {}", path.display());
        let mut text = serde_json::to_string(line).internal(doing())?;
        text.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&path).input(doing())?;
        file.write_all(text.as_bytes()).input(doing())
    }

    /// Drops the metrics of steps after `step`, and a half-written last line: what the last complete checkpoint does not know is done again.
    pub fn rewind_metrics(&self, step: usize) -> Outcome<Vec<serde_json::Value>> {
        let path = self.path.join(METRICS);
        let Ok(file) = File::open(&path) else { return Ok(Vec::new()) };
        let mut kept = Vec::new();
        let mut text = String::new();
        for line in BufReader::new(file).lines() {
            let line = line.input(format!("cannot read {}", path.display()))?;
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { break };
            if value["step"].as_u64().is_none_or(|s| s <= step as u64) {
                text.push_str(&line);
                text.push('\n');
                kept.push(value);
            }
        }
        write_atomically(&path, text.as_bytes())?;
        Ok(kept)
    }
}

fn lock(path: &Path) -> Outcome<File> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file).input(format!("cannot open {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(bad_input(format!(
            "another mmhost process is writing to {}; wait for it, stop it, or name another directory with --run",
            path.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(error).input(format!("cannot lock {}", file.display())),
    }
}

/// Points `latest` beside `path` to it. A convenience: where links cannot be made, the run goes on without.
fn point_latest(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let latest = parent.join("latest");
    if latest.is_symlink() || !latest.exists() {
        let _ = fs::remove_file(&latest);
        #[cfg(unix)]
        let _ = std::os::unix::fs::symlink(name, &latest);
        #[cfg(not(unix))]
        let _ = name;
    }
}

/// Writes `content` into a temporary sibling, syncs it, and renames it into place.
pub fn write_atomically(path: &Path, content: &[u8]) -> Outcome<()> {
    let doing = || format!("cannot write {}", path.display());
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).input(doing())?;
    let mut file = tempfile::NamedTempFile::new_in(parent).input(doing())?;
    file.write_all(content).input(doing())?;
    file.as_file().sync_all().input(doing())?;
    file.persist(path).map_err(|e| e.error).input(doing())?;
    Ok(())
}

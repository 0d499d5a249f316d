//! Every episode of a run read once: counted, flagged, and its place remembered.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::record::{Light, Place, Reward};
use super::tally::Tally;
use crate::growing::{Growing, Look};

/// Damaged lines that are told one by one.
const MOST_TOLD: usize = 5;

/// What is worth a look in an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Flag {
    /// It did not end in an answer.
    Unfinished,
    /// A tool call failed.
    ToolFailed,
    /// The reward abstained, or there is none.
    Unscored,
    /// The reward's components disagree: correct, but its format is not.
    Disagreement,
    /// A sampled token was less likely than 1 in 1,000.
    Unlikely,
    /// It searched for what the base model knows.
    NeedlessSearch,
    /// It did not make a search that its class requires.
    MissingSearch,
    /// It is kept because it broke an invariant.
    Violation,
}

impl Flag {
    /// The flag's bit in a set of flags.
    pub fn bit(self) -> u32 {
        1 << self as u8
    }

    /// The flags that are faults of the machinery rather than choices of the policy.
    pub const FAULTS: u32 = 1 | (1 << 1) | (1 << 2) | (1 << 3) | (1 << 7);
}

/// One episode's place.
#[derive(Debug, Clone)]
pub struct Line {
    /// Index into [`Scan::files`].
    pub file: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// The step, of a training episode.
    pub step: Option<usize>,
    /// The group within step or evaluation.
    pub group: usize,
    /// Sample id: what an evaluation asks under several workflows has the same.
    pub sample: String,
    /// Set of [`Flag`]s that can be told without the tokens.
    pub flags: u32,
    /// What the stored reward said.
    pub judged: Judged,
}

/// An episode by name, and the stored reward's word on it.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// The episode's id.
    pub id: String,
    /// Total, where it was scored.
    pub total: Option<f64>,
    /// Accuracy, where it was scored.
    pub accuracy: Option<f64>,
}

/// All episodes of a run.
#[derive(Debug, Default)]
pub struct Scan {
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// The episodes, in file order.
    pub lines: Vec<Line>,
    /// What they did.
    pub tally: Tally,
    known: HashSet<PathBuf>,
    /// How far each file has been read.
    growing: Vec<Growing>,
    /// Why the folder cannot be read.
    no_folder: Option<String>,
    /// Damaged lines, by file, in sentences.
    damaged: Vec<String>,
    /// Files that cannot be read, in sentences.
    unreadable: HashMap<usize, String>,
}

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing new.
    Nothing,
    /// More episodes, after those that are known.
    More,
    /// Files were begun anew: everything was read again.
    Anew,
}

#[derive(Default)]
struct FileScan {
    lines: Vec<Line>,
    tally: Tally,
    damaged: Vec<String>,
}

impl Scan {
    /// Reads `RUN/episodes/*.jsonl` on all cores. What cannot be read is named in [`Scan::problems`].
    pub fn read(run: &Path) -> Self {
        let mut scan = Self::default();
        scan.look(run);
        scan
    }

    /// Reads what was added since the last look.
    pub fn look(&mut self, run: &Path) -> Found {
        match fs::read_dir(run.join("episodes")) {
            Ok(entries) => {
                self.no_folder = None;
                let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl") && !self.known.contains(path));
                paths.sort();
                self.known.extend(paths.iter().cloned());
                self.growing.extend(paths.iter().map(|_| Growing::default()));
                self.files.extend(paths);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.no_folder = Some("There is no folder of episodes: there is nothing to view or to count.".into());
            }
            Err(error) => self.no_folder = Some(format!("The folder of episodes cannot be read: {error}.")),
        }
        let results = in_parallel(self.files.len(), |index| {
            let mut growing = self.growing[index].clone();
            let (offset, lines) = (growing.offset, growing.lines);
            let look = growing.look(&self.files[index]);
            let scanned = match &look {
                Ok(Look::More(bytes)) => scan_lines(index, &self.files[index], bytes, offset, lines),
                _ => FileScan::default(),
            };
            (growing, look.map(|look| if let Look::More(_) = look { Look::More(Vec::new()) } else { look }), scanned)
        });
        if results.iter().any(|(_, look, _)| matches!(look, Ok(Look::Anew))) {
            *self = Self::read(run);
            return Found::Anew;
        }
        let mut found = Found::Nothing;
        for (index, (growing, look, scanned)) in results.into_iter().enumerate() {
            self.growing[index] = growing;
            match look {
                Ok(Look::More(_)) => {
                    found = Found::More;
                    self.unreadable.remove(&index);
                    self.lines.extend(scanned.lines);
                    self.tally.merge(scanned.tally);
                    self.damaged.extend(scanned.damaged);
                }
                Ok(_) => {}
                Err(error) => {
                    let told = format!("episodes/{} cannot be read: {error}.", file_name(&self.files[index]));
                    if self.unreadable.insert(index, told.clone()) != Some(told) {
                        found = Found::More;
                    }
                }
            }
        }
        found
    }

    /// What is missing or damaged, in sentences.
    pub fn problems(&self) -> Vec<String> {
        let cut = self.growing.iter().zip(&self.files).filter(|(growing, _)| growing.partial);
        let cut = cut.map(|(growing, path)| {
            format!("episodes/{} line {} was not written to its end and is left out.", file_name(path), growing.lines + 1)
        });
        let mut damaged: Vec<String> = self.unreadable.values().chain(&self.damaged).cloned().chain(cut).collect();
        damaged.sort();
        let more = damaged.len().saturating_sub(MOST_TOLD);
        damaged.truncate(MOST_TOLD);
        if more > 0 {
            damaged.push(format!("{more} more damaged lines of episodes are left out."));
        }
        self.no_folder.iter().cloned().chain(damaged).collect()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs `work(0..n)` on all cores; the results in order.
pub(super) fn in_parallel<T: Send>(n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(n));
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(n);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= n {
                        break;
                    }
                    let result = work(index);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Reads whole lines of a file, of which the first begins at `offset` and follows `before` others.
fn scan_lines(index: usize, path: &Path, bytes: &[u8], mut offset: u64, before: usize) -> FileScan {
    let name = file_name(path);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = FileScan::default();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (number, start) = (before + number, offset);
        offset += line.len() as u64;
        let whole = line.strip_suffix(b"\n").unwrap_or(line);
        if whole.trim_ascii().is_empty() {
            continue;
        }
        let episode: Light = match serde_json::from_slice(whole) {
            Ok(episode) => episode,
            Err(error) => {
                found.damaged.push(format!("episodes/{name} line {} is damaged and left out: {error}.", number + 1));
                continue;
            }
        };
        let place = Place::of(&episode.id, &stem);
        found.tally.add(&episode, &place);
        let violation = if stem == "violation" { Flag::Violation.bit() } else { 0 };
        found.lines.push(Line {
            file: index as u32,
            offset: start,
            len: whole.len() as u32,
            step: place.step,
            group: place.group,
            sample: episode.sample.to_string(),
            flags: flags(&episode) | violation,
            judged: Judged {
                id: episode.id.to_string(),
                total: episode.reward.as_ref().and_then(Reward::scored).map(|scored| scored.total),
                accuracy: episode.reward.as_ref().and_then(Reward::scored).map(|scored| scored.accuracy()),
            },
        });
    }
    found
}

/// The flags that can be told without tokens.
fn flags(episode: &Light) -> u32 {
    let mut flags = 0;
    let mut raise = |flag: Flag, raised: bool| {
        if raised {
            flags |= flag.bit();
        }
    };
    raise(Flag::Unfinished, episode.ending != "answered");
    raise(Flag::ToolFailed, episode.calls.iter().any(|call| !call.ok));
    let scored = episode.reward.as_ref().and_then(Reward::scored);
    raise(Flag::Unscored, scored.is_none());
    if let Some(scored) = scored {
        raise(Flag::Disagreement, scored.correct() && scored.component("format").is_some_and(|format| format < 0.5));
    }
    let calls_of = |kind: &str| episode.calls.iter().any(|call| call.tool.contains(kind));
    // Where no call is allowed or searches are forced, the policy chose nothing.
    let on_demand = !episode.id.contains("/rag/") && !episode.id.contains("/direct/");
    match episode.category.as_deref() {
        Some("search_free") => raise(Flag::NeedlessSearch, on_demand && !episode.calls.is_empty()),
        Some("image_required") => raise(Flag::MissingSearch, on_demand && !calls_of("image")),
        Some("text_required") => raise(Flag::MissingSearch, on_demand && !calls_of("text")),
        Some("both_required") => raise(Flag::MissingSearch, on_demand && !(calls_of("image") && calls_of("text"))),
        _ => {}
    }
    flags
}

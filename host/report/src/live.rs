//! A run as it goes on: what is new is read, and nothing twice.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::episodes::{Found, LivePayload, Others, Pieces, Scan, select, vocabulary};
use crate::page;
use crate::report::{LiveData, PageData, SelectionData, other_names, run_data};
use crate::run::{Run, State, Steps, StepsReader, is_locked};
use crate::scores::{SCORES_DIR, Scores};
use crate::{Error, ReportOptions, Result};

/// Episodes that are added to the list while a page is looked at, over the limit of the first selection. After that a step adds its
/// first group only.
const MORE: usize = 10_000;

/// What the small files looked like: when each was written, and how long it was.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// A run directory that is watched.
pub struct Live {
    path: PathBuf,
    options: ReportOptions,
    steps: StepsReader,
    scan: Scan,
    run: Run,
    scores: [Vec<Scores>; 1],
    score_problems: Vec<String>,
    others: Vec<String>,
    stamp: Stamp,
    locked: bool,
    pieces: Option<Pieces>,
    /// Lines in the order of the list; only ever added to within a generation.
    listed: Vec<usize>,
    /// Lines of training steps that may not be whole yet.
    waiting: Vec<usize>,
    /// Lines that have been looked at.
    looked_at: usize,
    sizes: Sizes,
    state: LiveData,
}

/// How much of what the list holds.
#[derive(Default)]
struct Sizes {
    groups: HashSet<(usize, usize)>,
    groups_listed: HashSet<(usize, usize)>,
    questions: HashMap<String, bool>,
}

impl Live {
    /// Begins to watch the directory `path`. A run may not have begun in it yet.
    ///
    /// # Errors
    /// When `path` is no directory that can be listed.
    pub fn open(path: &Path, options: ReportOptions) -> Result<Self> {
        fs::read_dir(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        // `runs/latest` may point to another run tomorrow: the one that it points to now is watched.
        let path = path.canonicalize().map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let run = Run::with_steps(&path, Steps::default(), Vec::new());
        let mut live = Self {
            options,
            steps: StepsReader::default(),
            scan: Scan::default(),
            run,
            scores: [Vec::new()],
            score_problems: Vec::new(),
            others: Vec::new(),
            stamp: Stamp::new(),
            locked: false,
            pieces: None,
            listed: Vec::new(),
            waiting: Vec::new(),
            looked_at: 0,
            sizes: Sizes::default(),
            state: LiveData { version: 0, generation: 0, listed: 0 },
            path,
        };
        live.look();
        Ok(live)
    }

    /// A number that changes with every change.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Looks for what is new; says whether anything is.
    pub fn look(&mut self) -> bool {
        let stamp = stamp(&self.path);
        let locked = is_locked(&self.path);
        let new_steps = self.steps.read(&self.path.join("metrics.jsonl"));
        let found = self.scan.look(&self.path);
        let scores_before = self.stamp.last().copied();
        let small = (&stamp, locked) != (&self.stamp, self.locked);
        if !new_steps && !small && found == Found::Nothing {
            return false;
        }
        let scores_changed = stamp.last().copied() != scores_before;
        (self.stamp, self.locked) = (stamp, locked);
        let mut problems = Vec::new();
        let steps = self.steps.steps(&mut problems);
        self.run = Run::with_steps(&self.path, steps, problems);
        if scores_changed {
            self.score_problems.clear();
            self.scores = [Scores::read_all(&self.path, &mut self.score_problems)];
            self.others = other_names(&self.scores);
        }
        if self.pieces.is_none() {
            self.pieces = vocabulary(&self.run).ok();
        }
        // With other rewards in it every row is another one.
        if found == Found::Anew || scores_changed {
            self.begin_anew();
        }
        self.list_new();
        self.state = LiveData { version: self.state.version + 1, listed: self.listed.len(), ..self.state };
        true
    }

    fn begin_anew(&mut self) {
        self.state.generation += 1;
        self.looked_at = 0;
        self.listed.clear();
        self.waiting.clear();
        self.sizes = Sizes::default();
    }

    /// Adds whole groups to the list.
    fn list_new(&mut self) {
        let lines = &self.scan.lines;
        for line in &lines[self.looked_at..] {
            match line.step {
                Some(step) => drop(self.sizes.groups.insert((step, line.group))),
                None => drop(self.sizes.questions.entry(line.sample.clone()).or_default()),
            }
        }
        self.waiting.extend(self.looked_at..lines.len());
        self.looked_at = lines.len();
        // The figures of a step are written after its episodes, so that a step on record is whole.
        let last = self.steps.last_step().unwrap_or(0);
        let whole = |at: &usize| self.run.state != State::Running || lines[*at].step.is_none_or(|step| step <= last);
        let (ready, waiting): (Vec<usize>, Vec<usize>) = std::mem::take(&mut self.waiting).into_iter().partition(whole);
        self.waiting = waiting;
        let added = if self.listed.is_empty() {
            let chosen: Vec<_> = ready.iter().map(|at| lines[*at].clone()).collect();
            select(&chosen, self.options.max_episodes).lines.into_iter().map(|at| ready[at]).collect()
        } else if self.listed.len() + ready.len() <= self.options.max_episodes + MORE {
            ready
        } else {
            let mut first: HashMap<usize, usize> = HashMap::new();
            for at in &ready {
                if let Some(step) = lines[*at].step {
                    let group = first.entry(step).or_insert(lines[*at].group);
                    *group = (*group).min(lines[*at].group);
                }
            }
            ready
                .into_iter()
                .filter(|at| lines[*at].step.is_none_or(|step| first.get(&step) == Some(&lines[*at].group)))
                .collect::<Vec<_>>()
        };
        for at in &added {
            match lines[*at].step {
                Some(step) => drop(self.sizes.groups_listed.insert((step, lines[*at].group))),
                None => drop(self.sizes.questions.insert(lines[*at].sample.clone(), true)),
            }
        }
        self.listed.extend(added);
    }

    fn others(&self) -> Others<'_> {
        Others { names: &self.others, scores: &self.scores }
    }

    /// Everything but the episodes, as JSON.
    ///
    /// # Errors
    /// When it does not become JSON.
    pub fn data(&self, now_ms: u64) -> Result<String> {
        let sizes = &self.sizes;
        let selection = SelectionData {
            episodes: self.scan.lines.len(),
            shown: self.listed.len(),
            training_groups: sizes.groups.len(),
            training_groups_shown: sizes.groups_listed.len(),
            questions: sizes.questions.len(),
            questions_shown: sizes.questions.values().filter(|listed| **listed).count(),
        };
        let data = PageData {
            version: &self.options.version,
            made_ms: now_ms,
            runs: vec![run_data(&self.run, &self.scan, &self.scores[0], selection, &[&self.score_problems])],
            differences: &[],
            seeds_only: false,
            others: &self.others,
            chunks: 0,
            image_chunks: 0,
            live: Some(self.state),
        };
        Ok(serde_json::to_string(&data)?)
    }

    /// The page.
    ///
    /// # Errors
    /// When its data does not become JSON.
    pub fn page(&self, now_ms: u64) -> Result<String> {
        Ok(page::live_html(&self.run.name, &self.data(now_ms)?))
    }

    /// The content policy of the page.
    pub fn policy() -> String {
        page::live_policy()
    }

    /// The list from number `from` on, as JSON; `None` where the list has begun anew since `generation`.
    ///
    /// # Errors
    /// When it does not become JSON.
    pub fn index(&self, generation: u64, from: usize) -> Result<Option<String>> {
        if generation != self.state.generation || from > self.listed.len() {
            return Ok(None);
        }
        LivePayload::part(&self.scan, &self.listed[from..], from, self.others(), self.pieces.as_ref()).map(Some)
    }

    /// An episode in full, as JSON; `None` where there is none of this number.
    ///
    /// # Errors
    /// When it does not become JSON.
    pub fn detail(&self, generation: u64, number: usize) -> Result<Option<String>> {
        if generation != self.state.generation {
            return Ok(None);
        }
        LivePayload::detail(&self.scan, number, self.others())
    }

    /// An image by its digest, as JSON; `None` where it is missing or damaged.
    ///
    /// # Errors
    /// When it does not become JSON.
    pub fn picture(&self, digest: &str) -> Result<Option<String>> {
        LivePayload::picture(&self.path, digest)
    }
}

/// The files that are written whole; the folder of scores stands last.
fn stamp(path: &Path) -> Stamp {
    let of = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, if metadata.is_dir() { 0 } else { metadata.len() }))
    };
    ["run.toml", "base.json", "summary.json", "checkpoints", ".lock", SCORES_DIR].iter().map(|name| of(&path.join(name))).collect()
}

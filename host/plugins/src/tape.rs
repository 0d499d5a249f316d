//! Record and replay of what plugins and the world behind their doors answer.
//!
//! A recording lies in a folder: `calls.jsonl` has a line for everything that was asked, in order, and `answers/` holds what came back,
//! compressed, each once, named by its digest. A line is written after its answer, so that a kill at any instant leaves a recording of
//! everything before it; a torn last line is left out, a damaged answer counts as none.
//!
//! Four doors are recorded: a tool's results, HTTP exchanges, searches in corpora, and models' completions. What a tool answered is not asked
//! again, so that what lies behind it matters where a reward or filter asks, or a tool whose component has changed.
//!
//! While a run is recorded, what was answered before is answered from the recording, so that each thing is asked once. A replay gives back
//! what was recorded, failures included.

use crate::ledger::Ledger;
use crate::{PluginError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const CALLS: &str = "calls.jsonl";
const ANSWERS: &str = "answers";
/// A level of zstd that costs less time than a call and gets most of the size.
const LEVEL: i32 = 3;
/// Most characters of what was asked that a line tells; the digest covers all of it.
const MAX_ASKED: usize = 500;

/// What a recording is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapeMode {
    /// Everything is asked and kept; what is known is answered from the recording.
    Record,
    /// What is known is answered from the recording, the rest is asked.
    Replay,
    /// What the recording does not know ends the run.
    Strict,
}

/// Where something is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// A tool's result.
    Tool,
    /// An HTTP exchange.
    Http,
    /// A search in a corpus.
    Corpus,
    /// A completion by a model.
    Llm,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Door::Tool => "tool",
            Door::Http => "http",
            Door::Corpus => "corpus",
            Door::Llm => "llm",
        })
    }
}

/// How questions at one door were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeCounts {
    /// Answered from the recording.
    pub hits: u64,
    /// Not known to it.
    pub misses: u64,
    /// Failures among the answers.
    pub failures: u64,
}

/// Something that is asked at a door.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    door: Door,
    plugin: &'a str,
    asker: &'a str,
    asked: String,
    key: String,
}

impl<'a> Ask<'a> {
    /// `asked` is for people; `parts` are everything that the answer may depend on, beside door and plugin.
    pub fn new(door: Door, plugin: &'a str, asked: String, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(door.to_string().as_bytes());
        add(plugin.as_bytes());
        parts.iter().for_each(|part| add(part));
        let asked = match asked.char_indices().nth(MAX_ASKED) {
            Some((end, _)) => format!("{}…", &asked[..end]),
            None => asked,
        };
        Ask { door, plugin, asker: plugin, asked, key: hex::encode(hasher.finalize()) }
    }

    /// Says which plugin asks, where the answer is the same for others.
    pub fn by(mut self, asker: &'a str) -> Self {
        self.asker = asker;
        self
    }
}

/// A recording in use.
#[derive(Debug)]
pub struct Tape {
    dir: PathBuf,
    mode: TapeMode,
    state: Mutex<State>,
    /// Counts hits and misses by plugin.
    ledger: OnceLock<Arc<Ledger>>,
}

#[derive(Debug)]
struct State {
    /// The answers to each question, in order.
    known: HashMap<String, Vec<Known>>,
    /// How often each question was answered by a replay.
    played: HashMap<String, usize>,
    calls: Option<File>,
    counts: BTreeMap<Door, TapeCounts>,
    /// The first thing that a strict replay did not know, or the first thing that went wrong with the files.
    fault: Option<String>,
}

#[derive(Debug, Clone)]
struct Known {
    /// Digest of the answer.
    answer: String,
    failed: bool,
}

/// A line of `calls.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Digest of everything that the answer may depend on.
    call: String,
    door: Door,
    plugin: String,
    asked: String,
    failed: bool,
    /// Digest of the answer.
    answer: String,
}

impl Tape {
    /// Opens the recording in `dir`; to record, one is begun or gone on with.
    ///
    /// # Errors
    /// When the folder cannot be used, is no recording where one is to be replayed, or a line other than the last is damaged.
    pub fn open(dir: &Path, mode: TapeMode) -> Result<Arc<Self>> {
        let path = dir.join(CALLS);
        let io = |action: &'static str| {
            let file = path.clone();
            move |error: std::io::Error| PluginError::File { file, message: format!("cannot {action} the recording: {error}") }
        };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && mode == TapeMode::Record => String::new(),
            read => read.map_err(io("read"))?,
        };
        let mut known: HashMap<String, Vec<Known>> = HashMap::new();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (number, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|error| PluginError::File {
                file: path.clone(),
                message: format!("line {} is none of a recording of this version: {error}", number + 1),
            })?;
            known.entry(line.call).or_default().push(Known { answer: line.answer, failed: line.failed });
        }
        let calls = match mode {
            TapeMode::Record => {
                fs::create_dir_all(dir.join(ANSWERS)).map_err(io("make the folder of"))?;
                let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io("write"))?;
                // A torn last line goes, or the next one would be glued to it.
                file.set_len(whole as u64).map_err(io("mend"))?;
                Some(file)
            }
            _ => None,
        };
        let state = State { known, played: HashMap::new(), calls, counts: BTreeMap::new(), fault: None };
        Ok(Arc::new(Tape { dir: dir.into(), mode, state: Mutex::new(state), ledger: OnceLock::new() }))
    }

    /// Has hits and misses counted in the run's ledger too, by plugin.
    pub fn tell(&self, ledger: Arc<Ledger>) {
        // A session has one ledger: a second one is the same.
        let _ = self.ledger.set(ledger);
    }

    fn count(&self, ask: &Ask<'_>, hit: bool) {
        if let Some(ledger) = self.ledger.get() {
            ledger.taped(ask.asker, hit);
        }
    }

    /// How questions at each door were answered so far.
    pub fn counts(&self) -> BTreeMap<Door, TapeCounts> {
        self.state().counts.clone()
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// The first thing that a strict replay did not know, or why the recording could not be written.
    pub fn check(&self) -> Result<()> {
        match self.state().fault.clone() {
            None => Ok(()),
            Some(fault) => Err(PluginError::Recording { dir: self.dir.clone(), fault }),
        }
    }

    /// The answer on record, or the one that `live` gives, which is kept while a run is recorded. `failed` tells failures from answers: what
    /// failed is asked again while a run is recorded.
    ///
    /// # Errors
    /// What a strict replay does not know, in words for whoever asked.
    pub async fn answer<T: Serialize + DeserializeOwned>(
        &self,
        ask: Ask<'_>,
        failed: impl Fn(&T) -> bool,
        live: impl Future<Output = T>,
    ) -> std::result::Result<T, String> {
        if let Some(answer) = self.find(&ask, &failed) {
            return Ok(answer);
        }
        self.state().counts.entry(ask.door).or_default().misses += 1;
        self.count(&ask, false);
        if self.mode == TapeMode::Strict {
            let fault = format!("it has no answer to {} of {}: {}", ask.door, ask.plugin, ask.asked);
            self.state().fault.get_or_insert(fault.clone());
            return Err(fault);
        }
        let answer = live.await;
        if self.mode == TapeMode::Record {
            let failed = failed(&answer);
            self.state().counts.entry(ask.door).or_default().failures += u64::from(failed);
            self.keep(ask, failed, &answer);
        }
        Ok(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorded answer to a question, if there is one for it now.
    fn find<T: DeserializeOwned>(&self, ask: &Ask<'_>, failed: impl Fn(&T) -> bool) -> Option<T> {
        let mut state = self.state();
        let answers = state.known.get(&ask.key)?;
        let last = answers.len().checked_sub(1)?;
        let at = match self.mode {
            // What failed is tried again; what succeeded is the last of its answers.
            TapeMode::Record => last,
            _ => state.played.get(&ask.key).copied().unwrap_or(0).min(last),
        };
        let known = answers[at].clone();
        if self.mode == TapeMode::Record && known.failed {
            return None;
        }
        *state.played.entry(ask.key.clone()).or_default() += 1;
        drop(state);
        let answer = self.read(&known.answer).inspect_err(|reason| tracing::warn!("an answer of the recording is lost: {reason}")).ok()?;
        self.count(ask, true);
        let mut state = self.state();
        let counts = state.counts.entry(ask.door).or_default();
        counts.hits += 1;
        counts.failures += u64::from(failed(&answer));
        Some(answer)
    }

    fn answer_path(&self, digest: &str) -> PathBuf {
        self.dir.join(ANSWERS).join(&digest[..2.min(digest.len())]).join(format!("{digest}.zst"))
    }

    fn read<T: DeserializeOwned>(&self, digest: &str) -> std::result::Result<T, String> {
        // A damaged line must not lead out of the folder.
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("{digest:?} is no digest"));
        }
        let path = self.answer_path(digest);
        let name = path.display();
        let compressed = fs::read(&path).map_err(|error| format!("{name}: {error}"))?;
        let json = zstd::decode_all(&compressed[..]).map_err(|error| format!("{name}: {error}"))?;
        if hex::encode(Sha256::digest(&json)) != digest {
            return Err(format!("{name}: its content is not what its name says"));
        }
        serde_json::from_slice(&json).map_err(|error| format!("{name}: {error}"))
    }

    /// Keeps an answer.
    fn keep(&self, ask: Ask<'_>, failed: bool, answer: &impl Serialize) {
        let written = self.write(answer);
        let mut state = self.state();
        let line = written.and_then(|digest| {
            let known = Known { answer: digest.clone(), failed };
            let Ask { door, plugin, asker: _, asked, key } = ask;
            let line = Line { call: key, door, plugin: plugin.to_owned(), asked, failed, answer: digest };
            let mut json = serde_json::to_string(&line).map_err(|error| error.to_string())?;
            json.push('\n');
            let file = state.calls.as_mut().ok_or("it is not open for writing")?;
            file.write_all(json.as_bytes()).map_err(|error| format!("{}: {error}", self.dir.join(CALLS).display()))?;
            Ok((line.call, known))
        });
        match line {
            Ok((call, known)) => state.known.entry(call).or_default().push(known),
            Err(reason) => {
                state.fault.get_or_insert(format!("a call cannot be kept: {reason}"));
            }
        }
    }

    /// Stores an answer, and gives its digest.
    fn write(&self, answer: &impl Serialize) -> std::result::Result<String, String> {
        let json = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
        let digest = hex::encode(Sha256::digest(&json));
        let path = self.answer_path(&digest);
        if !path.is_file() {
            let fail = |error: std::io::Error| format!("{}: {error}", path.display());
            let folder = path.parent().unwrap_or(&self.dir);
            fs::create_dir_all(folder).map_err(fail)?;
            let compressed = zstd::encode_all(&json[..], LEVEL).map_err(fail)?;
            // Another call may write the same answer at this moment; the last rename wins, with the same bytes.
            let mut partial = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
            partial.write_all(&compressed).map_err(fail)?;
            partial.persist(&path).map_err(|error| fail(error.error))?;
        }
        Ok(digest)
    }
}

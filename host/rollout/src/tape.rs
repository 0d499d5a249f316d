//! Record and replay of tool calls.
//!
//! A recording lies in a folder: `calls.jsonl` has a line for every call that was made, in order, and `answers/` holds what came back,
//! compressed, each once, named by its digest. A line is written after its answer, so that a kill at any instant leaves a recording of
//! everything before it; a torn last line is left out, a damaged answer counts as none.
//!
//! While a run is recorded, a call that was answered before is answered from the recording, so that a tool is asked each thing once. A
//! replay gives back what was recorded, failures and times included: the same episodes, byte for byte, without asking anything.

use crate::tools::{Failed, Played, Tool};
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mmhost_plugins::{CallCost, ImageBytes, PluginError, ResultPart, ToolInput, ToolSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const CALLS: &str = "calls.jsonl";
const ANSWERS: &str = "answers";
/// A level of zstd that costs less time than a call and gets most of the size.
const LEVEL: i32 = 3;

/// What a recording is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapeMode {
    /// Calls are made and kept; a known one is answered from the recording.
    Record,
    /// Known calls are answered from the recording, others are made.
    Replay,
    /// A call that the recording does not know ends the run.
    Strict,
}

/// How calls were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeCounts {
    /// Calls answered from the recording.
    pub hits: u64,
    /// Calls that it did not know.
    pub misses: u64,
    /// Failures among the answers.
    pub failures: u64,
}

/// A recording in use.
pub struct Tape {
    dir: PathBuf,
    mode: TapeMode,
    state: Mutex<State>,
}

struct State {
    /// Digests of the answers of a call, in order.
    known: HashMap<String, Vec<String>>,
    /// How often each call was answered by a replay.
    played: HashMap<String, usize>,
    calls: Option<File>,
    counts: TapeCounts,
    /// The first call that a strict replay did not know, or the first thing that went wrong with the files.
    fault: Option<String>,
}

/// A line of `calls.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Digest of everything that the answer may depend on.
    call: String,
    tool: String,
    argument: String,
    question: String,
    failed: bool,
    /// Digest of the answer.
    answer: String,
}

/// An answer as it is stored.
#[derive(Serialize, Deserialize)]
struct Answer {
    elapsed_ms: f64,
    parts: std::result::Result<Vec<StoredPart>, Failed>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredPart {
    Text(String),
    Image { media_type: String, base64: String },
}

impl Tape {
    /// Opens the recording in `dir`; to record, one is begun or gone on with.
    ///
    /// # Errors
    /// When the folder cannot be used, is no recording where one is to be replayed, or a line other than the last is damaged.
    pub fn open(dir: &Path, mode: TapeMode) -> Result<Arc<Self>> {
        let path = dir.join(CALLS);
        let io = |action| move |source| Error::Io { path: dir.join(CALLS), action, source };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && mode == TapeMode::Record => String::new(),
            read => read.map_err(io("read the recording"))?,
        };
        let mut known: HashMap<String, Vec<String>> = HashMap::new();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (number, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|error| Error::Corrupt {
                path: path.clone(),
                line: number + 1,
                reason: error.to_string(),
            })?;
            known.entry(line.call).or_default().push(line.answer);
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
        let state = State { known, played: HashMap::new(), calls, counts: TapeCounts::default(), fault: None };
        Ok(Arc::new(Tape { dir: dir.into(), mode, state: Mutex::new(state) }))
    }

    /// The same tool, with this recording before it.
    pub fn before(self: &Arc<Self>, tool: Arc<dyn Tool>) -> Arc<dyn Tool> {
        Arc::new(Taped { tape: self.clone(), tool })
    }

    /// How calls were answered so far.
    pub fn counts(&self) -> TapeCounts {
        self.state().counts
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// The first call that a strict replay did not know, or why the recording could not be written.
    pub fn check(&self) -> Result<()> {
        match self.state().fault.clone() {
            None => Ok(()),
            Some(fault) => Err(Error::Recording { dir: self.dir.clone(), fault }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorded answer of a call, if there is one for it now.
    fn find(&self, call: &str) -> Option<Played> {
        let mut state = self.state();
        let answers = state.known.get(call)?;
        let at = match self.mode {
            // What failed is tried again; what succeeded is the last of its answers.
            TapeMode::Record => answers.len().checked_sub(1)?,
            _ => state.played.get(call).copied().unwrap_or(0).min(answers.len().checked_sub(1)?),
        };
        let digest = answers[at].clone();
        *state.played.entry(call.to_owned()).or_default() += 1;
        drop(state);
        let answer = self.read(&digest).inspect_err(|reason| tracing::warn!("an answer of the recording is lost: {reason}")).ok()?;
        let played = played(answer).inspect_err(|reason| tracing::warn!("an answer of the recording is damaged: {reason}")).ok()?;
        if self.mode == TapeMode::Record && played.result.is_err() {
            return None;
        }
        let mut state = self.state();
        state.counts.hits += 1;
        state.counts.failures += u64::from(played.result.is_err());
        Some(played)
    }

    fn answer_path(&self, digest: &str) -> PathBuf {
        self.dir.join(ANSWERS).join(&digest[..2.min(digest.len())]).join(format!("{digest}.zst"))
    }

    fn read(&self, digest: &str) -> std::result::Result<Answer, String> {
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
    fn keep(&self, call: String, tool: &str, input: &ToolInput, played: &Played) {
        let written = (|| -> std::result::Result<String, String> {
            let json = serde_json::to_vec(&answer(played)).map_err(|error| error.to_string())?;
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
        })();
        let mut state = self.state();
        state.counts.failures += u64::from(played.result.is_err());
        let line = written.and_then(|digest| {
            let line = Line {
                call: call.clone(),
                tool: tool.to_owned(),
                argument: input.argument.clone(),
                question: input.question.clone(),
                failed: played.result.is_err(),
                answer: digest.clone(),
            };
            let mut json = serde_json::to_string(&line).map_err(|error| error.to_string())?;
            json.push('\n');
            let file = state.calls.as_mut().ok_or("it is not open for writing")?;
            file.write_all(json.as_bytes()).map_err(|error| format!("{}: {error}", self.dir.join(CALLS).display()))?;
            Ok(digest)
        });
        match line {
            Ok(digest) => state.known.entry(call).or_default().push(digest),
            Err(reason) => {
                state.fault.get_or_insert(format!("a call cannot be kept: {reason}"));
            }
        }
    }
}

fn answer(played: &Played) -> Answer {
    let part = |part: &ResultPart| match part {
        ResultPart::Text(text) => StoredPart::Text(text.clone()),
        ResultPart::Image(image) => StoredPart::Image { media_type: image.media_type.clone(), base64: BASE64.encode(&image.bytes) },
    };
    let parts = played.result.as_ref().map(|parts| parts.iter().map(part).collect()).map_err(Clone::clone);
    Answer { elapsed_ms: played.elapsed_ms, parts }
}

fn played(answer: Answer) -> std::result::Result<Played, String> {
    let part = |part| match part {
        StoredPart::Text(text) => Ok(ResultPart::Text(text)),
        StoredPart::Image { media_type, base64 } => {
            let bytes = BASE64.decode(base64).map_err(|error| error.to_string())?;
            Ok(ResultPart::Image(ImageBytes { media_type, bytes: bytes.into() }))
        }
    };
    let result = match answer.parts {
        Ok(parts) => Ok(parts.into_iter().map(part).collect::<std::result::Result<_, String>>()?),
        Err(failed) => Err(failed),
    };
    Ok(Played { result, elapsed_ms: answer.elapsed_ms })
}

/// A tool with a recording before it.
struct Taped {
    tape: Arc<Tape>,
    tool: Arc<dyn Tool>,
}

impl Taped {
    /// Everything that an answer may depend on, since a call runs in a fresh instance.
    fn key(&self, input: &ToolInput) -> String {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for text in [&self.tool.spec().name, self.tool.digest(), self.tool.configuration(), &input.argument, &input.question] {
            add(text.as_bytes());
        }
        for image in &input.images {
            add(&Sha256::digest(&image.bytes));
        }
        hex::encode(hasher.finalize())
    }
}

#[async_trait::async_trait]
impl Tool for Taped {
    fn spec(&self) -> &ToolSpec {
        self.tool.spec()
    }

    fn digest(&self) -> &str {
        self.tool.digest()
    }

    fn configuration(&self) -> &str {
        self.tool.configuration()
    }

    async fn call(&self, input: &ToolInput) -> std::result::Result<(Vec<ResultPart>, CallCost), PluginError> {
        self.tool.call(input).await
    }

    async fn play(&self, input: &ToolInput) -> Played {
        let key = self.key(input);
        if let Some(played) = self.tape.find(&key) {
            return played;
        }
        let name = &self.tool.spec().name;
        self.tape.state().counts.misses += 1;
        if self.tape.mode == TapeMode::Strict {
            let fault = format!("the recording has no answer to {name} of {:?} (question {:?})", input.argument, input.question);
            self.tape.state().fault.get_or_insert(fault.clone());
            return Played { result: Err(Failed { told: "it is not on record".into(), fault }), elapsed_ms: 0.0 };
        }
        let played = self.tool.play(input).await;
        if self.tape.mode == TapeMode::Record {
            self.tape.keep(key, name, input, &played);
        }
        played
    }
}

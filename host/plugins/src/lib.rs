//! The plugin runtime: sandboxed WASM components behind the contract in `wit/`.
//!
//! A plugin is a component with its manifest. Three kinds: search tools, rewards, dataset filters. Every call runs in a fresh
//! pooled instance under a deadline (epochs plus an outer timer), a memory limit and an output limit; what goes wrong becomes a
//! typed [`PluginError`], never a reward of 0.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a plugin call or a plugin folder failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PluginError { /// TODO(plugins): trap, deadline, memory, output too long, typed errors of the contract, wrong contract version, digest mismatch, bad manifest…
    #[error("{0}")] Other(String) }
/// Result of this crate.
pub type Result<T> = std::result::Result<T, PluginError>;

/// An image handed to plugins (they see a borrowed resource with size, media type, digest and ranged reads).
#[derive(Debug, Clone)]
pub struct ImageBytes {
    /// `image/png`, `image/jpeg`, …
    pub media_type: String,
    /// The encoded file.
    pub bytes: Arc<[u8]>,
}

/// A document found in a corpus.
#[derive(Debug, Clone)]
pub struct CorpusHit { /// document id
    pub id: String, /// title
    pub title: String, /// passage, or the whole text of a page
    pub text: String, /// link
    pub url: String, /// similarity or BM25 score
    pub score: f32, /// thumbnail of an image hit
    pub image: Option<ImageBytes> }

/// The host service `corpus`: what a granted plugin may search. Implemented outside this crate.
pub trait CorpusService: Send + Sync {
    /// BM25 over the pages of corpus `name`.
    fn search_text(&self, name: &str, query: &str, k: usize) -> std::result::Result<Vec<CorpusHit>, String>;
    /// Nearest images of corpus `name`.
    fn search_image(&self, name: &str, image: &ImageBytes, k: usize) -> std::result::Result<Vec<CorpusHit>, String>;
}

/// How the policy calls a tool.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallForm {
    /// An exact text, e.g. `<search><img></search>`; no argument.
    Literal(String),
    /// `<TAG>ARGUMENT</TAG>`.
    Tag(String),
    /// `<tool_call>{"name": NAME, "arguments": {…}}</tool_call>` with this JSON schema of the arguments.
    Json(String),
}

/// What a tool says of itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolSpec {
    /// Name, e.g. `image-search`.
    pub name: String,
    /// What it does, for the system prompt.
    pub description: String,
    /// How to call it.
    pub call: CallForm,
    /// Most calls in one episode.
    pub max_calls: u32,
    /// What the policy is told after a result.
    pub instruction: String,
    /// Whether the tool needs the question's image.
    pub needs_image: bool,
}

/// A part of a tool's answer, in order.
#[derive(Debug, Clone)]
pub enum ResultPart { /// text
    Text(String), /// an image that enters the model's context
    Image(ImageBytes) }

/// A tool call's arguments.
#[derive(Debug, Clone)]
pub struct ToolInput { /// the argument: empty for a literal, the tag's content, or the JSON object
    pub argument: String, /// the question's images
    pub images: Vec<ImageBytes>, /// the question
    pub question: String }

/// Cost of one call.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct CallCost { /// wall-clock milliseconds
    pub elapsed_ms: f64, /// peak linear memory in bytes
    pub memory_bytes: u64 }

/// What a reward or filter is told of an episode.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RewardInput {
    /// Names the episode.
    pub id: String,
    /// The question.
    pub question: String,
    /// Reference answer.
    pub ground_truth: String,
    /// Other accepted answers.
    pub candidate_answers: Vec<String>,
    /// The policy's turns as text, without control tokens.
    pub turns: Vec<String>,
    /// Tools called, in order: name and whether the call succeeded.
    pub calls: Vec<CallView>,
    /// How the episode ended.
    pub ending: String,
}
/// A tool call as a reward sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct CallView { /// tool name
    pub tool: String, /// argument
    pub argument: String, /// succeeded
    pub ok: bool }

/// A reward's word on one episode.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Total and named components (e.g. `accuracy`, `format`, `penalty`).
    Scored { /// total reward
        total: f64, /// components by name
        components: Vec<(String, f64)> },
    /// No verdict, with a reason; the episode is masked.
    Abstained(String),
}

/// A sample as a filter sees it.
#[derive(Debug, Clone)]
pub struct FilterInput { /// sample id
    pub id: String, /// question
    pub question: String, /// answer
    pub ground_truth: String, /// other answers
    pub candidate_answers: Vec<String>, /// origin
    pub data_source: String, /// images
    pub images: Vec<ImageBytes> }
/// A filter's decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision { /// keep, with tags
    Keep(Vec<String>), /// drop, with a reason
    Drop(String) }

/// Options of the runtime.
pub struct HostOptions { /// compiled components are kept here, keyed by digest
    pub cache_dir: PathBuf, /// the corpora plugins may be granted
    pub corpus: Arc<dyn CorpusService>, /// configuration by plugin name (JSON object), overrides the manifest's defaults
    pub config: std::collections::BTreeMap<String, serde_json::Value> }

/// The runtime. One per process.
pub struct PluginHost {}
/// The plugins of a folder.
pub struct Plugins { /// tools in manifest order
    pub tools: Vec<ToolPlugin>, /// rewards
    pub rewards: Vec<RewardPlugin>, /// filters
    pub filters: Vec<FilterPlugin> }
impl PluginHost {
    /// Starts the runtime.
    pub fn new(options: HostOptions) -> Result<Self> { todo!() }
    /// Loads every plugin of a folder (its `plugins.lock` pins them).
    pub fn load_dir(&self, dir: &Path) -> Result<Plugins> { todo!() }
}
/// A loaded tool.
#[derive(Clone)]
pub struct ToolPlugin {}
impl ToolPlugin {
    /// Its self-description.
    pub fn spec(&self) -> &ToolSpec { todo!() }
    /// Digest of the component, hex SHA-256.
    pub fn digest(&self) -> &str { todo!() }
    /// One call in a fresh instance.
    pub async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost)> { todo!() }
}
/// A loaded reward.
#[derive(Clone)]
pub struct RewardPlugin {}
impl RewardPlugin {
    /// Plugin name.
    pub fn name(&self) -> &str { todo!() }
    /// Digest of the component, hex SHA-256.
    pub fn digest(&self) -> &str { todo!() }
    /// Scores a batch in one call: one verdict per episode, in order.
    pub async fn score(&self, episodes: &[RewardInput]) -> Result<(Vec<Verdict>, CallCost)> { todo!() }
}
/// A loaded filter.
#[derive(Clone)]
pub struct FilterPlugin {}
impl FilterPlugin {
    /// Plugin name.
    pub fn name(&self) -> &str { todo!() }
    /// Decides on a batch.
    pub async fn filter(&self, samples: &[FilterInput]) -> Result<Vec<Decision>> { todo!() }
}

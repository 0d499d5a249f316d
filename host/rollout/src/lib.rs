//! Rollouts: the turn protocol, tool dispatch, the scheduler and the episode record. Knows tokens, not tensors.

use mmhost_engine::Engine;
use mmhost_model::{Processor, Segment};
use mmhost_plugins::{PluginError, ResultPart, RewardPlugin, ToolInput, ToolPlugin, ToolSpec, CallCost};
use std::sync::Arc;

/// How a question is put to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workflow { /// no tools
    Direct, /// one forced image search, then one forced text search, then the answer
    Rag, /// the policy decides
    OnDemand }

/// Tools as the rollout uses them.
#[async_trait::async_trait]
pub trait Tool: Send + Sync {
    /// Self-description.
    fn spec(&self) -> &ToolSpec;
    /// One call.
    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError>;
}

/// The texts of the protocol; tools contribute their lines.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolOptions {
    /// Opening of the system prompt.
    pub opening: String,
    /// How the answer's line in the list of endings reads, e.g. `<answer>ANSWER</answer> final answer`.
    pub answer_line: String,
    /// Most turns of an episode.
    pub max_turns: usize,
    /// Most tool calls of an episode.
    pub max_calls: usize,
    /// Longest turn in tokens.
    pub max_turn_tokens: usize,
    /// Longest episode in tokens.
    pub max_episode_tokens: usize,
}

/// How an episode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending { /// an answer
    Answered, /// a turn without exactly one legal ending
    Malformed, /// a call over a limit
    OverLimit, /// ran out of turns
    Turns, /// ran out of tokens
    Length }

/// A span of sampled tokens in `Episode::tokens`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TurnRecord { /// first sampled token
    pub start: usize, /// one past the last
    pub end: usize, /// decoded text without the end-of-turn token
    pub text: String }

/// A tool call on record.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallRecord { /// tool
    pub tool: String, /// digest of the component
    pub digest: String, /// argument
    pub argument: String, /// result as text (images by digest), or the error text
    pub result: String, /// succeeded
    pub ok: bool, /// milliseconds
    pub elapsed_ms: f64, /// whether an equal call of the group answered it
    pub shared: bool }

/// The record of one rollout.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Episode {
    /// `step=5/group=2/rollout=1` or `eval=test/on-demand/group=17/rollout=0`.
    pub id: String, /// sample id
    pub sample: String, /// question class
    pub category: Option<String>, /// question
    pub question: String, /// truth
    pub ground_truth: String, /// other accepted answers
    pub candidate_answers: Vec<String>, /// workflow
    pub workflow: Workflow, /// every token of the episode
    pub tokens: Vec<u32>, /// true exactly at sampled tokens
    pub mask: Vec<bool>, /// of the sampled tokens, in order
    pub logprobs: Vec<f32>, /// the policy's turns
    pub turns: Vec<TurnRecord>, /// tool calls
    pub calls: Vec<CallRecord>, /// calls allowed in all
    pub calls_allowed: usize, /// how it ended
    pub ending: Ending, /// reward, once scored
    pub reward: Option<mmhost_plugins::Verdict>,
    /// Digests of the images in context order (bytes are stored once per run).
    pub image_digests: Vec<String>,
    /// Images themselves (not serialised).
    #[serde(skip)] pub images: Vec<Arc<mmhost_model::ImageInput>>,
}

/// A question ready to roll out.
#[derive(Clone)]
pub struct Task { /// the sample
    pub sample: Arc<mmhost_data::Sample>, /// its images, processed
    pub images: Vec<Arc<mmhost_model::ImageInput>> }

/// Runs episodes.
pub struct Roller {}
impl Roller {
    /// Wires engine, text side and tools.
    pub fn new(engine: Arc<dyn Engine>, processor: Processor, tools: Vec<Arc<dyn Tool>>, protocol: ProtocolOptions) -> Result<Self, String> { todo!() }
    /// The system prompt of a workflow, composed from the tools.
    pub fn system_prompt(&self, workflow: Workflow) -> String { todo!() }
    /// Rolls out `rollouts` episodes of each task concurrently. Order of the result: groups as `tasks`, episodes by index. `label` prefixes ids; equal seeds give equal episodes.
    pub async fn run(&self, tasks: &[Task], rollouts: usize, workflow: Workflow, temperature: f32, seed: u64, label: &str) -> Result<Vec<Vec<Episode>>, String> { todo!() }
}
/// Scores episodes in one batch, filling `reward`; a failed reward leaves `Verdict::Abstained`.
pub async fn score(reward: &RewardPlugin, episodes: &mut [&mut Episode]) { todo!() }

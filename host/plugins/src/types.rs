//! What goes into plugins and what comes out of them, in the host's terms.

use std::sync::Arc;

/// An image handed to plugins (they see a resource with size, media type, digest and ranged reads).
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ImageBytes {
    /// `image/png`, `image/jpeg`, …
    pub media_type: String,
    /// The encoded file; base64 in records.
    #[serde(rename = "base64", with = "in_base64")]
    pub bytes: Arc<[u8]>,
}

/// Bytes as base64, which is refused where it is damaged.
pub(crate) mod in_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::sync::Arc;

    pub fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map(Arc::from).map_err(D::Error::custom)
    }
}

/// A document found in a corpus.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct CorpusHit {
    /// Document id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Passage, or the whole text of a page.
    pub text: String,
    /// Link.
    pub url: String,
    /// Similarity or BM25 score.
    pub score: f32,
    /// Thumbnail of an image hit.
    pub image: Option<ImageBytes>,
}

/// The host service `corpus`: what a granted plugin may search. Implemented outside this crate; called on a thread that may
/// block.
pub trait CorpusService: Send + Sync {
    /// BM25 over the pages of corpus `name`, best first.
    ///
    /// # Errors
    /// Says why the corpus cannot answer, e.g. that there is none of this name.
    fn search_text(&self, name: &str, query: &str, k: usize) -> Result<Vec<CorpusHit>, String>;

    /// Nearest images of corpus `name`, most similar first.
    ///
    /// # Errors
    /// Says why the corpus cannot answer, e.g. that the image does not decode.
    fn search_image(&self, name: &str, image: &ImageBytes, k: usize) -> Result<Vec<CorpusHit>, String>;
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
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultPart {
    /// Text.
    Text(String),
    /// An image that enters the model's context.
    Image(ImageBytes),
}

/// A tool call's arguments.
#[derive(Debug, Clone)]
pub struct ToolInput {
    /// The argument: empty for a literal, the tag's content, or the JSON object.
    pub argument: String,
    /// The question's images.
    pub images: Vec<ImageBytes>,
    /// The question.
    pub question: String,
}

/// Cost of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallCost {
    /// Wall-clock milliseconds, without the wait for a free instance.
    pub elapsed_ms: f64,
    /// Peak linear memory in bytes.
    pub memory_bytes: u64,
    /// Fuel, about one unit for each instruction of the guest; only a [metered](crate::PluginHost::metered) host counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl CallCost {
    /// Takes the cost of a further call in: times and fuel add up, memory is that of the larger call.
    pub fn add(&mut self, other: CallCost) {
        self.elapsed_ms += other.elapsed_ms;
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.fuel = match (self.fuel, other.fuel) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
    }
}

/// What a reward is told of an episode.
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
    /// Tools called, in order.
    pub calls: Vec<CallView>,
    /// How the episode ended.
    pub ending: String,
}

/// A tool call as a reward sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct CallView {
    /// Tool name.
    pub tool: String,
    /// Argument.
    pub argument: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What the policy was shown, as text.
    #[serde(default)]
    pub answer: String,
}

/// A reward's word on one episode.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Total and named components (e.g. `accuracy`, `format`, `penalty`), all finite.
    Scored {
        /// Total reward.
        total: f64,
        /// Components by name.
        components: Vec<(String, f64)>,
    },
    /// No verdict, with a reason; the episode is masked.
    Abstained(String),
}

/// A sample as a filter sees it.
#[derive(Debug, Clone)]
pub struct FilterInput {
    /// Sample id.
    pub id: String,
    /// Question.
    pub question: String,
    /// Reference answer.
    pub ground_truth: String,
    /// Other accepted answers.
    pub candidate_answers: Vec<String>,
    /// Where the sample comes from.
    pub data_source: String,
    /// Images.
    pub images: Vec<ImageBytes>,
}

/// A filter's decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Keep the sample, with these tags.
    Keep(Vec<String>),
    /// Drop it, for this reason.
    Drop(String),
}

/// What a reward says of itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RewardSpec {
    /// What it rewards, in one line.
    pub summary: String,
    /// Smallest total that it can give.
    pub lowest: f64,
    /// Largest total that it can give.
    pub highest: f64,
    /// Names of the components, in order.
    pub components: Vec<String>,
}

/// What a filter says of itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FilterSpec {
    /// What it drops and tags, in one line.
    pub summary: String,
    /// Every tag that it can give.
    pub tags: Vec<String>,
}

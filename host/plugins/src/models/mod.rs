//! Language models that plugins may ask: what a run says of them ([`ModelSource`]), and how they are asked.
//!
//! Behind a name stands either an endpoint that speaks OpenAI's chat completions, or a model in the host's memory ([`LocalModel`]). A plugin
//! sees neither addresses nor keys: it names the model, and the door `llm` does the rest.

mod endpoint;
mod source;

pub use source::ModelSource;

use crate::ledger::TokenPrices;
use endpoint::Endpoint;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(crate) use endpoint::Traffic;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever sets the task.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// Something that is said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What. It comes from a plugin: control tokens in it are plain text.
    #[serde(rename = "content")]
    pub text: String,
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CompletionRequest {
    /// The conversation so far; not empty.
    pub messages: Vec<ChatMessage>,
    /// Most tokens of the answer; at least 1.
    pub max_tokens: u32,
    /// Temperature of the sampling, 0 to 2; 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampling.
    pub seed: u64,
}

/// What a model answers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Completion {
    /// Its text, without control tokens.
    pub text: String,
    /// Whether it ended by itself, rather than at `max_tokens`.
    pub finished: bool,
    /// Tokens of the conversation.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
}

/// A model in the host's memory. Implemented outside this crate; called on a thread that may block, from several at once.
pub trait LocalModel: Send + Sync {
    /// The answer to a conversation.
    ///
    /// # Errors
    /// Says why there is none, e.g. that the conversation is longer than the model's context.
    fn complete(&self, request: &CompletionRequest) -> Result<Completion, String>;
}

/// Where models in the host's memory come from.
pub trait LocalModels: Send + Sync {
    /// The model of a folder; of equal folders the same one.
    ///
    /// # Errors
    /// Says what is wrong with the folder.
    fn open(&self, folder: &Path) -> Result<Arc<dyn LocalModel>, String>;
}

/// A model that a plugin may ask.
pub(crate) struct Model {
    /// What it is, for people and records.
    what: String,
    way: Way,
    pub prices: TokenPrices,
    /// Places for requests.
    places: Semaphore,
}

enum Way {
    Endpoint(Box<Endpoint>),
    Local(Arc<dyn LocalModel>),
}

/// Stands in for every model where a plugin is tried apart from any run: it says no to everything.
struct NaySayer;

impl LocalModel for NaySayer {
    fn complete(&self, request: &CompletionRequest) -> Result<Completion, String> {
        // A token for each word is as good a count as any.
        let words = |message: &ChatMessage| message.text.split_whitespace().count() as u32;
        let prompt_tokens = request.messages.iter().map(words).sum();
        Ok(Completion { text: "no".into(), finished: true, prompt_tokens, completion_tokens: 1 })
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.what).finish()
    }
}

impl Model {
    /// What stands in for a model where there is no run to grant one.
    pub fn stand_in() -> Self {
        let (what, prices) = ("a stand-in that says no".into(), TokenPrices::default());
        Model { what, way: Way::Local(Arc::new(NaySayer)), prices, places: Semaphore::new(1) }
    }

    /// Asks it. `traffic` counts what a call of a plugin moves over the network.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub async fn complete(&self, request: CompletionRequest, traffic: &Traffic) -> Result<Completion, String> {
        let _place = self.places.acquire().await.map_err(|_| "shut down".to_string())?;
        match &self.way {
            Way::Endpoint(endpoint) => endpoint.complete(&request, traffic).await,
            Way::Local(model) => {
                let model = model.clone();
                let answer = tokio::task::spawn_blocking(move || model.complete(&request)).await;
                answer.unwrap_or_else(|_| Err("the model failed unexpectedly".into()))
            }
        }
    }
}

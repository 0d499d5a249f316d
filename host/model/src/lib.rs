//! Qwen2.5-VL in candle: configuration, weights, tokenizer and chat template, image processor, vision tower, decoder,
//! M-RoPE. Trainable end to end on fused operations (`ops`), the same kernels in rollout and in learning.
//!
//! This crate knows tensors and tokens; it knows nothing of episodes.

pub mod ops;

mod config;
mod config_json;
mod decoder;
mod error;
mod folder;
mod layout;
mod packed;
mod params;
mod positions;
mod qwen2_5_vl;
mod shards;
mod vision;
mod weights;

pub use config::{ModelConfig, ModelShape, TextConfig, TokenIds, VisionConfig};
pub use error::{Error, FieldError, Result};
pub use folder::{ModelFolder, SaveOptions, save_model};
pub use packed::{ImageInput, Packed};
pub use positions::PositionCursor;
pub use qwen2_5_vl::{KvCache, Qwen2_5Vl};
pub use shards::{SaveDtype, TensorFacts};
pub use weights::Weights;

use std::sync::Arc;

/// Byte-level BPE tokenizer of a Hugging Face folder.
#[derive(Clone)]
pub struct Tokenizer {}
impl Tokenizer {
    /// Encodes text in which special and added tokens are recognised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> { todo!() }
    /// Encodes text in which nothing is special: `<|im_end|>` or `<reason>` inside it stay plain characters.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> { todo!() }
    /// Decodes ids, special tokens included as text.
    pub fn decode(&self, ids: &[u32]) -> Result<String> { todo!() }
    /// Id of a token that stands for itself.
    pub fn token_id(&self, token: &str) -> Option<u32> { todo!() }
}

/// One chat message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message { /// `system`, `user` or `assistant`
    pub role: String, /// text and images in order
    pub content: Vec<Part> }
/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text of our own or the policy's making: special and added tokens in it count.
    Text(String),
    /// Text from elsewhere (tool output, data sets): control tokens in it stay plain characters.
    Untrusted(String),
    /// An image; the template writes its placeholder.
    Image(Arc<ImageInput>),
}
/// Tokens ready for the model: image placeholders already expanded to `num_tokens` each.
#[derive(Debug, Clone, Default)]
pub struct Segment { /// token ids
    pub tokens: Vec<u32>, /// images in order
    pub images: Vec<Arc<ImageInput>> }

/// Tokenizer, chat template and image processor together.
#[derive(Clone)]
pub struct Processor { /// tokenizer
    pub tokenizer: Tokenizer }
impl Processor {
    /// Renders a conversation with the chat template and encodes it; with `add_generation_prompt` it ends where the assistant begins.
    pub fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Segment> { todo!() }
    /// What follows a finished assistant turn (its end-of-turn token already there): the new messages and the opening of the next assistant turn.
    pub fn encode_continuation(&self, messages: &[Message]) -> Result<Segment> { todo!() }
    /// Decoded pixels to model input.
    pub fn process_image(&self, image: &image::DynamicImage) -> Result<ImageInput> { todo!() }
    /// Ids that end an assistant turn.
    pub fn eos_ids(&self) -> &[u32] { todo!() }
    /// Reads the files.
    pub fn load(dir: &std::path::Path, config: &ModelConfig) -> Result<Self> { todo!() }
    /// Writes the files.
    pub(crate) fn write(&self, dir: &std::path::Path) -> Result<()> { todo!() }
}

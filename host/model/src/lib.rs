//! Qwen2.5-VL in candle: configuration, weights, tokenizer and chat template, image processor, vision tower, decoder,
//! M-RoPE. Trainable end to end on fused operations (`ops`), the same kernels in rollout and in learning.
//!
//! This crate knows tensors and tokens; it knows nothing of episodes.

use std::sync::Arc;
use candle_core::{Device, Tensor, Var, Result as CandleResult};

/// Error of this crate. TODO(model): thiserror enum.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An image as the vision tower reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInput {
    /// Normalised patches, row-major `[num_patches, 1176]`, rows in 2×2 merge-block order.
    pub pixel_values: Vec<f32>,
    /// Patches in time, height and width.
    pub grid_thw: [u32; 3],
}

impl ImageInput {
    /// How many `<|image_pad|>` tokens stand for this image (`t·h·w / merge²`).
    pub fn num_tokens(&self, merge_size: u32) -> usize { todo!() }
}

/// Sequences laid one after another without padding. `T` is the total number of tokens, `S` the number of sequences.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// Token ids `[T]`.
    pub input_ids: Vec<u32>,
    /// Where each sequence begins and ends in `input_ids`, `[S + 1]`, first 0, last `T`.
    pub cu_seqlens: Vec<u32>,
    /// M-RoPE positions (temporal, height, width) of each token `[T]`.
    pub positions: Vec<[u32; 3]>,
    /// The images in the order in which their tokens stand in `input_ids`.
    pub images: Vec<Arc<ImageInput>>,
}

impl Packed {
    /// Appends one sequence.
    pub fn push(&mut self, ids: &[u32], positions: &[[u32; 3]], images: &[Arc<ImageInput>]) { todo!() }
}

/// Assigns M-RoPE positions to a growing sequence (append only, so multi-turn episodes extend it).
#[derive(Debug, Clone, Default)]
pub struct PositionCursor { /// position of the next text token
    pub next: u32 }
impl PositionCursor {
    /// Positions for `ids` appended to the sequence; every run of image tokens in `ids` belongs to one of `images`, in order.
    pub fn extend(&mut self, config: &ModelConfig, ids: &[u32], images: &[Arc<ImageInput>]) -> Result<Vec<[u32; 3]>> { todo!() }
}

/// The model's shape, as in a Hugging Face `config.json` (nested and flat forms are read).
#[derive(Debug, Clone)]
pub struct ModelConfig { /* text, vision, token ids; the model helper fills these in */ }

/// Named trainable parameters. QKV and gate/up projections are kept packed and are split on export.
pub struct Weights { vars: std::collections::BTreeMap<String, Var> }
impl Weights {
    /// Random initialisation, the same for the same seed.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self> { todo!() }
    /// The parameters, ordered by name.
    pub fn vars(&self) -> &std::collections::BTreeMap<String, Var> { &self.vars }
    /// A copy that shares nothing with these weights (for the frozen reference policy).
    pub fn deep_copy(&self) -> Result<Self> { todo!() }
}

/// The network. Cheap to clone: tensors are shared with the `Weights` it was made from and see their updates.
#[derive(Clone)]
pub struct Qwen2_5Vl {}
impl Qwen2_5Vl {
    /// Builds the network over trainable weights (gradients flow to the `Var`s).
    pub fn new(config: &ModelConfig, weights: &Weights) -> Result<Self> { todo!() }
    /// Builds the network over the same weights, detached: no gradient is recorded (rollout, reference policy, evaluation).
    pub fn frozen(config: &ModelConfig, weights: &Weights) -> Result<Self> { todo!() }
    /// The configuration.
    pub fn config(&self) -> &ModelConfig { todo!() }
    /// Hidden states after the final norm, `[T, hidden]`, differentiable.
    pub fn forward(&self, batch: &Packed) -> Result<Tensor> { todo!() }
    /// Logits `[N, vocab]` of hidden states `[N, hidden]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> { todo!() }
    /// Log-probability `[N]` of `targets` under `softmax(logits / temperature)`; the full logits are never held.
    pub fn target_logprobs(&self, hidden: &Tensor, targets: &[u32], temperature: f32) -> Result<Tensor> { todo!() }
    /// Runs the new tokens of each sequence against its cache (prefill, append and decode are the same call) and returns the hidden
    /// state of the last token of each sequence, `[S, hidden]`. No gradient. Row results do not depend on what else is in the batch (bitwise on CPU).
    pub fn forward_cached(&self, batch: &Packed, caches: &mut [&mut KvCache]) -> Result<Tensor> { todo!() }
}

/// Keys and values of one sequence, all layers, growing.
#[derive(Clone)]
pub struct KvCache {}
impl KvCache {
    /// An empty cache.
    pub fn new(config: &ModelConfig) -> Self { todo!() }
    /// Tokens held.
    pub fn len(&self) -> usize { todo!() }
    /// Bytes held.
    pub fn bytes(&self) -> usize { todo!() }
}

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

/// Everything of a Hugging Face model folder.
pub struct ModelFolder { /// shape
    pub config: ModelConfig, /// parameters
    pub weights: Weights, /// text side
    pub processor: Processor }
impl ModelFolder {
    /// Reads a folder.
    pub fn load(dir: &std::path::Path, device: &Device) -> Result<Self> { todo!() }
    /// Writes a folder that loads in transformers as it is (atomically: into a temporary sibling, then renamed).
    pub fn save(&self, dir: &std::path::Path) -> Result<()> { todo!() }
}

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
}

//! One conversation through the whole model: its logits, or its continuation.

use std::path::Path;

use candle_core::{DType, IndexOp, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, KvCache, Message, Packed, PositionCursor, Processor, Qwen2_5Vl, Result, Segment};

/// The logits of every position of a conversation.
pub struct ChatLogits {
    /// Token ids `[T]`.
    pub input_ids: Vec<u32>,
    /// Logits `[T, vocab]`, `f32`.
    pub logits: Tensor,
}

impl ChatLogits {
    /// Writes a safetensors file with `input_ids` `[T]` (i64) and `logits` `[T, vocab]` (f32).
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, path: &Path) -> Result<()> {
        use safetensors::{Dtype, tensor::TensorView};
        let ids: Vec<u8> = self.input_ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
        let logits: Vec<u8> = self.logits.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect();
        let broken = |e: safetensors::SafeTensorError| match e {
            safetensors::SafeTensorError::IoError(source) => Error::Io { action: "write", path: path.to_owned(), source },
            other => Error::Shard { path: path.to_owned(), reason: other.to_string() },
        };
        let views = [
            ("input_ids", TensorView::new(Dtype::I64, vec![self.input_ids.len()], &ids).map_err(broken)?),
            ("logits", TensorView::new(Dtype::F32, self.logits.dims().to_vec(), &logits).map_err(broken)?),
        ];
        safetensors::serialize_to_file(views, None, path).map_err(broken)
    }
}

/// Logits of a conversation; with `add_generation_prompt` it ends where the assistant begins.
///
/// # Errors
/// When the conversation cannot be rendered or a tensor operation fails.
pub fn chat_logits(model: &Qwen2_5Vl, processor: &Processor, messages: &[Message], add_generation_prompt: bool) -> Result<ChatLogits> {
    let (batch, _) = pack(model, processor.encode_chat(messages, add_generation_prompt)?)?;
    let logits = model.logits(&model.forward(&batch)?)?.to_dtype(DType::F32)?;
    Ok(ChatLogits { input_ids: batch.input_ids, logits })
}

fn pack(model: &Qwen2_5Vl, segment: Segment) -> Result<(Packed, PositionCursor)> {
    let mut cursor = PositionCursor::default();
    let positions = cursor.extend(model.config(), &segment.tokens, &segment.images)?;
    let mut batch = Packed::default();
    batch.push(&segment.tokens, &positions, &segment.images);
    Ok((batch, cursor))
}

/// How [`generate`] chooses tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; above 0, tokens are drawn from `softmax(logits / temperature)`.
    pub temperature: f32,
    /// Draw from the likeliest tokens whose probabilities add up to this, 1 for all.
    pub top_p: f32,
    /// Draw from this many likeliest tokens, 0 for all.
    pub top_k: usize,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 256, temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 }
    }
}

/// What [`generate`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The conversation's tokens.
    pub prompt: Vec<u32>,
    /// The new tokens, the end-of-turn token included when it came.
    pub tokens: Vec<u32>,
    /// The new tokens as text, without the end-of-turn token.
    pub text: String,
    /// Whether the turn ended by itself, rather than at `max_new_tokens`.
    pub finished: bool,
}

/// The assistant's answer to a conversation, one sequence at a time; the engine serves many.
///
/// # Errors
/// When the conversation cannot be rendered or a tensor operation fails.
pub fn generate(model: &Qwen2_5Vl, processor: &Processor, messages: &[Message], options: &GenerateOptions) -> Result<Generated> {
    let (mut batch, mut cursor) = pack(model, processor.encode_chat(messages, true)?)?;
    let prompt = batch.input_ids.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut cache = KvCache::new(model.config());
    let mut tokens = Vec::new();
    let mut finished = false;
    while tokens.len() < options.max_new_tokens {
        let hidden = model.forward_cached(&batch, &mut [&mut cache])?;
        let logits = model.logits(&hidden)?.i(0)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let token = choose(&logits, options, &mut rng);
        tokens.push(token);
        if processor.eos_ids().contains(&token) {
            finished = true;
            break;
        }
        // A drawn image token would have no image behind it; it ends the generation like any invalid continuation.
        if token == model.config().tokens.image || token == model.config().tokens.video {
            break;
        }
        batch = Packed::default();
        batch.push(&[token], &cursor.extend(model.config(), &[token], &[])?, &[]);
    }
    let end = tokens.len() - usize::from(finished);
    let text = processor.tokenizer.decode(&tokens[..end])?;
    Ok(Generated { prompt, text, tokens, finished })
}

fn choose(logits: &[f32], options: &GenerateOptions, rng: &mut ChaCha8Rng) -> u32 {
    // The likeliest first, the smaller id first among equals, so that greedy choice is stable.
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |id: &u32| logits[*id as usize];
    order.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
    if options.temperature <= 0.0 {
        return order[0];
    }
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let largest = logit(&order[0]);
    let weights: Vec<f64> = order.iter().map(|id| f64::from((logit(id) - largest) / options.temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let mut count = 0;
    for weight in &weights {
        kept += weight;
        count += 1;
        if kept >= f64::from(options.top_p) * total {
            break;
        }
    }
    let mut left = rng.random::<f64>() * kept;
    for (id, weight) in order[..count].iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    order[count - 1]
}

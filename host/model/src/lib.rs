//! Qwen2.5-VL in candle: configuration, weights, tokenizer and chat template, image processor, vision tower, decoder,
//! M-RoPE. Trainable end to end on fused operations (`ops`), the same kernels in rollout and in learning.
//!
//! This crate knows tensors and tokens; it knows nothing of episodes.
//!
//! # In reading order
//!
//! - A folder: [`ModelFolder`] is [`ModelConfig`], [`Weights`] and [`Processor`] together; [`inspect`] looks without loading.
//! - From a conversation to tokens: [`Message`] → [`Processor::encode_chat`] → [`Segment`]. Text that is not ours goes in as
//!   [`Part::Untrusted`], so that control tokens in it stay characters.
//! - From tokens to a batch: [`PositionCursor`] gives each token its three positions, [`Packed`] lays sequences one after
//!   another without padding.
//! - Through the network: [`Qwen2_5Vl::forward`] and [`Qwen2_5Vl::target_logprobs`] with gradients,
//!   [`Qwen2_5Vl::forward_cached`] with a [`KvCache`] for generation.
//!
//! `tests/parity.rs` compares every step with transformers.

pub mod ops;

mod chat;
mod chat_template;
mod config;
mod config_json;
mod decoder;
mod error;
mod folder;
mod image_file;
mod image_processor;
mod inspect;
mod layout;
mod message;
mod messages;
mod packed;
mod params;
mod positions;
mod processor;
mod qwen2_5_vl;
mod shards;
mod tokenizer;
mod vision;
mod weights;

pub use chat::{ChatLogits, GenerateOptions, Generated, chat_logits, generate};
pub use config::{ModelConfig, ModelShape, TextConfig, TokenIds, VisionConfig};
pub use error::{Error, FieldError, Result};
pub use folder::{ModelFolder, SaveOptions, save_model};
pub use image_file::{decode_image, read_image};
pub use image_processor::ImageProcessor;
pub use inspect::{Inspection, inspect};
pub use message::{Message, Part, Segment};
pub use messages::read_messages;
pub use packed::{ImageInput, Packed};
pub use positions::PositionCursor;
pub use processor::Processor;
pub use qwen2_5_vl::{KvCache, Qwen2_5Vl};
pub use shards::{SaveDtype, TensorFacts};
pub use tokenizer::{CONTROL_TOKENS, Tokenizer};
pub use weights::Weights;

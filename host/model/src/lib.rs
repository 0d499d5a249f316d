//! Qwen2.5-VL in candle: configuration, weights, tokenizer and chat template, image processor, vision tower, decoder,
//! M-RoPE. Trainable end to end on fused operations (`ops`), the same kernels in rollout and in learning.
//!
//! This crate knows tensors and tokens; it knows nothing of episodes.

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

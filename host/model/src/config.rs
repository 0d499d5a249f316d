//! The model's shape: what it means, which shapes are possible, and presets.
//!
//! Reading and writing `config.json` is next door, in `config_json`.

use serde::{Deserialize, Serialize};

use crate::ops::Heads;
use crate::{Error, Result};

/// The language model's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base wavelength of the rotary positions.
    pub rope_theta: f64,
    /// How many of the `head_dim / 2` rotation frequencies turn with the temporal, height and width position.
    pub mrope_section: [usize; 3],
    /// Largest position that the model was made for; informative.
    pub max_position_embeddings: usize,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
}

impl TextConfig {
    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Heads as the attention operations take them.
    pub fn heads(&self) -> Heads {
        Heads { q: self.num_heads, kv: self.num_kv_heads, dim: self.head_dim() }
    }
}

/// The vision tower's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of a patch.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames that make one patch; a still image is repeated.
    pub temporal_patch_size: usize,
    /// `merge × merge` patches become one token.
    pub spatial_merge_size: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Blocks that attend over the whole image; the others stay within windows.
    pub fullatt_block_indexes: Vec<usize>,
    /// Width of a token; equal to the language model's `hidden_size`.
    pub out_hidden_size: usize,
    /// Temporal positions per second of video; kept for the file, unused for images.
    pub tokens_per_second: usize,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
}

impl VisionConfig {
    /// Numbers in one patch: `channels · frames · side²`, 1,176 in every published model.
    pub fn patch_dim(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Heads as the attention operations take them.
    pub fn heads(&self) -> Heads {
        Heads { q: self.num_heads, kv: self.num_heads, dim: self.hidden_size / self.num_heads }
    }

    /// Patches that make one token.
    pub fn merge_unit(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }

    /// Side of an attention window in tokens.
    pub fn window_tokens(&self) -> usize {
        self.window_size / self.patch_size / self.spatial_merge_size
    }
}

/// Token ids that mean something to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// Stands for one merged patch of an image.
    pub image: u32,
    /// Stands for one merged patch of a video; refused in sequences.
    pub video: u32,
    /// Opens an image.
    pub vision_start: u32,
    /// Closes an image.
    pub vision_end: u32,
    /// Begins a text, where the tokenizer has such a token.
    pub bos: Option<u32>,
    /// End an assistant turn.
    pub eos: Vec<u32>,
    /// Fills gaps, where the tokenizer has such a token.
    pub pad: Option<u32>,
}

/// The model's shape, as in a Hugging Face `config.json` (nested and flat forms are read).
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Token ids that mean something to the model.
    pub tokens: TokenIds,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
}

/// The freely chosen part of a small model's shape, as a run's configuration gives it; the rest follows.
///
/// The default is the nano model: about 1.6 million parameters with a vocabulary of 640.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the decoder.
    pub hidden_size: usize,
    /// Inner width of the decoder's SwiGLU.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Base wavelength of the rotary positions.
    pub rope_theta: f64,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Width of the vision tower.
    pub vision_hidden_size: usize,
    /// Inner width of the vision tower's SwiGLU.
    pub vision_intermediate_size: usize,
    /// Blocks of the vision tower.
    pub vision_depth: usize,
    /// Heads of the vision tower.
    pub vision_num_heads: usize,
    /// Blocks with full attention; the others attend within windows.
    pub fullatt_block_indexes: Vec<usize>,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// `merge × merge` patches become one token.
    pub spatial_merge_size: usize,
    /// Side of an attention window in pixels.
    pub window_size: usize,
    /// Standard deviation of freshly drawn embeddings.
    pub initializer_range: f64,
}

impl Default for ModelShape {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 384,
            num_layers: 4,
            num_heads: 4,
            num_kv_heads: 2,
            // Contexts are short: at most a few hundred tokens.
            rope_theta: 100.0,
            tie_word_embeddings: true,
            vision_hidden_size: 128,
            vision_intermediate_size: 256,
            vision_depth: 2,
            vision_num_heads: 4,
            fullatt_block_indexes: vec![1],
            patch_size: 14,
            spatial_merge_size: 2,
            window_size: 112,
            // Wider than the 0.02 of large models: with tied embeddings a small model copies names sooner.
            initializer_range: 0.1,
        }
    }
}

impl ModelConfig {
    /// The nano model for a tokenizer of `vocab_size` tokens.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn nano(vocab_size: usize, tokens: TokenIds) -> Result<Self> {
        Self::from_shape(&ModelShape::default(), vocab_size, tokens)
    }

    /// A model of the given shape for a tokenizer of `vocab_size` tokens.
    ///
    /// # Errors
    /// When the numbers do not fit together; the message names the field.
    pub fn from_shape(shape: &ModelShape, vocab_size: usize, tokens: TokenIds) -> Result<Self> {
        let half = shape.hidden_size.checked_div(shape.num_heads).unwrap_or(0) / 2;
        // The split of the published models, 16:24:24 of 64, in proportion.
        let spatial = half * 3 / 8;
        let config = Self {
            text: TextConfig {
                vocab_size,
                hidden_size: shape.hidden_size,
                intermediate_size: shape.intermediate_size,
                num_layers: shape.num_layers,
                num_heads: shape.num_heads,
                num_kv_heads: shape.num_kv_heads,
                rms_norm_eps: 1e-6,
                rope_theta: shape.rope_theta,
                mrope_section: [half - 2 * spatial, spatial, spatial],
                max_position_embeddings: 32_768,
                initializer_range: shape.initializer_range,
            },
            vision: VisionConfig {
                depth: shape.vision_depth,
                hidden_size: shape.vision_hidden_size,
                intermediate_size: shape.vision_intermediate_size,
                num_heads: shape.vision_num_heads,
                in_channels: 3,
                patch_size: shape.patch_size,
                temporal_patch_size: 2,
                spatial_merge_size: shape.spatial_merge_size,
                window_size: shape.window_size,
                fullatt_block_indexes: shape.fullatt_block_indexes.clone(),
                out_hidden_size: shape.hidden_size,
                tokens_per_second: 2,
                initializer_range: shape.initializer_range,
            },
            tokens,
            tie_word_embeddings: shape.tie_word_embeddings,
        };
        config.validate("model shape")?;
        Ok(config)
    }

    /// Checks that the numbers lie in range and fit together. `file` names their origin in the message.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self, file: &str) -> Result<()> {
        let (text, vision) = (&self.text, &self.vision);
        let fail = |field: &str, found: String, expected: String| Err(Error::field(file, field, found, expected));
        for (field, value, most) in [
            ("text_config.vocab_size", text.vocab_size, 1 << 24),
            ("text_config.hidden_size", text.hidden_size, 1 << 16),
            ("text_config.intermediate_size", text.intermediate_size, 1 << 20),
            ("text_config.num_hidden_layers", text.num_layers, 1 << 10),
            ("text_config.num_attention_heads", text.num_heads, 1 << 10),
            ("text_config.num_key_value_heads", text.num_kv_heads, 1 << 10),
            ("text_config.max_position_embeddings", text.max_position_embeddings, 1 << 31),
            ("vision_config.depth", vision.depth, 1 << 10),
            ("vision_config.hidden_size", vision.hidden_size, 1 << 16),
            ("vision_config.intermediate_size", vision.intermediate_size, 1 << 20),
            ("vision_config.num_heads", vision.num_heads, 1 << 10),
            ("vision_config.patch_size", vision.patch_size, 1 << 10),
            ("vision_config.temporal_patch_size", vision.temporal_patch_size, 16),
            ("vision_config.spatial_merge_size", vision.spatial_merge_size, 16),
        ] {
            if value == 0 || value > most {
                return fail(field, value.to_string(), format!("a whole number from 1 to {most}"));
            }
        }
        if vision.in_channels != 3 {
            return fail("vision_config.in_channels", vision.in_channels.to_string(), "3 (red, green, blue)".into());
        }
        for (field, width, heads, multiple) in [
            ("text_config.hidden_size", text.hidden_size, text.num_heads, 2),
            // Half of a vision head turns with the row, half with the column, each in pairs.
            ("vision_config.hidden_size", vision.hidden_size, vision.num_heads, 4),
        ] {
            if width % (heads * multiple) != 0 {
                let expected = format!("a multiple of {multiple} × the number of heads ({heads})");
                return fail(field, width.to_string(), expected);
            }
        }
        if text.num_heads % text.num_kv_heads != 0 {
            let expected = format!("a divisor of num_attention_heads ({})", text.num_heads);
            return fail("text_config.num_key_value_heads", text.num_kv_heads.to_string(), expected);
        }
        if text.mrope_section.iter().sum::<usize>() != text.head_dim() / 2 {
            let expected = format!("three numbers with the sum {} (half the width of a head)", text.head_dim() / 2);
            return fail("text_config.rope_parameters.mrope_section", format!("{:?}", text.mrope_section), expected);
        }
        for (field, value) in [
            ("text_config.rms_norm_eps", f64::from(text.rms_norm_eps)),
            ("text_config.rope_parameters.rope_theta", text.rope_theta),
            ("text_config.initializer_range", text.initializer_range),
            ("vision_config.initializer_range", vision.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return fail(field, value.to_string(), "a finite number above 0".into());
            }
        }
        if vision.window_tokens() == 0 {
            let expected = format!("at least one token: {} pixels", vision.patch_size * vision.spatial_merge_size);
            return fail("vision_config.window_size", vision.window_size.to_string(), expected);
        }
        if let Some(index) = vision.fullatt_block_indexes.iter().find(|&&index| index >= vision.depth) {
            let expected = format!("indexes below depth ({})", vision.depth);
            return fail("vision_config.fullatt_block_indexes", index.to_string(), expected);
        }
        if vision.out_hidden_size != text.hidden_size {
            let expected = format!("text_config.hidden_size ({})", text.hidden_size);
            return fail("vision_config.out_hidden_size", vision.out_hidden_size.to_string(), expected);
        }
        let tokens = &self.tokens;
        let ids = [
            ("image_token_id", Some(tokens.image)),
            ("vision_start_token_id", Some(tokens.vision_start)),
            ("vision_end_token_id", Some(tokens.vision_end)),
            ("text_config.pad_token_id", tokens.pad),
        ];
        let eos = tokens.eos.iter().map(|&id| ("text_config.eos_token_id", Some(id)));
        for (field, id) in ids.into_iter().chain(eos) {
            if let Some(id) = id.filter(|&id| id as usize >= text.vocab_size) {
                return fail(field, id.to_string(), format!("an id below vocab_size ({})", text.vocab_size));
            }
        }
        if tokens.image == tokens.video {
            return fail("video_token_id", tokens.video.to_string(), "another id than image_token_id".into());
        }
        Ok(())
    }
}

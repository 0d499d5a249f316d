//! Reading and writing the Hugging Face `config.json` of Qwen2.5-VL.
//!
//! Two forms are in use: the nested one of transformers 5 (`text_config.rope_parameters`) and the flat one of the
//! published checkpoints (text fields at the top, `rope_scaling`). A misspelt field would silently fall back to a default
//! of a model a thousand times larger, so every field must be known.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::{ModelConfig, TextConfig, TokenIds, VisionConfig};
use crate::error::FieldError;
use crate::{Error, Result};

/// Fields that any transformers configuration may hold and that do not change the network.
const NEUTRAL: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "max_window_layers",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "sliding_window",
    "spatial_patch_size",
    "vision_token_id",
    "tokenizer_class",
    "finetuning_task",
    "use_return_dict",
];

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON, or has a field that is unknown, missing, of the wrong type or out of range.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| Error::Json { path: path.to_owned(), reason: e.to_string() })?;
        Self::from_json(&value, &path.display().to_string())
    }

    /// Reads a parsed `config.json`; `file` names it in messages.
    ///
    /// # Errors
    /// As [`ModelConfig::from_file`].
    pub fn from_json(value: &Value, file: &str) -> Result<Self> {
        let mut top = Fields::new(value, file, "")?;
        let model_type = top.string("model_type", Some("qwen2_5_vl"))?;
        if model_type != "qwen2_5_vl" {
            return Err(Error::field(file, "model_type", format!("\"{model_type}\""), "\"qwen2_5_vl\" (no other model is implemented)"));
        }
        let image = top.id("image_token_id", Some(151_655))?;
        let video = top.id("video_token_id", Some(151_656))?;
        let vision_start = top.id("vision_start_token_id", Some(151_652))?;
        let vision_end = top.id("vision_end_token_id", Some(151_653))?;
        let mut tie_word_embeddings = top.boolean("tie_word_embeddings", false)?;
        let vision_value = top.take("vision_config").ok_or_else(|| Error::field(file, "vision_config", "nothing", "an object"))?;
        let vision = read_vision(Fields::new(&vision_value, file, "vision_config")?)?;

        // Flat configurations keep the language model's fields beside `vision_config`.
        let top_eos = top.ids("eos_token_id")?;
        let (text, bos, eos, pad) = match top.take("text_config").filter(|text| !text.is_null()) {
            Some(nested) => {
                let mut fields = Fields::new(&nested, file, "text_config")?;
                // Before transformers 5 the flag stood in the inner object.
                tie_word_embeddings |= fields.boolean("tie_word_embeddings", false)?;
                let (bos, pad) = (fields.optional_id("bos_token_id")?, fields.optional_id("pad_token_id")?);
                let eos = fields.ids("eos_token_id")?;
                let text = read_text(&mut fields)?;
                // Some versions wrote the text fields in both places; the inner ones hold.
                for name in fields.asked.clone() {
                    top.take(name);
                }
                fields.finish()?;
                (text, bos, eos, pad)
            }
            None => {
                let (bos, pad) = (top.optional_id("bos_token_id")?, top.optional_id("pad_token_id")?);
                (read_text(&mut top)?, bos, Vec::new(), pad)
            }
        };
        top.finish()?;
        let mut eos = if eos.is_empty() { top_eos } else { eos };
        if eos.is_empty() {
            eos.push(151_645);
        }
        let config = Self { text, vision, tie_word_embeddings, tokens: TokenIds { image, video, vision_start, vision_end, bos, eos, pad } };
        config.validate(file)?;
        Ok(config)
    }

    /// The nested form, as transformers 5 writes it; `dtype` names the number format of the weights beside it.
    pub fn to_json(&self, dtype: &str) -> Value {
        let (text, vision, tokens) = (&self.text, &self.vision, &self.tokens);
        let eos = match tokens.eos.as_slice() {
            [one] => json!(one),
            several => json!(several),
        };
        json!({
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "dtype": dtype,
            "image_token_id": tokens.image,
            "video_token_id": tokens.video,
            "vision_start_token_id": tokens.vision_start,
            "vision_end_token_id": tokens.vision_end,
            "tie_word_embeddings": self.tie_word_embeddings,
            "text_config": {
                "model_type": "qwen2_5_vl_text",
                "dtype": dtype,
                "vocab_size": text.vocab_size,
                "hidden_size": text.hidden_size,
                "intermediate_size": text.intermediate_size,
                "num_hidden_layers": text.num_layers,
                "num_attention_heads": text.num_heads,
                "num_key_value_heads": text.num_kv_heads,
                "hidden_act": "silu",
                "rms_norm_eps": decimal(text.rms_norm_eps),
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": text.rope_theta,
                    "mrope_section": text.mrope_section,
                },
                "max_position_embeddings": text.max_position_embeddings,
                "initializer_range": text.initializer_range,
                "use_sliding_window": false,
                "bos_token_id": tokens.bos,
                "eos_token_id": eos,
                "pad_token_id": tokens.pad,
            },
            "vision_config": {
                "model_type": "qwen2_5_vl_vision",
                "dtype": dtype,
                "depth": vision.depth,
                "hidden_size": vision.hidden_size,
                "hidden_act": "silu",
                "intermediate_size": vision.intermediate_size,
                "num_heads": vision.num_heads,
                "in_channels": vision.in_channels,
                "patch_size": vision.patch_size,
                "temporal_patch_size": vision.temporal_patch_size,
                "spatial_merge_size": vision.spatial_merge_size,
                "window_size": vision.window_size,
                "fullatt_block_indexes": vision.fullatt_block_indexes,
                "out_hidden_size": vision.out_hidden_size,
                "tokens_per_second": vision.tokens_per_second,
                "initializer_range": vision.initializer_range,
            },
        })
    }
}

/// The shortest decimal that names this `f32`, so that 1e-6 is written as 1e-6.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn read_text(fields: &mut Fields) -> Result<TextConfig> {
    fields.only("hidden_act", "silu")?;
    if fields.boolean("use_sliding_window", false)? {
        return Err(fields.error("use_sliding_window", "true", "false (sliding-window attention is not implemented)"));
    }
    if let Some(Value::Array(layers)) = fields.take("layer_types")
        && let Some(other) = layers.iter().find(|layer| *layer != "full_attention")
    {
        return Err(fields.error("layer_types", other.to_string(), "\"full_attention\" in every layer"));
    }
    let num_heads = fields.size("num_attention_heads", None)?;
    let flat_theta = fields.number("rope_theta", Some(1_000_000.0))?;
    let rope = ["rope_parameters", "rope_scaling"].into_iter().find_map(|name| {
        let value = fields.take(name).filter(|value| !value.is_null())?;
        Some((name, value))
    });
    let (rope_theta, mrope_section) = match rope {
        None => (flat_theta, [16, 24, 24]),
        Some((name, value)) => {
            let mut rope = Fields::new(&value, &fields.file, &fields.path(name))?;
            for key in ["type", "rope_type"] {
                let kind = rope.string(key, Some("default"))?;
                if kind != "default" && kind != "mrope" {
                    return Err(rope.error(
                        key,
                        format!("\"{kind}\""),
                        "\"default\" or \"mrope\" (no scaling of positions is implemented)",
                    ));
                }
            }
            let theta = rope.number("rope_theta", Some(flat_theta))?;
            let section = rope.sizes("mrope_section", Some(vec![16, 24, 24]))?;
            let section = <[usize; 3]>::try_from(section)
                .map_err(|other| rope.error("mrope_section", format!("{} numbers", other.len()), "three numbers"))?;
            rope.finish()?;
            (theta, section)
        }
    };
    Ok(TextConfig {
        vocab_size: fields.size("vocab_size", None)?,
        hidden_size: fields.size("hidden_size", None)?,
        intermediate_size: fields.size("intermediate_size", None)?,
        num_layers: fields.size("num_hidden_layers", None)?,
        num_heads,
        num_kv_heads: fields.size("num_key_value_heads", Some(num_heads))?,
        rms_norm_eps: fields.number("rms_norm_eps", Some(1e-5))? as f32,
        rope_theta,
        mrope_section,
        max_position_embeddings: fields.size("max_position_embeddings", Some(32_768))?,
        initializer_range: fields.number("initializer_range", Some(0.02))?,
    })
}

fn read_vision(mut fields: Fields) -> Result<VisionConfig> {
    fields.only("hidden_act", "silu")?;
    // The axial rotation of the tower has one published form; a file may spell it out.
    if let Some(rope) = fields.take("rope_parameters").filter(|rope| !rope.is_null()) {
        let mut rope = Fields::new(&rope, &fields.file, &fields.path("rope_parameters"))?;
        rope.only("rope_type", "axial")?;
        let theta = rope.number("rope_theta", Some(10_000.0))?;
        if theta != 10_000.0 {
            return Err(rope.error("rope_theta", theta.to_string(), "10000"));
        }
        rope.finish()?;
    }
    let in_chans = fields.size("in_chans", Some(3))?;
    let vision = VisionConfig {
        depth: fields.size("depth", None)?,
        hidden_size: fields.size("hidden_size", None)?,
        intermediate_size: fields.size("intermediate_size", None)?,
        num_heads: fields.size("num_heads", None)?,
        in_channels: fields.size("in_channels", Some(in_chans))?,
        patch_size: fields.size("patch_size", Some(14))?,
        temporal_patch_size: fields.size("temporal_patch_size", Some(2))?,
        spatial_merge_size: fields.size("spatial_merge_size", Some(2))?,
        window_size: fields.size("window_size", Some(112))?,
        fullatt_block_indexes: fields.sizes("fullatt_block_indexes", Some(vec![7, 15, 23, 31]))?,
        out_hidden_size: fields.size("out_hidden_size", Some(3584))?,
        tokens_per_second: fields.size("tokens_per_second", Some(4))?,
        initializer_range: fields.number("initializer_range", Some(0.02))?,
    };
    fields.take("model_type");
    fields.finish()?;
    Ok(vision)
}

/// One JSON object whose fields are taken one by one; what is left at the end is unknown.
pub(crate) struct Fields {
    map: Map<String, Value>,
    file: String,
    prefix: String,
    asked: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(value: &Value, file: &str, prefix: &str) -> Result<Self> {
        match value {
            Value::Object(map) => {
                Ok(Self { map: map.clone(), file: file.to_owned(), prefix: prefix.to_owned(), asked: vec!["model_type"] })
            }
            other => {
                let field = if prefix.is_empty() { "(whole file)" } else { prefix };
                Err(Error::field(file, field, show(other), "an object"))
            }
        }
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    pub(crate) fn error(&self, name: &str, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::field(&self.file, self.path(name), found, expected)
    }

    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.map.remove(name)
    }

    fn typed<T>(&mut self, name: &'static str, default: Option<T>, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        match (self.take(name), default) {
            (Some(value), _) if !value.is_null() => read(&value).ok_or_else(|| self.error(name, show(&value), expected)),
            (_, Some(default)) => Ok(default),
            _ => Err(self.error(name, "nothing", expected)),
        }
    }

    pub(crate) fn size(&mut self, name: &'static str, default: Option<usize>) -> Result<usize> {
        self.typed(name, default, "a whole number, 0 or more", |value| value.as_u64().and_then(|n| n.try_into().ok()))
    }

    fn sizes(&mut self, name: &'static str, default: Option<Vec<usize>>) -> Result<Vec<usize>> {
        self.typed(name, default, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(|n| n.as_u64().and_then(|n| n.try_into().ok())).collect()
        })
    }

    pub(crate) fn number(&mut self, name: &'static str, default: Option<f64>) -> Result<f64> {
        self.typed(name, default, "a number", Value::as_f64)
    }

    pub(crate) fn numbers(&mut self, name: &'static str, default: Vec<f64>) -> Result<Vec<f64>> {
        self.typed(name, Some(default), "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub(crate) fn boolean(&mut self, name: &'static str, default: bool) -> Result<bool> {
        self.typed(name, Some(default), "true or false", Value::as_bool)
    }

    fn string(&mut self, name: &'static str, default: Option<&str>) -> Result<String> {
        self.typed(name, default.map(str::to_owned), "a string", |value| value.as_str().map(str::to_owned))
    }

    fn only(&mut self, name: &'static str, value: &str) -> Result<()> {
        let found = self.string(name, Some(value))?;
        if found == value { Ok(()) } else { Err(self.error(name, format!("\"{found}\""), format!("\"{value}\""))) }
    }

    fn id(&mut self, name: &'static str, default: Option<u32>) -> Result<u32> {
        self.typed(name, default, "a token id", as_id)
    }

    fn optional_id(&mut self, name: &'static str) -> Result<Option<u32>> {
        self.typed(name, Some(None), "a token id or null", |value| as_id(value).map(Some))
    }

    /// One token id, a list of them, or nothing.
    pub(crate) fn ids(&mut self, name: &'static str) -> Result<Vec<u32>> {
        self.typed(name, Some(Vec::new()), "a token id or a list of them", |value| match value {
            Value::Array(ids) => ids.iter().map(as_id).collect(),
            one => Some(vec![as_id(one)?]),
        })
    }

    /// Refuses what nobody asked for, and says what it may have been meant for.
    fn finish(self) -> Result<()> {
        let unknown = self.map.keys().find(|key| !key.starts_with('_') && *key != "model_type" && !NEUTRAL.contains(&key.as_str()));
        unknown.map_or(Ok(()), |unknown| Err(self.unknown(unknown)))
    }

    /// Refuses what looks like a misspelling of something asked for, and lets other unknown fields pass.
    pub(crate) fn finish_lenient(self) -> Result<()> {
        let misspelt = |key: &&String| self.asked.iter().any(|asked| !self.map.contains_key(*asked) && distance(key, asked) <= 2);
        self.map.keys().find(misspelt).map_or(Ok(()), |unknown| Err(self.unknown(unknown)))
    }

    fn unknown(&self, unknown: &str) -> Error {
        let nearest = self.asked.iter().chain(NEUTRAL).map(|known| (distance(unknown, known), *known)).min();
        let hint = match nearest {
            Some((distance, known)) if distance <= 3 => format!("; hint: did you mean `{known}`?"),
            _ => String::new(),
        };
        Error::Config(Box::new(FieldError {
            field: self.path(unknown),
            file: self.file.clone(),
            found: "an unknown field".into(),
            expected: "only fields of a Qwen2.5-VL configuration".into(),
            hint,
        }))
    }
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| id.try_into().ok())
}

/// A JSON value, shortened for a message.
pub(crate) fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

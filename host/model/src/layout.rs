//! Every parameter of the network: its name and shape here, its names and shapes in Hugging Face files, and how it starts.
//!
//! Here, query, key and value projections are one matrix and so are gate and up: one product instead of three or two. In
//! files they stand apart. Names are those of the published checkpoints (`model.layers…`, `visual…`); the longer names
//! that newer versions of transformers use inside (`model.language_model…`, `model.visual…`) are read as well.

use crate::ModelConfig;

/// How a fresh parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Norm weights.
    Ones,
    /// Biases.
    Zeros,
    /// Matrices: a normal distribution of this standard deviation.
    Normal(f64),
}

/// A tensor in a file: one of the row blocks of which a parameter is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilePart {
    pub name: String,
    pub shape: Vec<usize>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Param {
    pub name: String,
    pub shape: Vec<usize>,
    pub init: Init,
    /// The file tensors that, laid one after another, are this parameter.
    pub parts: Vec<FilePart>,
}

struct Layout {
    params: Vec<Param>,
}

/// Standard deviation at which a linear layer passes on the variance of its inputs, times `gain`. A fixed one suits one width only.
fn unit(inputs: usize, gain: f64) -> f64 {
    gain / (inputs as f64).sqrt()
}

impl Layout {
    fn add(&mut self, name: String, shape: &[usize], init: Init) {
        let part = FilePart { name: name.clone(), shape: shape.to_vec() };
        self.params.push(Param { name, shape: shape.to_vec(), init, parts: vec![part] });
    }

    fn norm(&mut self, name: String, width: usize) {
        self.add(name + ".weight", &[width], Init::Ones);
    }

    fn linear(&mut self, name: String, outputs: usize, inputs: usize, bias: bool, gain: f64) {
        if bias {
            self.add(format!("{name}.bias"), &[outputs], Init::Zeros);
        }
        self.add(format!("{name}.weight"), &[outputs, inputs], Init::Normal(unit(inputs, gain)));
    }

    /// A linear layer whose rows stand in several file tensors.
    fn packed(&mut self, prefix: &str, name: &str, parts: &[(&str, usize)], inputs: usize, bias: bool, gain: f64) {
        let outputs = parts.iter().map(|(_, rows)| rows).sum();
        let mut add = |suffix: &str, tail: &[usize], init| {
            let shape = |rows| std::iter::once(rows).chain(tail.iter().copied()).collect::<Vec<_>>();
            self.params.push(Param {
                name: format!("{prefix}.{name}.{suffix}"),
                shape: shape(outputs),
                init,
                parts: parts
                    .iter()
                    .map(|(part, rows)| FilePart { name: format!("{prefix}.{part}.{suffix}"), shape: shape(*rows) })
                    .collect(),
            });
        };
        if bias {
            add("bias", &[], Init::Zeros);
        }
        add("weight", &[inputs], Init::Normal(unit(inputs, gain)));
    }
}

/// All parameters of a model, decoder first.
pub(crate) fn params(config: &ModelConfig) -> Vec<Param> {
    let mut layout = Layout { params: Vec::new() };
    let (text, vision) = (&config.text, &config.vision);

    let (width, inner) = (text.hidden_size, text.intermediate_size);
    let (q, kv) = (text.num_heads * text.head_dim(), text.num_kv_heads * text.head_dim());
    // Projections that end in the residual stream start smaller, so that its variance does not grow with depth (GPT-2).
    let residual = |layers: usize| 1.0 / (2.0 * layers as f64).sqrt();
    layout.add("model.embed_tokens.weight".into(), &[text.vocab_size, width], Init::Normal(text.initializer_range));
    for i in 0..text.num_layers {
        let layer = format!("model.layers.{i}");
        let attention = format!("{layer}.self_attn");
        let mlp = format!("{layer}.mlp");
        layout.norm(format!("{layer}.input_layernorm"), width);
        layout.packed(&attention, "qkv_proj", &[("q_proj", q), ("k_proj", kv), ("v_proj", kv)], width, true, 1.0);
        layout.linear(format!("{attention}.o_proj"), width, q, false, residual(text.num_layers));
        layout.norm(format!("{layer}.post_attention_layernorm"), width);
        layout.packed(&mlp, "gate_up_proj", &[("gate_proj", inner), ("up_proj", inner)], width, false, 1.0);
        layout.linear(format!("{mlp}.down_proj"), width, inner, false, residual(text.num_layers));
    }
    layout.norm("model.norm".into(), width);
    if !config.tie_word_embeddings {
        layout.linear("lm_head".into(), text.vocab_size, width, false, 1.0);
    }

    let (width, inner) = (vision.hidden_size, vision.intermediate_size);
    let embed = "visual.patch_embed.proj.weight".to_owned();
    layout.params.push(Param {
        name: embed.clone(),
        shape: vec![width, vision.patch_dim()],
        init: Init::Normal(unit(vision.patch_dim(), 1.0)),
        // A convolution whose stride is its kernel is a linear map of each patch.
        parts: vec![FilePart {
            name: embed,
            shape: vec![width, vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size],
        }],
    });
    for i in 0..vision.depth {
        let block = format!("visual.blocks.{i}");
        let mlp = format!("{block}.mlp");
        layout.norm(format!("{block}.norm1"), width);
        layout.linear(format!("{block}.attn.qkv"), 3 * width, width, true, 1.0);
        layout.linear(format!("{block}.attn.proj"), width, width, true, residual(vision.depth));
        layout.norm(format!("{block}.norm2"), width);
        layout.packed(&mlp, "gate_up_proj", &[("gate_proj", inner), ("up_proj", inner)], width, true, 1.0);
        layout.linear(format!("{mlp}.down_proj"), width, inner, true, residual(vision.depth));
    }
    let merged = width * vision.merge_unit();
    layout.norm("visual.merger.ln_q".into(), width);
    layout.linear("visual.merger.mlp.0".into(), merged, merged, true, 1.0);
    layout.linear("visual.merger.mlp.2".into(), vision.out_hidden_size, merged, true, 1.0);
    layout.params
}

/// The published name of a tensor that a file calls by its name inside newer versions of transformers.
pub(crate) fn published_name(name: &str) -> String {
    for (inner, published) in [("model.language_model.", "model."), ("model.visual.", "visual.")] {
        if let Some(rest) = name.strip_prefix(inner) {
            return format!("{published}{rest}");
        }
    }
    name.to_owned()
}

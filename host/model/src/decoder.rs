//! The language model: decoder layers with M-RoPE and grouped-query attention.
//!
//! `T` tokens of all sequences laid one after another, `D` width.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;
use crate::config::TextConfig;
use crate::ops::{self, LayerKv, Rope};
use crate::params::{BlockParams, Params};

pub(crate) struct Decoder {
    config: TextConfig,
    pub(crate) embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    inverse_frequencies: Vec<f32>,
}

struct Layer {
    attention: BlockParams,
    mlp: BlockParams,
}

impl Decoder {
    pub(crate) fn new(config: &TextConfig, params: &Params) -> Result<Self> {
        let mut layers = Vec::with_capacity(config.num_layers);
        for i in 0..config.num_layers {
            let at = |name: &str| format!("model.layers.{i}.{name}");
            let block = |norm: &str, input: &str, output: &str| params.block(&at(norm), &at(input), &at(output), config.rms_norm_eps);
            layers.push(Layer {
                attention: block("input_layernorm", "self_attn.qkv_proj", "self_attn.o_proj")?,
                mlp: block("post_attention_layernorm", "mlp.gate_up_proj", "mlp.down_proj")?,
            });
        }
        let dim = config.head_dim();
        let theta = config.rope_theta as f32;
        Ok(Self {
            embed_tokens: params.get("model.embed_tokens.weight")?,
            layers,
            norm: params.get("model.norm.weight")?,
            inverse_frequencies: (0..dim).step_by(2).map(|i| 1.0 / theta.powf(i as f32 / dim as f32)).collect(),
            config: config.clone(),
        })
    }

    /// Hidden states after the final norm, `[T, D]`, from embeddings `[T, D]`; differentiable.
    pub(crate) fn forward(&self, embeddings: Tensor, positions: &[[u32; 3]], cu_seqlens: &Arc<[u32]>) -> Result<Tensor> {
        let rope = self.rope(positions)?;
        let heads = self.config.heads();
        let mut x = embeddings;
        for layer in &self.layers {
            x = ops::attention_block(&x, &layer.attention.as_block(), &rope, heads, cu_seqlens, true)?;
            x = ops::mlp_block(&x, &layer.mlp.as_block())?;
        }
        self.final_norm(&x)
    }

    /// Hidden states of the last token of each sequence, `[S, D]`; keys and values are appended to `caches`
    /// (`caches[s]` holds one entry per layer). No gradient.
    pub(crate) fn forward_cached(
        &self,
        embeddings: Tensor,
        positions: &[[u32; 3]],
        cu_seqlens: &[u32],
        caches: &mut [&mut [LayerKv]],
    ) -> Result<Tensor> {
        let rope = self.rope(positions)?;
        let heads = self.config.heads();
        let last: Vec<u32> = cu_seqlens.iter().skip(1).map(|end| end - 1).collect();
        let mut x = embeddings;
        for (i, layer) in self.layers.iter().enumerate() {
            let block = layer.attention.as_block();
            let normed = ops::rms_norm(&x, block.norm, block.eps)?;
            let qkv = ops::linear(&normed, block.input.weight, block.input.bias, None)?;
            let mut layer_caches: Vec<&mut LayerKv> = caches.iter_mut().map(|cache| &mut cache[i]).collect();
            let mut attended = ops::rope_attention_cached(&qkv, &rope, heads, cu_seqlens, &mut layer_caches)?;
            // Nothing reads the last layer's other rows, so a prefill need not compute them.
            if i + 1 == self.layers.len() && last.len() < positions.len() {
                attended = ops::take_rows(&attended, &last)?;
                x = ops::take_rows(&x, &last)?;
            }
            x = ops::linear(&attended, block.output.weight, block.output.bias, Some(&x))?;
            x = ops::mlp_block(&x, &layer.mlp.as_block())?;
        }
        self.final_norm(&x)
    }

    fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::rms_norm(x, &self.norm, self.config.rms_norm_eps)?)
    }

    /// Rotation tables `[T, Dh / 2]`: `mrope_section` says which frequencies turn with time, height and width.
    fn rope(&self, positions: &[[u32; 3]]) -> Result<Rope> {
        let axis_of: Vec<usize> =
            self.config.mrope_section.iter().enumerate().flat_map(|(axis, &count)| std::iter::repeat_n(axis, count)).collect();
        let size = positions.len() * axis_of.len();
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for position in positions {
            for (&axis, frequency) in axis_of.iter().zip(&self.inverse_frequencies) {
                let (s, c) = (position[axis] as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        Ok(Rope::new(cos, sin)?)
    }
}

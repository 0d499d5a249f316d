//! The whole network: vision tower, decoder, output head.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::decoder::Decoder;
use crate::ops::{self, LayerKv};
use crate::params::Params;
use crate::vision::VisionTower;
use crate::{Error, ModelConfig, Packed, Result, Weights};

/// The network. Cheap to clone: tensors are shared with the `Weights` it was made from and see their updates.
#[derive(Clone)]
pub struct Qwen2_5Vl {
    inner: Arc<Inner>,
}

struct Inner {
    config: ModelConfig,
    vision: VisionTower,
    decoder: Decoder,
    head: Tensor,
    device: Device,
}

impl Qwen2_5Vl {
    /// Builds the network over trainable weights (gradients flow to the `Var`s).
    ///
    /// # Errors
    /// When `weights` were made for another configuration.
    pub fn new(config: &ModelConfig, weights: &Weights) -> Result<Self> {
        Self::build(config, weights, false)
    }

    /// Builds the network over the same weights, detached: no gradient is recorded (rollout, reference policy, evaluation).
    ///
    /// # Errors
    /// As [`Qwen2_5Vl::new`].
    pub fn frozen(config: &ModelConfig, weights: &Weights) -> Result<Self> {
        Self::build(config, weights, true)
    }

    fn build(config: &ModelConfig, weights: &Weights, detach: bool) -> Result<Self> {
        let params = Params::new(config, weights.vars(), detach)?;
        let decoder = Decoder::new(&config.text, &params)?;
        let head = if config.tie_word_embeddings { decoder.embed_tokens.clone() } else { params.get("lm_head.weight")? };
        let inner = Inner {
            config: config.clone(),
            vision: VisionTower::new(&config.vision, &params)?,
            device: head.device().clone(),
            decoder,
            head,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Hidden states after the final norm, `[T, hidden]`, differentiable. Rows of one sequence do not depend on the others.
    ///
    /// # Errors
    /// When the batch contradicts itself or a tensor operation fails.
    pub fn forward(&self, batch: &Packed) -> Result<Tensor> {
        batch.validate(self.config())?;
        let embeddings = self.embed(batch)?;
        self.inner.decoder.forward(embeddings, &batch.positions, &batch.cu_seqlens.as_slice().into())
    }

    /// Features `[M, hidden]` of a batch's images, in order; an image that several sequences share is computed once.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn image_features(&self, batch: &Packed) -> Result<Option<Tensor>> {
        if batch.images.is_empty() {
            return Ok(None);
        }
        let (distinct, which) = batch.distinct_images();
        let features = self.inner.vision.forward(&distinct, &self.inner.device)?;
        if distinct.len() == which.len() {
            return Ok(Some(features));
        }
        let merge = self.config().vision.spatial_merge_size as u32;
        let mut starts = vec![0];
        for image in &distinct {
            starts.push(starts[starts.len() - 1] + image.num_tokens(merge) as u32);
        }
        let rows: Vec<u32> = which.iter().flat_map(|&i| starts[i]..starts[i + 1]).collect();
        Ok(Some(ops::take_rows(&features, &rows)?))
    }

    /// Token embeddings `[T, hidden]` with image features in the place of image tokens.
    fn embed(&self, batch: &Packed) -> Result<Tensor> {
        let embeddings = ops::embedding(&self.inner.decoder.embed_tokens, &batch.input_ids)?;
        let Some(features) = self.image_features(batch)? else {
            return Ok(embeddings);
        };
        let image = self.config().tokens.image;
        let at: Vec<u32> = (0..).zip(&batch.input_ids).filter(|(_, id)| **id == image).map(|(i, _)| i).collect();
        Ok(ops::splice_rows(&embeddings, &features, &at)?)
    }

    /// Logits `[N, vocab]` of hidden states `[N, hidden]`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(hidden, &self.inner.head, None, None)?)
    }

    /// Log-probability `[N]` of `targets` under `softmax(logits / temperature)`; the full logits are never held.
    ///
    /// # Errors
    /// When `targets` and `hidden` differ in length or a tensor operation fails.
    pub fn target_logprobs(&self, hidden: &Tensor, targets: &[u32], temperature: f32) -> Result<Tensor> {
        self.check_targets(hidden, targets)?;
        Ok(ops::target_logprob(hidden, &self.inner.head, targets, temperature)?)
    }

    /// [`Qwen2_5Vl::target_logprobs`] and the entropy `[N]` (nats) of the same distributions. No gradient.
    ///
    /// # Errors
    /// As [`Qwen2_5Vl::target_logprobs`].
    pub fn target_logprobs_and_entropy(&self, hidden: &Tensor, targets: &[u32], temperature: f32) -> Result<(Tensor, Tensor)> {
        self.check_targets(hidden, targets)?;
        Ok(ops::target_logprob_entropy(hidden, &self.inner.head, targets, temperature)?)
    }

    fn check_targets(&self, hidden: &Tensor, targets: &[u32]) -> Result<()> {
        let vocab = self.config().text.vocab_size;
        if hidden.dim(0)? != targets.len() {
            return Err(Error::Batch { problem: format!("{} targets for {} hidden states", targets.len(), hidden.dim(0)?) });
        }
        match targets.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::Batch { problem: format!("target id {id}, expected ids below vocab_size ({vocab})") }),
            None => Ok(()),
        }
    }

    /// Runs the new tokens of each sequence against its cache (prefill, append and decode are the same call) and returns the hidden
    /// state of the last token of each sequence, `[S, hidden]`. No gradient. Row results do not depend on what else is in the batch (bitwise on CPU).
    ///
    /// # Errors
    /// When the batch contradicts itself, `caches` has another length than the batch has sequences, or a tensor operation
    /// fails. After an error the caches are not usable.
    pub fn forward_cached(&self, batch: &Packed, caches: &mut [&mut KvCache]) -> Result<Tensor> {
        batch.validate(self.config())?;
        if caches.len() != batch.num_sequences() {
            return Err(Error::Batch { problem: format!("{} caches for {} sequences", caches.len(), batch.num_sequences()) });
        }
        let embeddings = self.embed(batch)?.detach();
        let mut layers: Vec<&mut [LayerKv]> = caches.iter_mut().map(|cache| cache.layers.as_mut_slice()).collect();
        let hidden = self.inner.decoder.forward_cached(embeddings, &batch.positions, &batch.cu_seqlens, &mut layers)?;
        Ok(hidden.detach())
    }
}

/// Keys and values of one sequence, all layers, growing. A clone is a fork: both go on from here independently.
#[derive(Clone)]
pub struct KvCache {
    layers: Vec<LayerKv>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(config: &ModelConfig) -> Self {
        Self { layers: vec![LayerKv::new(); config.text.num_layers] }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerKv::len)
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerKv::bytes).sum()
    }
}

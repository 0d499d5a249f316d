//! What the scheduler needs of a model.

use candle_core::{DType, Device, Tensor};
use mmhost_model::{KvCache, Packed, PositionCursor, Qwen2_5Vl, Segment};

use crate::EngineError;

/// A model as the scheduler sees it. The tests put small stand-ins here to provoke what a real model does not.
pub(crate) trait Network: Clone + Send + Sync + 'static {
    /// Keys and values of one sequence. A clone is a fork.
    type Cache: Clone + Send + 'static;

    fn empty_cache(&self) -> Self::Cache;
    fn cache_len(cache: &Self::Cache) -> usize;
    fn cache_bytes(cache: &Self::Cache) -> usize;
    /// Most tokens that a sequence may hold.
    fn max_tokens(&self) -> usize;
    /// Tokens that stand for images and are never drawn: what they stand for cannot be generated.
    fn placeholders(&self) -> Vec<u32>;
    /// Positions of `segment` appended at `cursor`, everything about the segment checked, so that a forward pass cannot fail
    /// because of one sequence in its batch. On error the cursor is unchanged.
    fn positions(&self, cursor: &mut PositionCursor, segment: &Segment) -> Result<Vec<[u32; 3]>, EngineError>;
    /// Runs the new tokens of each sequence; logits of each sequence's last token, `[S, V]`, contiguous `f32` on the CPU.
    fn step(&self, batch: &Packed, caches: &mut [&mut Self::Cache]) -> Result<Tensor, EngineError>;
}

impl Network for Qwen2_5Vl {
    type Cache = KvCache;

    fn empty_cache(&self) -> KvCache {
        KvCache::new(self.config())
    }

    fn cache_len(cache: &KvCache) -> usize {
        cache.len()
    }

    fn cache_bytes(cache: &KvCache) -> usize {
        cache.bytes()
    }

    fn max_tokens(&self) -> usize {
        self.config().text.max_position_embeddings
    }

    fn placeholders(&self) -> Vec<u32> {
        vec![self.config().tokens.image, self.config().tokens.video]
    }

    fn positions(&self, cursor: &mut PositionCursor, segment: &Segment) -> Result<Vec<[u32; 3]>, EngineError> {
        let config = self.config();
        // 1. Token ids
        let vocab = config.text.vocab_size;
        if let Some((at, id)) = segment.tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            return Err(EngineError::Segment(format!("token {at} has the id {id}, expected ids below vocab_size ({vocab})")));
        }
        // 2. Images, each in itself
        for image in &segment.images {
            image.validate(config).map_err(|e| EngineError::Segment(e.to_string()))?;
        }
        // 3. Images against their placeholders, and positions
        cursor.extend(config, &segment.tokens, &segment.images).map_err(|e| EngineError::Segment(e.to_string()))
    }

    fn step(&self, batch: &Packed, caches: &mut [&mut KvCache]) -> Result<Tensor, EngineError> {
        let model = |e: &dyn std::fmt::Display| EngineError::Model(e.to_string());
        let hidden = self.forward_cached(batch, caches).map_err(|e| model(&e))?;
        let logits = self.logits(&hidden).map_err(|e| model(&e))?;
        let to_rows = || logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous();
        to_rows().map_err(|e| model(&e))
    }
}

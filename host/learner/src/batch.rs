//! From sequences with masks to packed micro-batches.

use crate::Result;
use crate::invariants::Rules;
use crate::shard::{Size, plan};
use candle_core::{DType, Tensor};
use mmhost_model::{ImageInput, ModelConfig, Packed, PositionCursor, Qwen2_5Vl, Segment};
use std::ops::Range;
use std::sync::Arc;

/// A sequence cut down to what its targets depend on: everything before the last target.
pub(crate) struct Sequence<'a> {
    tokens: &'a [u32],
    positions: Vec<[u32; 3]>,
    images: &'a [Arc<ImageInput>],
    /// Rows whose next token is a target.
    rows: Vec<u32>,
    /// Those next tokens.
    pub targets: Vec<u32>,
}

impl<'a> Sequence<'a> {
    /// `mask` marks the targets; the pair has passed [`Rules::check_sequence`].
    pub fn new(config: &ModelConfig, segment: &'a Segment, mask: &[bool]) -> Result<Self> {
        let rules = Rules::of(config);
        let mut positions = PositionCursor::default().extend(config, &segment.tokens, &segment.images)?;
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for (position, (&token, _)) in segment.tokens.iter().zip(mask).enumerate().filter(|(_, (_, target))| **target) {
            rows.push(position as u32 - 1);
            targets.push(token);
        }
        // Nothing after the row that predicts the last target can reach the loss.
        let used = rows.last().map_or(0, |&row| row as usize + 1);
        let (used, images) = match images_within(&rules, &segment.tokens[..used], &segment.images) {
            Some(images) => (used, images),
            None => (segment.tokens.len(), segment.images.len()),
        };
        positions.truncate(used);
        Ok(Self { tokens: &segment.tokens[..used], positions, images: &segment.images[..images], rows, targets })
    }

    fn size(&self) -> Size {
        let patches: usize = self.images.iter().map(|image| image.num_patches()).sum();
        Size { tokens: self.tokens.len(), work: self.tokens.len() + patches }
    }
}

/// How many of the images have their tokens in `tokens`; `None` when the cut goes through one.
fn images_within(rules: &Rules, tokens: &[u32], images: &[Arc<ImageInput>]) -> Option<usize> {
    let mut left = tokens.iter().filter(|&&token| token == rules.image_token).count();
    for (count, image) in images.iter().enumerate() {
        if left == 0 {
            return Some(count);
        }
        left = left.checked_sub(image.num_tokens(rules.merge_size))?;
    }
    (left == 0).then_some(images.len())
}

/// Sequences that go through the model together.
pub(crate) struct MicroBatch {
    packed: Packed,
    rows: Vec<u32>,
    targets: Vec<u32>,
    /// Each sequence's index in the batch and where its targets stand in this micro-batch.
    pub members: Vec<(usize, Range<usize>)>,
}

impl MicroBatch {
    /// Packs a batch into micro-batches; sequences without targets are left out.
    pub fn pack(sequences: &[Sequence], token_budget: usize, workers: usize) -> Vec<MicroBatch> {
        let used: Vec<usize> = (0..sequences.len()).filter(|&i| !sequences[i].targets.is_empty()).collect();
        let sizes: Vec<Size> = used.iter().map(|&i| sequences[i].size()).collect();
        plan(&sizes, token_budget, workers).into_iter().map(|members| MicroBatch::of(sequences, &used[members])).collect()
    }

    fn of(sequences: &[Sequence], indices: &[usize]) -> Self {
        let mut batch = Self { packed: Packed::default(), rows: Vec::new(), targets: Vec::new(), members: Vec::new() };
        for &index in indices {
            let sequence = &sequences[index];
            let offset = batch.packed.input_ids.len() as u32;
            batch.packed.push(sequence.tokens, &sequence.positions, sequence.images);
            let start = batch.targets.len();
            batch.rows.extend(sequence.rows.iter().map(|row| row + offset));
            batch.targets.extend(&sequence.targets);
            batch.members.push((index, start..batch.targets.len()));
        }
        batch
    }

    /// Log-probabilities `[N]` of all targets, `f32`. Only the rows that predict a target reach the head.
    pub fn logprobs(&self, model: &Qwen2_5Vl, temperature: f32) -> Result<Tensor> {
        let hidden = model.forward(&self.packed)?;
        let rows = mmhost_model::ops::take_rows(&hidden, &self.rows)?;
        Ok(model.target_logprobs(&rows, &self.targets, temperature)?.to_dtype(DType::F32)?)
    }
}

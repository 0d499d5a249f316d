//! What a forward pass reads: images as patches, and sequences laid one after another.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Error, ModelConfig, Result};

/// An image as the vision tower reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInput {
    /// Normalised patches, row-major `[num_patches, 1176]`, rows in 2×2 merge-block order.
    pub pixel_values: Vec<f32>,
    /// Patches in time, height and width.
    pub grid_thw: [u32; 3],
}

impl ImageInput {
    /// Patches, the rows of `pixel_values`.
    pub fn num_patches(&self) -> usize {
        self.grid_thw.iter().map(|&n| n as usize).product()
    }

    /// How many `<|image_pad|>` tokens stand for this image (`t·h·w / merge²`).
    pub fn num_tokens(&self, merge_size: u32) -> usize {
        let merge = merge_size.max(1) as usize;
        self.num_patches() / (merge * merge)
    }

    /// Checks that the grid is whole in merge blocks and that every patch is there.
    ///
    /// # Errors
    /// [`Error::Batch`] that says what was found and expected.
    pub fn validate(&self, config: &ModelConfig) -> Result<()> {
        let merge = config.vision.spatial_merge_size as u32;
        let [t, h, w] = self.grid_thw;
        if t == 0 || h == 0 || w == 0 || h % merge != 0 || w % merge != 0 {
            let problem = format!("image grid {t}×{h}×{w}, expected height and width that are positive multiples of {merge} patches");
            return Err(Error::Batch { problem });
        }
        let expected = self.num_patches() * config.vision.patch_dim();
        if self.pixel_values.len() != expected {
            let problem = format!("an image of {t}×{h}×{w} patches has {} numbers, expected {expected}", self.pixel_values.len());
            return Err(Error::Batch { problem });
        }
        Ok(())
    }
}

/// Sequences laid one after another without padding. `T` is the total number of tokens, `S` the number of sequences.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// Token ids `[T]`.
    pub input_ids: Vec<u32>,
    /// Where each sequence begins and ends in `input_ids`, `[S + 1]`, first 0, last `T`.
    pub cu_seqlens: Vec<u32>,
    /// M-RoPE positions (temporal, height, width) of each token `[T]`.
    pub positions: Vec<[u32; 3]>,
    /// The images in the order in which their tokens stand in `input_ids`.
    pub images: Vec<Arc<ImageInput>>,
}

impl Packed {
    /// Appends one sequence.
    pub fn push(&mut self, ids: &[u32], positions: &[[u32; 3]], images: &[Arc<ImageInput>]) {
        if self.cu_seqlens.is_empty() {
            self.cu_seqlens.push(0);
        }
        self.input_ids.extend_from_slice(ids);
        self.positions.extend_from_slice(positions);
        self.images.extend_from_slice(images);
        self.cu_seqlens.push(self.input_ids.len() as u32);
    }

    /// Sequences in the batch.
    pub fn num_sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Checks lengths, ids and that image tokens and images match.
    ///
    /// # Errors
    /// [`Error::Batch`] or [`Error::ImageTokens`] that says what was found and expected.
    pub fn validate(&self, config: &ModelConfig) -> Result<()> {
        let tokens = self.input_ids.len();
        let fail = |problem: String| Err(Error::Batch { problem });
        if tokens == 0 {
            return fail("no tokens, expected at least one sequence".into());
        }
        if self.positions.len() != tokens {
            return fail(format!("{} positions for {tokens} tokens", self.positions.len()));
        }
        let ends = (self.cu_seqlens.first(), self.cu_seqlens.last());
        if ends != (Some(&0), Some(&(tokens as u32))) || self.cu_seqlens.windows(2).any(|w| w[0] >= w[1]) {
            return fail(format!("cu_seqlens {:?}, expected to rise from 0 to {tokens} without empty sequences", self.cu_seqlens));
        }
        if let Some(id) = self.input_ids.iter().find(|&&id| id as usize >= config.text.vocab_size) {
            return fail(format!("token id {id}, expected ids below vocab_size ({})", config.text.vocab_size));
        }
        for image in &self.images {
            image.validate(config)?;
        }
        let found = self.input_ids.iter().filter(|&&id| id == config.tokens.image).count();
        let expected: usize = self.images.iter().map(|image| image.num_tokens(config.vision.spatial_merge_size as u32)).sum();
        if found != expected {
            let problem = format!("{found} image tokens, {expected} image features from {} images", self.images.len());
            return Err(Error::ImageTokens { problem });
        }
        Ok(())
    }

    /// The images without repetitions, and for each image of the batch which of them it is. Images are the same when they
    /// are shared (`Arc::ptr_eq`), as within a group of rollouts.
    pub(crate) fn distinct_images(&self) -> (Vec<&ImageInput>, Vec<usize>) {
        let mut seen = HashMap::new();
        let mut distinct = Vec::new();
        let which = self
            .images
            .iter()
            .map(|image| {
                *seen.entry(Arc::as_ptr(image)).or_insert_with(|| {
                    distinct.push(image.as_ref());
                    distinct.len() - 1
                })
            })
            .collect();
        (distinct, which)
    }
}

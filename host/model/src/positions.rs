//! M-RoPE: three positions per token, so that neighbours in an image are near in height and width.
//!
//! The same rule as `get_rope_index` of transformers: text counts on in all three at once; an image that begins at `p`
//! has the temporal position `p + t`, height `p + row`, width `p + column` of its merged patches, and what follows it
//! begins at `p + max(rows, columns)`.

use std::sync::Arc;

use crate::{Error, ImageInput, ModelConfig, Result};

/// Assigns M-RoPE positions to a growing sequence (append only, so multi-turn episodes extend it).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PositionCursor {
    /// Position of the next text token.
    pub next: u32,
}

impl PositionCursor {
    /// Positions for `ids` appended to the sequence; every run of image tokens in `ids` belongs to one of `images`, in order.
    ///
    /// # Errors
    /// [`Error::ImageTokens`] when the runs of image tokens and the images do not match, or a video token stands in `ids`;
    /// the cursor is then unchanged.
    pub fn extend(&mut self, config: &ModelConfig, ids: &[u32], images: &[Arc<ImageInput>]) -> Result<Vec<[u32; 3]>> {
        let merge = config.vision.spatial_merge_size as u32;
        let fail = |problem: String| Err(Error::ImageTokens { problem });
        let mut positions = Vec::with_capacity(ids.len());
        let mut next = self.next;
        let mut images_left = images.iter();
        let mut at = 0;
        while let Some(&id) = ids.get(at) {
            if id == config.tokens.video {
                return fail(format!("token {at} stands for a video, expected text and images only"));
            }
            if id != config.tokens.image {
                positions.push([next; 3]);
                next += 1;
                at += 1;
                continue;
            }
            let Some(image) = images_left.next() else {
                return fail(format!("an image begins at token {at}, but only {} images were given", images.len()));
            };
            let expected = image.num_tokens(merge);
            let found = ids[at..].iter().take(expected).take_while(|&&id| id == config.tokens.image).count();
            if found != expected || expected == 0 {
                return fail(format!("{found} image tokens at token {at}, expected {expected} for a grid of {:?}", image.grid_thw));
            }
            let [frames, rows, columns] = [image.grid_thw[0], image.grid_thw[1] / merge, image.grid_thw[2] / merge];
            for t in 0..frames {
                for row in 0..rows {
                    positions.extend((0..columns).map(|column| [next + t, next + row, next + column]));
                }
            }
            next += rows.max(columns);
            at += expected;
        }
        if images_left.len() > 0 {
            return fail(format!("{} images were given, but the tokens have room for {}", images.len(), images.len() - images_left.len()));
        }
        self.next = next;
        Ok(positions)
    }
}

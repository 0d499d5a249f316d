//! The vision tower: patches in, one token per merged patch out.
//!
//! Blocks attend within windows of the image, a few of them over the whole image. Patches are put in window order once,
//! before the first layer, so that every window is one stretch of rows; the merger's output is put back in reading order.
//!
//! `P` patches of all images, `M = P / merge²` tokens, `Dv` width.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::config::VisionConfig;
use crate::ops::{self, Heads, Rope};
use crate::params::{BlockParams, Params};
use crate::{ImageInput, Result};

/// All norms of the tower, whatever the configuration says of the decoder's.
const EPS: f32 = 1e-6;
/// Base wavelength of the two-dimensional rotation.
const THETA: f32 = 10_000.0;

pub(crate) struct VisionTower {
    config: VisionConfig,
    patch_embed: Tensor,
    blocks: Vec<Block>,
    ln_q: Tensor,
    mlp_0: (Tensor, Tensor),
    mlp_2: (Tensor, Tensor),
}

struct Block {
    full_attention: bool,
    attention: BlockParams,
    mlp: BlockParams,
}

impl VisionTower {
    pub(crate) fn new(config: &VisionConfig, params: &Params) -> Result<Self> {
        let pair = |name: String| Ok::<_, crate::Error>((params.get(&format!("{name}.weight"))?, params.get(&format!("{name}.bias"))?));
        let mut blocks = Vec::with_capacity(config.depth);
        for i in 0..config.depth {
            let at = |name: &str| format!("visual.blocks.{i}.{name}");
            blocks.push(Block {
                full_attention: config.fullatt_block_indexes.contains(&i),
                attention: params.block(&at("norm1"), &at("attn.qkv"), &at("attn.proj"), EPS)?,
                mlp: params.block(&at("norm2"), &at("mlp.gate_up_proj"), &at("mlp.down_proj"), EPS)?,
            });
        }
        Ok(Self {
            config: config.clone(),
            patch_embed: params.get("visual.patch_embed.proj.weight")?,
            blocks,
            ln_q: params.get("visual.merger.ln_q.weight")?,
            mlp_0: pair("visual.merger.mlp.0".into())?,
            mlp_2: pair("visual.merger.mlp.2".into())?,
        })
    }

    /// Features `[M, hidden]` of several images, one image after another, each in reading order.
    pub(crate) fn forward(&self, images: &[&ImageInput], device: &Device) -> Result<Tensor> {
        let config = &self.config;
        let grids: Vec<[u32; 3]> = images.iter().map(|image| image.grid_thw).collect();
        let order = WindowOrder::new(config, &grids);
        let heads = config.heads();

        // 1. Patches in window order: [P, 1176].
        let patches = gather_patches(config, images, &order.window_index, device)?;
        let rope = self.rope(&grids, &order.window_index, heads)?;

        // 2. Patch embedding, then the blocks: [P, Dv].
        let mut x = ops::linear(&patches, &self.patch_embed, None, None)?;
        for block in &self.blocks {
            let cu_seqlens = if block.full_attention { &order.cu_images } else { &order.cu_windows };
            x = ops::attention_block(&x, &block.attention.as_block(), &rope, heads, cu_seqlens, false)?;
            x = ops::mlp_block(&x, &block.mlp.as_block())?;
        }

        // 3. Merger: [P, Dv] -> [M, merge²·Dv] -> [M, hidden], then back to reading order.
        let merged_width = config.hidden_size * config.merge_unit();
        let x = ops::rms_norm(&x, &self.ln_q, EPS)?.reshape(((), merged_width))?;
        let x = ops::gelu(&ops::linear(&x, &self.mlp_0.0, Some(&self.mlp_0.1), None)?)?;
        let x = ops::linear(&x, &self.mlp_2.0, Some(&self.mlp_2.1), None)?;
        Ok(ops::take_rows(&x, &inverse(&order.window_index))?)
    }

    /// Rotation tables `[P, Dh / 2]`: the first half turns with the patch's row, the second with its column.
    fn rope(&self, grids: &[[u32; 3]], window_index: &[u32], heads: Heads) -> Result<Rope> {
        let spatial = heads.dim / 2;
        let inverse_frequencies: Vec<f32> = (0..spatial).step_by(2).map(|i| 1.0 / THETA.powf(i as f32 / spatial as f32)).collect();
        let positions = patch_positions(grids, self.config.spatial_merge_size as u32);
        let unit = self.config.merge_unit();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &block in window_index {
            let start = block as usize * unit;
            for axes in &positions[start..start + unit] {
                for &axis in axes {
                    for frequency in &inverse_frequencies {
                        let (s, c) = (axis as f32 * frequency).sin_cos();
                        cos.push(c);
                        sin.push(s);
                    }
                }
            }
        }
        Ok(Rope::new(cos, sin)?)
    }
}

/// In which order merge blocks stand so that windows are contiguous, and where attention begins and ends.
#[derive(Debug, PartialEq)]
pub(crate) struct WindowOrder {
    /// Row `i` in window order is merge block `window_index[i]` in reading order, `[M]`.
    pub window_index: Vec<u32>,
    /// Boundaries of windows, in patches.
    pub cu_windows: Arc<[u32]>,
    /// Boundaries of frames (of whole images, for stills), in patches.
    pub cu_images: Arc<[u32]>,
}

impl WindowOrder {
    pub(crate) fn new(config: &VisionConfig, grids: &[[u32; 3]]) -> Self {
        let merge = config.spatial_merge_size as u32;
        let unit = config.merge_unit() as u32;
        let side = config.window_tokens() as u32;
        let mut window_index = Vec::new();
        let (mut cu_windows, mut cu_images) = (vec![0], vec![0]);
        let mut base = 0;
        for &[frames, height, width] in grids {
            let (rows, columns) = (height / merge, width / merge);
            for _ in 0..frames {
                // Windows are cut from the top left corner; those at the right and lower edge may be smaller.
                for top in (0..rows).step_by(side as usize) {
                    for left in (0..columns).step_by(side as usize) {
                        for row in top..(top + side).min(rows) {
                            window_index.extend((left..(left + side).min(columns)).map(|column| base + row * columns + column));
                        }
                        cu_windows.push(window_index.len() as u32 * unit);
                    }
                }
                base += rows * columns;
                cu_images.push(base * unit);
            }
        }
        Self { window_index, cu_windows: cu_windows.into(), cu_images: cu_images.into() }
    }
}

/// Row and column of every patch, patches in merge-block order.
fn patch_positions(grids: &[[u32; 3]], merge: u32) -> Vec<[u32; 2]> {
    let mut positions = Vec::new();
    for &[frames, height, width] in grids {
        for _ in 0..frames {
            for top in (0..height).step_by(merge as usize) {
                for left in (0..width).step_by(merge as usize) {
                    for row in top..top + merge {
                        positions.extend((left..left + merge).map(|column| [row, column]));
                    }
                }
            }
        }
    }
    positions
}

fn gather_patches(config: &VisionConfig, images: &[&ImageInput], window_index: &[u32], device: &Device) -> Result<Tensor> {
    let block = config.merge_unit() * config.patch_dim();
    let blocks: Vec<&[f32]> = images.iter().flat_map(|image| image.pixel_values.chunks_exact(block)).collect();
    let mut rows = Vec::with_capacity(window_index.len() * block);
    for &i in window_index {
        rows.extend_from_slice(blocks[i as usize]);
    }
    Ok(Tensor::from_vec(rows, (window_index.len() * config.merge_unit(), config.patch_dim()), device)?)
}

fn inverse(permutation: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; permutation.len()];
    for (to, &from) in permutation.iter().enumerate() {
        inverse[from as usize] = to as u32;
    }
    inverse
}

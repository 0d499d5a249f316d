//! What an image is reduced to for the search: a colour layout and a layout of edge orientations.
//!
//! The image is averaged to 32×32 pixels. The *colour layout* is its 8×8 averages in RGB (192 values), their common mean taken
//! off, so that arrangement matters more than brightness. The *edge layout* has, in each of 4×4 cells, a histogram of gradient orientations
//! (8 bins, sign ignored) weighted by gradient magnitude. Both are normalised and joined; the result has length 1, so that a dot product is a
//! cosine. An indexed image is described whole and at tighter crops: photographs seldom show all of what a page's image shows.

use image::{RgbImage, imageops};

/// Side of the averaged image, pixels.
const SIDE: usize = 32;
/// Cells of the colour layout, per side.
const COLOUR_CELLS: usize = 8;
/// Cells of the edge layout, per side.
const EDGE_CELLS: usize = 4;
/// Orientation bins over half a turn.
const EDGE_BINS: usize = 8;
/// Share of the squared length that edges get.
const EDGE_WEIGHT: f32 = 0.25;
/// How much of each side the indexed crops keep, centred.
const CROPS: [f32; 3] = [1.0, 0.93, 0.86];

/// Length of a feature vector.
pub(crate) const DIMENSIONS: usize = COLOUR_CELLS * COLOUR_CELLS * 3 + EDGE_CELLS * EDGE_CELLS * EDGE_BINS;
/// Vectors per indexed image.
pub(crate) const VIEWS: usize = CROPS.len();

/// A unit vector of [`DIMENSIONS`] values.
pub(crate) type Feature = Vec<f32>;

/// The features of an image to be indexed, one per crop.
pub(crate) fn views(image: &RgbImage) -> Vec<Feature> {
    CROPS
        .iter()
        .map(|&keep| {
            let crop = |side: u32| ((side as f32 * keep).round() as u32).clamp(1, side.max(1));
            let (width, height) = (crop(image.width()), crop(image.height()));
            let (x, y) = ((image.width() - width.min(image.width())) / 2, (image.height() - height.min(image.height())) / 2);
            feature(&imageops::crop_imm(image, x, y, width, height).to_image())
        })
        .collect()
}

/// The feature of a whole image.
pub(crate) fn feature(image: &RgbImage) -> Feature {
    let small = imageops::resize(image, SIDE as u32, SIDE as u32, imageops::FilterType::Triangle);
    let pixel = |x: usize, y: usize| small.get_pixel(x as u32, y as u32).0.map(|c| f32::from(c) / 255.0);
    let mut colour = colour_layout(pixel);
    let mut edges = edge_layout(|x, y| {
        let [r, g, b] = pixel(x, y);
        0.299 * r + 0.587 * g + 0.114 * b
    });
    normalise(&mut colour, (1.0 - EDGE_WEIGHT).sqrt());
    normalise(&mut edges, EDGE_WEIGHT.sqrt());
    colour.append(&mut edges);
    normalise(&mut colour, 1.0);
    colour
}

fn colour_layout(pixel: impl Fn(usize, usize) -> [f32; 3]) -> Vec<f32> {
    let cell = SIDE / COLOUR_CELLS;
    let mut layout = vec![0f32; COLOUR_CELLS * COLOUR_CELLS * 3];
    for y in 0..SIDE {
        for x in 0..SIDE {
            for (c, v) in pixel(x, y).into_iter().enumerate() {
                layout[((y / cell) * COLOUR_CELLS + x / cell) * 3 + c] += v / (cell * cell) as f32;
            }
        }
    }
    let mean = layout.iter().sum::<f32>() / layout.len() as f32;
    layout.iter_mut().for_each(|v| *v -= mean);
    layout
}

fn edge_layout(luminance: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let cell = SIDE / EDGE_CELLS;
    let mut layout = vec![0f32; EDGE_CELLS * EDGE_CELLS * EDGE_BINS];
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let dx = luminance(x + 1, y) - luminance(x - 1, y);
            let dy = luminance(x, y + 1) - luminance(x, y - 1);
            let magnitude = dx.hypot(dy);
            if magnitude < 0.02 {
                continue;
            }
            // The orientation is spread over the two nearest bins, so that small rotations change little.
            let turn = dy.atan2(dx).rem_euclid(std::f32::consts::PI) / std::f32::consts::PI * EDGE_BINS as f32;
            let (low, share) = (turn.floor() as usize, turn.fract());
            let base = ((y / cell) * EDGE_CELLS + x / cell) * EDGE_BINS;
            layout[base + low % EDGE_BINS] += magnitude * (1.0 - share);
            layout[base + (low + 1) % EDGE_BINS] += magnitude * share;
        }
    }
    layout.iter_mut().for_each(|v| *v = v.sqrt());
    layout
}

/// Scales to the given length; a vector of zeros stays as it is.
fn normalise(values: &mut [f32], length: f32) {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 1e-6 {
        values.iter_mut().for_each(|v| *v *= length / norm);
    }
}

//! Real flags altered, most of them in a detail only, so that telling them apart takes the details.

use image::{RgbImage, imageops};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::drawn::{PALETTE, draw, pick};

/// Share of the altered flags that are altered once more.
const AGAIN: f64 = 0.3;

/// One of `sources`, altered: a colour replaced or all exchanged, an emblem put in, a part covered, mirrored, or halved with another.
pub(super) fn alter(sources: &[RgbImage], rng: &mut ChaCha8Rng) -> RgbImage {
    let Some(mut flag) = sources.choose(rng).cloned() else { return draw(rng) };
    loop {
        match rng.random::<f64>() {
            kind if kind < 0.34 => replace_colour(&mut flag, rng),
            kind if kind < 0.58 => insert_emblem(&mut flag, sources, rng),
            kind if kind < 0.70 => cover(&mut flag, rng),
            kind if kind < 0.80 => exchange_channels(&mut flag, rng),
            kind if kind < 0.90 => mirror(&mut flag, rng),
            _ => halve(&mut flag, sources, rng),
        }
        if rng.random::<f64>() >= AGAIN {
            return flag;
        }
    }
}

/// Replaces the colour of a random pixel, and those near it, by one of the palette's or by a shade of its own. The closer a pixel's colour, the more of
/// it is replaced, so that edges stay smooth.
fn replace_colour(flag: &mut RgbImage, rng: &mut ChaCha8Rng) {
    /// Colours farther apart than this (of 255 per channel, Euclidean) stay.
    const REACH: f32 = 0.35 * 255.0;
    let old = flag.get_pixel(rng.random_range(0..flag.width()), rng.random_range(0..flag.height())).0;
    let new = if rng.random::<f32>() < 0.75 {
        pick(&PALETTE, rng)
    } else {
        old.map(|c| (i32::from(c) + rng.random_range(-110..=110)).clamp(0, 255) as u8)
    };
    for pixel in flag.pixels_mut() {
        let apart = pixel.0.iter().zip(old).map(|(a, b)| (f32::from(*a) - f32::from(b)).powi(2)).sum::<f32>().sqrt();
        let share = (1.0 - apart / REACH).max(0.0).sqrt();
        for (value, new) in pixel.0.iter_mut().zip(new) {
            *value = (f32::from(*value) * (1.0 - share) + f32::from(new) * share + 0.5) as u8;
        }
    }
}

/// Puts a square of another flag, real or made up, where flags bear emblems.
fn insert_emblem(flag: &mut RgbImage, sources: &[RgbImage], rng: &mut ChaCha8Rng) {
    let side = rng.random_range(16..34);
    let (x, y) = emblem_place(flag, side, rng);
    let made_up = (rng.random::<f32>() < 0.3).then(|| draw(rng));
    let Some(other) = made_up.as_ref().or_else(|| sources.choose(rng)) else { return };
    let (from_x, from_y) = if rng.random::<f32>() < 0.7 { (x, y) } else { emblem_place(other, side, rng) };
    let emblem = imageops::crop_imm(other, from_x, from_y, side, side).to_image();
    imageops::replace(flag, &emblem, x.into(), y.into());
}

/// Covers a part where flags bear emblems with a colour of the flag.
fn cover(flag: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let side = rng.random_range(14..40);
    let (x, y) = emblem_place(flag, side, rng);
    let colour = *flag.get_pixel(rng.random_range(0..flag.width()), rng.random_range(0..flag.height()));
    let patch = RgbImage::from_pixel(side, side, colour);
    imageops::replace(flag, &patch, x.into(), y.into());
}

/// Upper left corner of a square in the middle, the canton, at the hoist, at the fly or above the middle.
fn emblem_place(flag: &RgbImage, side: u32, rng: &mut ChaCha8Rng) -> (u32, u32) {
    let centre = pick(&[[0.5, 0.5], [0.5, 0.5], [0.25, 0.27], [0.25, 0.5], [0.7, 0.5], [0.5, 0.3]], rng);
    let corner = |share: f32, length: u32| ((share * length as f32) as u32).saturating_sub(side / 2).min(length.saturating_sub(side));
    (corner(centre[0], flag.width()), corner(centre[1], flag.height()))
}

/// Exchanges red, green and blue, and inverts one of them now and then.
fn exchange_channels(flag: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let mut order = [0usize, 1, 2];
    while order == [0, 1, 2] {
        order.shuffle(rng);
    }
    let inverted = (rng.random::<f32>() < 0.3).then(|| rng.random_range(0..3));
    for pixel in flag.pixels_mut() {
        pixel.0 = order.map(|c| pixel.0[c]);
        if let Some(c) = inverted {
            pixel.0[c] = 255 - pixel.0[c];
        }
    }
}

fn mirror(flag: &mut RgbImage, rng: &mut ChaCha8Rng) {
    match rng.random_range(0..4) {
        0 => imageops::flip_vertical_in_place(flag),
        1 => imageops::flip_horizontal_in_place(flag),
        2 => imageops::rotate180_in_place(flag),
        _ => *flag = imageops::rotate90(&imageops::flip_vertical(flag)),
    }
}

/// Replaces the right or the lower half by another flag's.
fn halve(flag: &mut RgbImage, sources: &[RgbImage], rng: &mut ChaCha8Rng) {
    let (width, height) = flag.dimensions();
    let Some(other) = sources.choose(rng) else { return };
    let (x, y) = if rng.random::<bool>() { (width / 2, 0) } else { (0, height / 2) };
    let half = imageops::crop_imm(other, x, y, width - x, height - y).to_image();
    imageops::replace(flag, &half, x.into(), y.into());
}

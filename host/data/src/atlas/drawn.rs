//! Flags drawn from nothing, in the manner of real ones.

use image::RgbImage;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Colour, SIDE};

/// Colours that flags use, to be varied.
pub(super) const PALETTE: [Colour; 12] = [
    [206, 17, 38],
    [0, 122, 61],
    [0, 56, 147],
    [255, 255, 255],
    [0, 0, 0],
    [252, 209, 22],
    [0, 158, 216],
    [255, 130, 0],
    [110, 20, 50],
    [0, 90, 80],
    [130, 190, 255],
    [70, 40, 120],
];

pub(super) fn pick<T: Copy>(choices: &[T], rng: &mut ChaCha8Rng) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// A made-up flag: a ground (stripes, cross, diagonal, saltire or plain), perhaps a triangle or canton, perhaps an emblem.
pub(super) fn draw(rng: &mut ChaCha8Rng) -> RgbImage {
    let side = SIDE as f32;
    let palette: Vec<Colour> = PALETTE
        .choose_multiple(rng, 5)
        .map(|colour| colour.map(|c| (i32::from(c) + rng.random_range(-25..=25)).clamp(0, 255) as u8))
        .collect();
    let mut canvas = Canvas::new(palette[0]);
    match rng.random::<f32>() {
        kind if kind < 0.6 => stripes(&mut canvas, &palette, rng),
        kind if kind < 0.72 => cross(&mut canvas, &palette, rng),
        kind if kind < 0.82 => {
            let falling = rng.random::<bool>();
            let corner = if falling { [0.0, side] } else { [side, side] };
            canvas.polygon(&[[0.0, 0.0], if falling { [side, 0.0] } else { [0.0, side] }, corner], palette[1]);
            if rng.random::<f32>() < 0.6 {
                let (a, b) = if falling { ([0.0, side], [side, 0.0]) } else { ([0.0, 0.0], [side, side]) };
                canvas.band(a, b, rng.random_range(10.0..34.0), palette[2]);
            }
        }
        kind if kind < 0.9 => {}
        _ => {
            let width = rng.random_range(10.0..30.0);
            canvas.band([0.0, 0.0], [side, side], width, palette[1]);
            canvas.band([0.0, side], [side, 0.0], width, palette[1]);
        }
    }
    if rng.random::<f32>() < 0.22 {
        let tip = pick(&[0.4, 0.5, 0.7], rng) * side;
        canvas.polygon(&[[0.0, 0.0], [tip, side / 2.0], [0.0, side]], palette[3]);
    }
    if rng.random::<f32>() < 0.15 {
        let corners = [0.0, 0.0, side * pick(&[0.33, 0.45, 0.5], rng), side * pick(&[0.4, 0.5], rng)];
        canvas.rectangle(corners, palette[4]);
    }
    emblem(&mut canvas, &palette, rng);
    canvas.finish()
}

fn stripes(canvas: &mut Canvas, palette: &[Colour], rng: &mut ChaCha8Rng) {
    let side = SIDE as f32;
    let vertical = rng.random::<f32>() < 0.45;
    let bands: Vec<(Colour, f32)> = if rng.random::<f32>() < 0.15 {
        (0..rng.random_range(6..14)).map(|i| (palette[i % 2], 1.0)).collect()
    } else {
        let n = pick(&[2, 3, 3, 3, 3, 4, 5], rng);
        let even = rng.random::<f32>() < 0.7;
        let mut last = usize::MAX;
        (0..n)
            .map(|_| {
                let mut colour = rng.random_range(0..4);
                if colour == last {
                    colour = (colour + 1) % 4;
                }
                last = colour;
                (palette[colour], if even { 1.0 } else { pick(&[1.0, 1.0, 2.0, 3.0], rng) })
            })
            .collect()
    };
    let total: f32 = bands.iter().map(|(_, width)| width).sum();
    let mut at = 0.0;
    for (colour, width) in bands {
        let end = at + width / total * side;
        canvas.rectangle(if vertical { [at, 0.0, end, side] } else { [0.0, at, side, end] }, colour);
        at = end;
    }
}

fn cross(canvas: &mut Canvas, palette: &[Colour], rng: &mut ChaCha8Rng) {
    let side = SIDE as f32;
    let x = pick(&[0.36, 0.5], rng) * side;
    let bordered = rng.random::<f32>() < 0.6;
    for (width, colour) in [(0.26, palette[1]), (0.12, palette[2])].into_iter().take(if bordered { 2 } else { 1 }) {
        let half = width * side / 2.0;
        canvas.rectangle([x - half, 0.0, x + half, side], colour);
        canvas.rectangle([0.0, side / 2.0 - half, side, side / 2.0 + half], colour);
    }
}

fn emblem(canvas: &mut Canvas, palette: &[Colour], rng: &mut ChaCha8Rng) {
    let side = SIDE as f32;
    let colour = pick(palette, rng);
    let x = pick(&[0.5, 0.5, 0.5, 0.25, 0.7], rng) * side;
    let y = pick(&[0.5, 0.5, 0.5, 0.27], rng) * side;
    let r = rng.random_range(0.1..0.3) * side;
    let disc = [x - r, y - r, x + r, y + r];
    match rng.random::<f32>() {
        kind if kind < 0.15 => canvas.ellipse(disc, colour),
        kind if kind < 0.32 => {
            let points = pick(&[5, 5, 6, 8], rng);
            canvas.star(x, y, r, points, colour);
        }
        kind if kind < 0.4 => {
            canvas.ellipse(disc, colour);
            canvas.ellipse([x - r * 0.6, y - r * 0.8, x + r, y + r * 0.8], palette[0]);
        }
        kind if kind < 0.5 => {
            for _ in 0..rng.random_range(3..8) {
                canvas.star(rng.random_range(0.1..0.9) * side, rng.random_range(0.1..0.9) * side, r * 0.35, 5, colour);
            }
        }
        kind if kind < 0.6 => canvas.polygon(&[[x - r, y - r], [x + r, y - r], [x + r, y], [x, y + r * 1.3], [x - r, y]], colour),
        kind if kind < 0.7 => {
            canvas.ellipse(disc, colour);
            let inner = r * 0.6;
            canvas.ellipse([x - inner, y - inner, x + inner, y + inner], pick(palette, rng));
        }
        _ => {}
    }
}

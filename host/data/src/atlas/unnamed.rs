//! Flags shown without ever being named.
//!
//! The main error on never-seen flags is to take one for a known flag; the base policy learns that flags can be unknown from these: made-up
//! flags, taught ones with colours exchanged, mirrored, halved together or with a foreign emblem, and *real* ones: the flags of no entity and, where the
//! options allow, those of the training entities of classes B and D. Flags that look like one that is *taught* are dropped, for they would teach doubt about
//! it, and so are real ones that look like one that is to stay unseen: an unknown flag of the validation, test or held-out questions.

use std::sync::Arc;

use image::{RgbImage, imageops};
use mmhost_corpus::thumbnail;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::canvas::{Canvas, Colour, SIDE};
use super::images::{distance, layout};
use super::world::{Entity, Split, World};

/// Closer than this to a taught flag, and a flag is taken for it; closer to one that is to stay unseen, and it gives that away.
const TOO_CLOSE: f32 = 0.07;

/// A flag to be shown without its name.
#[derive(Debug, Clone)]
pub(super) struct Unnamed {
    pub(super) flag: Arc<RgbImage>,
    pub(super) thumbnail: Arc<RgbImage>,
    /// Number of the entity that bears it.
    pub(super) owner: Option<usize>,
}

/// Flags to be shown without their names.
#[derive(Debug, Clone)]
pub(super) struct Bank {
    /// Flags that no one bears.
    pub(super) invented: Vec<Unnamed>,
    /// Real flags.
    pub(super) real: Vec<Unnamed>,
}

/// How to make a [`Bank`].
pub(super) struct BankOptions {
    /// Flags to draw.
    pub(super) made_up: usize,
    /// Flags to make from taught ones and those of no entity.
    pub(super) remade: usize,
    /// Whether the training entities' flags of classes B and D are among the real ones.
    pub(super) of_entities: bool,
    /// Longer side of thumbnails, pixels.
    pub(super) thumbnail_size: u32,
    /// Seed.
    pub(super) seed: u64,
}

impl Bank {
    pub(super) fn new(world: &World, options: &BankOptions) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let layouts = |numbers: &[usize]| numbers.iter().map(|&i| layout(&world.flags[i])).collect::<Vec<_>>();
        let taught = world.select(|e| e.class.flag_taught());
        let trained_on = |e: &Entity| options.of_entities && e.split == Split::Train;
        let unseen = layouts(&world.select(|e| !e.class.flag_taught() && !trained_on(e)));
        let taught_layouts = layouts(&taught);
        let far_from = |flag: &RgbImage, others: &[[f32; 192]]| {
            let seen = layout(flag);
            others.iter().all(|other| distance(&seen, other) > TOO_CLOSE)
        };
        let ownerless: Vec<&RgbImage> = world.unnamed.iter().filter(|f| far_from(f, &unseen)).collect();
        let drawn: Vec<RgbImage> = (0..options.made_up).map(|_| draw(&mut rng)).collect();
        let sources: Vec<&RgbImage> = taught.iter().map(|&i| &world.flags[i]).chain(ownerless.iter().copied()).collect();
        let remade: Vec<RgbImage> = (0..options.remade).map(|_| remake(&sources, &drawn, &mut rng)).collect();

        let shown = |flag: RgbImage, owner| {
            let thumbnail = Arc::new(thumbnail(&flag, options.thumbnail_size));
            Unnamed { flag: Arc::new(flag), thumbnail, owner }
        };
        let unknown = world.select(|e| !e.class.flag_taught() && trained_on(e));
        let borne = unknown.into_iter().map(|i| (world.flags[i].clone(), Some(i)));
        let real = ownerless.into_iter().map(|flag| (flag.clone(), None)).chain(borne);
        Self {
            invented: drawn.into_iter().chain(remade).filter(|f| far_from(f, &taught_layouts)).map(|f| shown(f, None)).collect(),
            real: real.filter(|(f, _)| far_from(f, &taught_layouts)).map(|(f, owner)| shown(f, owner)).collect(),
        }
    }
}

/// Colours that flags use, to be varied.
const PALETTE: [Colour; 12] = [
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

fn pick<T: Copy>(choices: &[T], rng: &mut ChaCha8Rng) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// A made-up flag: a ground (stripes, cross, diagonal, saltire or plain), perhaps a triangle or canton, perhaps an emblem.
fn draw(rng: &mut ChaCha8Rng) -> RgbImage {
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

/// A real flag changed past recognition: colours exchanged, one colour replaced, mirrored, halved with another, or its middle on a made-up ground.
fn remake(sources: &[&RgbImage], drawn: &[RgbImage], rng: &mut ChaCha8Rng) -> RgbImage {
    let Some(&flag) = sources.choose(rng) else { return draw(rng) };
    let mut flag = flag.clone();
    let (width, height) = flag.dimensions();
    match rng.random::<f32>() {
        kind if kind < 0.2 => {
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
            flag
        }
        kind if kind < 0.45 => replace_colour(flag, rng),
        kind if kind < 0.68 => match rng.random_range(0..4) {
            0 => imageops::flip_vertical(&flag),
            1 => imageops::flip_horizontal(&flag),
            2 => imageops::rotate180(&flag),
            _ => imageops::rotate90(&imageops::flip_vertical(&flag)),
        },
        kind if kind < 0.88 => {
            let Some(&other) = sources.choose(rng) else { return flag };
            let (x, y) = if rng.random::<bool>() { (width / 2, 0) } else { (0, height / 2) };
            let half = imageops::crop_imm(other, x, y, width - x, height - y).to_image();
            imageops::replace(&mut flag, &half, x.into(), y.into());
            flag
        }
        _ => {
            let Some(ground) = drawn.choose(rng) else { return flag };
            let side = rng.random_range(18..34);
            let corner = (width / 2).saturating_sub(side / 2);
            let emblem = imageops::crop_imm(&flag, corner, corner, side, side).to_image();
            let mut ground = ground.clone();
            imageops::replace(&mut ground, &emblem, corner.into(), corner.into());
            ground
        }
    }
}

/// Replaces the colour of a random pixel, and those near it, by one of the palette's. The closer a pixel's colour, the more of it is replaced, so
/// that edges stay smooth.
fn replace_colour(mut flag: RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
    /// Colours farther apart than this (of 255 per channel, Euclidean) stay.
    const REACH: f32 = 0.35 * 255.0;
    let old = flag.get_pixel(rng.random_range(0..flag.width()), rng.random_range(0..flag.height())).0;
    let new = pick(&PALETTE, rng);
    for pixel in flag.pixels_mut() {
        let apart = pixel.0.iter().zip(old).map(|(a, b)| (f32::from(*a) - f32::from(b)).powi(2)).sum::<f32>().sqrt();
        let share = (1.0 - apart / REACH).max(0.0).sqrt();
        for (value, new) in pixel.0.iter_mut().zip(new) {
            *value = (f32::from(*value) * (1.0 - share) + f32::from(new) * share + 0.5) as u8;
        }
    }
    flag
}

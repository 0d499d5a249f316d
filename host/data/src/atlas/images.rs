//! Flags as a camera might see them.

use std::sync::LazyLock;

use image::{Rgb, RgbImage};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::world::Split;

/// Side of a question's image, pixels: four merged vision tokens of a model with 14-pixel patches.
pub const IMAGE_SIZE: u32 = 56;

/// Ranges from which one view of a flag is drawn, uniformly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Largest rotation to either side, degrees.
    pub rotation: f32,
    /// Magnification; what it pushes out of view is cropped at a random place.
    pub zoom: [f32; 2],
    /// Factor on brightness.
    pub brightness: [f32; 2],
    /// Factor on contrast, about middle grey.
    pub contrast: [f32; 2],
    /// Standard deviation of the noise on each value, as a share of the full range.
    pub noise: f32,
}

impl Augmentation {
    /// The warm-up's and the training questions' views.
    pub const TRAIN: Self = Self { rotation: 8.0, zoom: [1.0, 1.18], brightness: [0.8, 1.2], contrast: [0.85, 1.15], noise: 0.03 };

    /// The views of a split. Validation and test views differ from training views in range as well as in seed.
    pub fn of(split: Split) -> Self {
        match split {
            Split::Train => Self::TRAIN,
            Split::Validation => Self { rotation: 6.0, zoom: [1.02, 1.14], brightness: [0.84, 1.16], contrast: [0.88, 1.12], noise: 0.025 },
            Split::Test | Split::HeldOut => {
                Self { rotation: 7.0, zoom: [1.01, 1.16], brightness: [0.82, 1.18], contrast: [0.87, 1.13], noise: 0.028 }
            }
        }
    }

    /// A view of `flag`, [`IMAGE_SIZE`] pixels square: rotated, magnified and shifted (bilinear, edges repeated), then contrast, brightness, noise.
    pub fn apply(&self, flag: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
        let between = |rng: &mut ChaCha8Rng, [low, high]: [f32; 2]| low + (high - low) * rng.random::<f32>();
        let angle = between(rng, [-self.rotation, self.rotation]).to_radians();
        let scale = 1.0 / between(rng, self.zoom);
        let room = 1.0 - scale;
        let (shift_x, shift_y) = (between(rng, [-room, room]), between(rng, [-room, room]));
        let contrast = between(rng, self.contrast);
        let brightness = between(rng, self.brightness);
        let (sin, cos) = (scale * angle.sin(), scale * angle.cos());

        let (width, height) = flag.dimensions();
        let (last_x, last_y) = ((width.max(1) - 1) as f32, (height.max(1) - 1) as f32);
        let stride = width as usize * 3;
        let pixels = flag.as_raw();
        let mut noise = Noise::new(self.noise * 255.0, rng);
        let mut view = vec![0u8; (IMAGE_SIZE * IMAGE_SIZE * 3) as usize];
        // Both images span −1..1; the affine map takes a pixel of the view to its place in the flag.
        for (row, line) in view.chunks_exact_mut(IMAGE_SIZE as usize * 3).enumerate() {
            let y = (2 * row + 1) as f32 / IMAGE_SIZE as f32 - 1.0;
            for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
                let x = (2 * column + 1) as f32 / IMAGE_SIZE as f32 - 1.0;
                let u = (((cos * x - sin * y + shift_x + 1.0) * width as f32 - 1.0) / 2.0).clamp(0.0, last_x);
                let v = (((sin * x + cos * y + shift_y + 1.0) * height as f32 - 1.0) / 2.0).clamp(0.0, last_y);
                let (u0, v0) = (u as usize, v as usize);
                let (du, dv) = (u - u0 as f32, v - v0 as f32);
                let (right, below) = (if (u0 as f32) < last_x { 3 } else { 0 }, if (v0 as f32) < last_y { stride } else { 0 });
                let at = v0 * stride + u0 * 3;
                for (c, value) in pixel.iter_mut().enumerate() {
                    let p = |offset: usize| f32::from(pixels[at + offset + c]);
                    let top = p(0) + (p(right) - p(0)) * du;
                    let bottom = p(below) + (p(below + right) - p(below)) * du;
                    let seen = ((top + (bottom - top) * dv - 127.5) * contrast + 127.5) * brightness;
                    // The cast saturates at 0 and 255.
                    *value = (seen + noise.next() + 0.5) as u8;
                }
            }
        }
        RgbImage::from_raw(IMAGE_SIZE, IMAGE_SIZE, view).unwrap_or_else(|| RgbImage::from_pixel(IMAGE_SIZE, IMAGE_SIZE, Rgb([0; 3])))
    }
}

/// Normal deviates from a table: the generator costs more than the whole view otherwise.
static DEVIATES: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Box–Muller.
    (0..1 << Noise::BITS)
        .map(|_| (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt() * (std::f32::consts::TAU * rng.random::<f32>()).cos())
        .collect()
});

struct Noise {
    table: &'static [f32],
    scale: f32,
    /// State of a xorshift generator; never 0.
    state: u64,
    bits: u64,
    left: u32,
}

impl Noise {
    /// Bits that choose one deviate.
    const BITS: u32 = 12;

    fn new(scale: f32, rng: &mut ChaCha8Rng) -> Self {
        Self { table: &DEVIATES, scale, state: rng.next_u64() | 1, bits: 0, left: 0 }
    }

    fn next(&mut self) -> f32 {
        if self.left == 0 {
            // xorshift64 (Marsaglia 2003).
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.bits = self.state;
            self.left = 64 / Self::BITS;
        }
        self.left -= 1;
        let deviate = self.table[(self.bits & ((1 << Self::BITS) - 1)) as usize];
        self.bits >>= Self::BITS;
        deviate * self.scale
    }
}

/// Mean colours of 8×8 cells, 192 values in 0..1: how different two flags look at a glance.
pub(super) fn layout(flag: &RgbImage) -> [f32; 192] {
    let mut cells = [0f32; 192];
    let mut counts = [0f32; 64];
    for (x, y, pixel) in flag.enumerate_pixels() {
        let cell = (y * 8 / flag.height() * 8 + x * 8 / flag.width()) as usize;
        counts[cell] += 255.0;
        for c in 0..3 {
            cells[cell * 3 + c] += f32::from(pixel.0[c]);
        }
    }
    for (i, value) in cells.iter_mut().enumerate() {
        *value /= counts[i / 3].max(1.0);
    }
    cells
}

/// Root mean square difference of two layouts.
pub(super) fn distance(a: &[f32; 192], b: &[f32; 192]) -> f32 {
    (a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>() / 192.0).sqrt()
}

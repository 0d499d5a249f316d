//! A small canvas for made-up flags: filled rectangles, polygons and ellipses, drawn at twice the size and averaged.

use image::{Rgb, RgbImage};

/// Side of the canvas in its own units, which are also its pixels.
pub(super) const SIDE: usize = 144;

pub(super) type Colour = [u8; 3];

pub(super) struct Canvas {
    pixels: Vec<Colour>,
}

impl Canvas {
    pub(super) fn new(colour: Colour) -> Self {
        Self { pixels: vec![colour; SIDE * SIDE] }
    }

    /// Fills where `inside` holds, within the box from (`x0`, `y0`) to (`x1`, `y1`); arguments of `inside` are pixel centres.
    fn fill(&mut self, [x0, y0, x1, y1]: [f32; 4], colour: Colour, inside: impl Fn(f32, f32) -> bool) {
        let bound = |v: f32| v.clamp(0.0, SIDE as f32) as usize;
        for y in bound(y0.floor())..bound(y1.ceil()) {
            for x in bound(x0.floor())..bound(x1.ceil()) {
                if inside(x as f32 + 0.5, y as f32 + 0.5) {
                    self.pixels[y * SIDE + x] = colour;
                }
            }
        }
    }

    pub(super) fn rectangle(&mut self, corners: [f32; 4], colour: Colour) {
        let [x0, y0, x1, y1] = corners;
        self.fill(corners, colour, |x, y| x >= x0 && x < x1 && y >= y0 && y < y1);
    }

    pub(super) fn ellipse(&mut self, corners: [f32; 4], colour: Colour) {
        let [x0, y0, x1, y1] = corners;
        let (cx, cy, rx, ry) = ((x0 + x1) / 2.0, (y0 + y1) / 2.0, ((x1 - x0) / 2.0).max(0.1), ((y1 - y0) / 2.0).max(0.1));
        self.fill(corners, colour, |x, y| ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) <= 1.0);
    }

    /// Even-odd rule.
    pub(super) fn polygon(&mut self, points: &[[f32; 2]], colour: Colour) {
        let bounds = points.iter().fold([f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY], |b, p| {
            [b[0].min(p[0]), b[1].min(p[1]), b[2].max(p[0]), b[3].max(p[1])]
        });
        self.fill(bounds, colour, |x, y| {
            let mut inside = false;
            for (i, a) in points.iter().enumerate() {
                let b = points[(i + 1) % points.len()];
                if (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0] {
                    inside = !inside;
                }
            }
            inside
        });
    }

    /// A star of `n` points around (`x`, `y`), one point up.
    pub(super) fn star(&mut self, x: f32, y: f32, radius: f32, n: usize, colour: Colour) {
        let points: Vec<[f32; 2]> = (0..2 * n)
            .map(|i| {
                let r = if i % 2 == 0 { radius } else { radius * 0.42 };
                let angle = std::f32::consts::PI * i as f32 / n as f32;
                [x + r * angle.sin(), y - r * angle.cos()]
            })
            .collect();
        self.polygon(&points, colour);
    }

    /// A straight band of the given width from `a` to `b`.
    pub(super) fn band(&mut self, a: [f32; 2], b: [f32; 2], width: f32, colour: Colour) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = dx.hypot(dy).max(0.1);
        self.fill([0.0, 0.0, SIDE as f32, SIDE as f32], colour, |x, y| ((x - a[0]) * dy - (y - a[1]) * dx).abs() / length <= width / 2.0);
    }

    /// The drawing at half its size: 72×72 pixels.
    pub(super) fn finish(self) -> RgbImage {
        let half = (SIDE / 2) as u32;
        RgbImage::from_fn(half, half, |x, y| {
            let at = |dx: usize, dy: usize| self.pixels[(2 * y as usize + dy) * SIDE + 2 * x as usize + dx];
            let corners = [at(0, 0), at(1, 0), at(0, 1), at(1, 1)];
            Rgb([0, 1, 2].map(|c| (corners.iter().map(|p| u32::from(p[c])).sum::<u32>() / 4) as u8))
        })
    }
}

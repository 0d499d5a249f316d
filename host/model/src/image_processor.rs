//! From decoded pixels to patches, as `Qwen2VLImageProcessor` of transformers does it.
//!
//! Sizes, patch order, rescaling and normalisation are equal to the reference. Resizing is bicubic with antialiasing in
//! 8-bit fixed point: equal to the reference's torchvision back end, and within one step of 255 of its Pillow back end.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, Rgb, RgbImage};
use serde_json::{Value, json};

use crate::config_json::Fields;
use crate::{Error, ImageInput, ModelConfig, Result};

/// The widest aspect ratio that the reference accepts.
const MAX_ASPECT: f64 = 200.0;

/// How images are scaled, normalised and cut, as in `preprocessor_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// Images with fewer pixels are enlarged to about this number.
    pub min_pixels: usize,
    /// Images with more pixels are reduced to about this number.
    pub max_pixels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames that make one patch; a still image is repeated.
    pub temporal_patch_size: usize,
    /// `merge × merge` patches become one token.
    pub merge_size: usize,
    /// Mean of each colour channel, of values scaled to 0..1.
    pub image_mean: [f32; 3],
    /// Standard deviation of each colour channel.
    pub image_std: [f32; 3],
    /// What 8-bit values are multiplied by.
    pub rescale_factor: f64,
    /// Whether images are resized at all; without it their sides must be multiples of `patch_size · merge_size`.
    pub do_resize: bool,
    /// Whether 8-bit values are rescaled.
    pub do_rescale: bool,
    /// Whether mean and standard deviation are applied.
    pub do_normalize: bool,
}

impl Default for ImageProcessor {
    /// The reference's defaults: CLIP's mean and standard deviation, 4 to 1,280 tokens.
    fn default() -> Self {
        Self {
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            rescale_factor: 1.0 / 255.0,
            do_resize: true,
            do_rescale: true,
            do_normalize: true,
        }
    }
}

impl ImageProcessor {
    /// The default for a model's patch and merge sizes, with bounds on the pixels of an image.
    pub fn for_model(config: &crate::ModelShape, min_pixels: usize, max_pixels: usize) -> Self {
        Self { min_pixels, max_pixels, patch_size: config.patch_size, merge_size: config.spatial_merge_size, ..Self::default() }
    }

    /// Reads the object of a `preprocessor_config.json`: bounds as `min_pixels`/`max_pixels` or as `size`.
    ///
    /// # Errors
    /// When a field is of the wrong type, out of range or looks misspelt.
    pub fn from_json(value: &Value, file: &str) -> Result<Self> {
        let base = Self::default();
        let mut fields = Fields::new(value, file, "")?;
        let mut bounds = [base.min_pixels, base.max_pixels];
        if let Some(size) = fields.take("size").filter(|size| !size.is_null()) {
            let mut size = Fields::new(&size, file, "size")?;
            for (bound, names) in bounds.iter_mut().zip([["min_pixels", "shortest_edge"], ["max_pixels", "longest_edge"]]) {
                for name in names {
                    *bound = size.size(name, Some(*bound))?;
                }
            }
            size.finish_lenient()?;
        }
        let min_pixels = fields.size("min_pixels", Some(bounds[0]))?;
        let max_pixels = fields.size("max_pixels", Some(bounds[1]))?;
        let mut three = |name, default: [f32; 3]| -> Result<[f32; 3]> {
            let numbers = fields.numbers(name, default.map(f64::from).to_vec())?;
            match numbers.as_slice() {
                [r, g, b] => Ok([*r as f32, *g as f32, *b as f32]),
                other => Err(fields.error(name, format!("{} numbers", other.len()), "three numbers")),
            }
        };
        let processor = Self {
            image_mean: three("image_mean", base.image_mean)?,
            image_std: three("image_std", base.image_std)?,
            min_pixels,
            max_pixels,
            patch_size: fields.size("patch_size", Some(base.patch_size))?,
            temporal_patch_size: fields.size("temporal_patch_size", Some(base.temporal_patch_size))?,
            merge_size: fields.size("merge_size", Some(base.merge_size))?,
            rescale_factor: fields.number("rescale_factor", Some(base.rescale_factor))?,
            do_resize: fields.boolean("do_resize", true)?,
            do_rescale: fields.boolean("do_rescale", true)?,
            do_normalize: fields.boolean("do_normalize", true)?,
        };
        if fields.size("resample", Some(3))? != 3 {
            return Err(fields.error("resample", "another filter", "3 (bicubic)"));
        }
        for (name, size) in [
            ("patch_size", processor.patch_size),
            ("temporal_patch_size", processor.temporal_patch_size),
            ("merge_size", processor.merge_size),
        ] {
            if size == 0 {
                return Err(fields.error(name, "0", "a whole number above 0"));
            }
        }
        if min_pixels > max_pixels {
            return Err(fields.error("min_pixels", min_pixels.to_string(), format!("at most max_pixels ({max_pixels})")));
        }
        if processor.image_std.contains(&0.0) {
            return Err(fields.error("image_std", "0", "numbers other than 0"));
        }
        fields.finish_lenient()?;
        Ok(processor)
    }

    /// Refuses a processor that cuts images otherwise than the model reads them.
    ///
    /// # Errors
    /// Names the field of `file` that differs from `config.json`.
    pub fn check(&self, config: &ModelConfig, file: &str) -> Result<()> {
        for (name, found, expected) in [
            ("patch_size", self.patch_size, config.vision.patch_size),
            ("temporal_patch_size", self.temporal_patch_size, config.vision.temporal_patch_size),
            ("merge_size", self.merge_size, config.vision.spatial_merge_size),
        ] {
            if found != expected {
                return Err(Error::field(file, name, found.to_string(), format!("{expected}, as config.json has it")));
            }
        }
        Ok(())
    }

    /// The object of a `preprocessor_config.json`.
    pub fn to_json(&self) -> Value {
        json!({
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "do_convert_rgb": true,
            "do_resize": self.do_resize,
            "do_rescale": self.do_rescale,
            "do_normalize": self.do_normalize,
            "resample": 3,
            "rescale_factor": self.rescale_factor,
            "image_mean": self.image_mean.map(exact),
            "image_std": self.image_std.map(exact),
            "min_pixels": self.min_pixels,
            "max_pixels": self.max_pixels,
            "size": { "shortest_edge": self.min_pixels, "longest_edge": self.max_pixels },
            "patch_size": self.patch_size,
            "temporal_patch_size": self.temporal_patch_size,
            "merge_size": self.merge_size,
        })
    }

    /// Height and width to which an image is resized: multiples of a token's side, within the bounds on pixels, the aspect
    /// ratio kept as nearly as possible (`smart_resize` of the reference).
    ///
    /// # Errors
    /// [`Error::ImageSize`] for an image without pixels or one more than 200 times as long as it is wide.
    pub fn smart_resize(&self, height: u32, width: u32) -> Result<(u32, u32)> {
        let fail = |problem: String| Err(Error::ImageSize { width, height, problem });
        if height == 0 || width == 0 {
            return fail("it has no pixels".into());
        }
        let (h, w) = (f64::from(height), f64::from(width));
        let aspect = h.max(w) / h.min(w);
        if aspect > MAX_ASPECT {
            return fail(format!("one side is {aspect:.0} times the other, expected at most {MAX_ASPECT}; hint: crop it"));
        }
        let factor = (self.patch_size * self.merge_size) as f64;
        // Python rounds halves to the even neighbour.
        let mut h_bar = (h / factor).round_ties_even() * factor;
        let mut w_bar = (w / factor).round_ties_even() * factor;
        if h_bar * w_bar > self.max_pixels as f64 {
            let beta = (h * w / self.max_pixels as f64).sqrt();
            h_bar = factor.max((h / beta / factor).floor() * factor);
            w_bar = factor.max((w / beta / factor).floor() * factor);
        } else if h_bar * w_bar < self.min_pixels as f64 {
            let beta = (self.min_pixels as f64 / (h * w)).sqrt();
            h_bar = (h * beta / factor).ceil() * factor;
            w_bar = (w * beta / factor).ceil() * factor;
        }
        if h_bar < factor || w_bar < factor {
            return fail(format!(
                "it is smaller than one token ({factor}×{factor} pixels) and min_pixels ({}) does not enlarge it",
                self.min_pixels
            ));
        }
        Ok((h_bar as u32, w_bar as u32))
    }

    /// Decoded pixels to model input. Greyscale becomes RGB; transparent images are laid on white, as in the reference.
    ///
    /// # Errors
    /// [`Error::ImageSize`] when the image cannot be scaled to what the model reads.
    pub fn process(&self, image: &DynamicImage) -> Result<ImageInput> {
        let rgb = if image.color().has_alpha() { on_white(image) } else { image.to_rgb8() };
        let (width, height) = rgb.dimensions();
        let fail = |problem: String| Error::ImageSize { width, height, problem };
        let factor = (self.patch_size * self.merge_size) as u32;
        let (new_height, new_width) = if self.do_resize {
            self.smart_resize(height, width)?
        } else if height > 0 && width > 0 && height % factor == 0 && width % factor == 0 {
            (height, width)
        } else {
            return Err(fail(format!("do_resize is false, expected sides that are multiples of {factor}")));
        };
        let pixels = if (new_height, new_width) == (height, width) {
            rgb.into_raw()
        } else {
            resize(rgb.into_raw(), (width, height), (new_width, new_height)).map_err(fail)?
        };
        Ok(self.patchify(&pixels, new_height as usize, new_width as usize))
    }

    /// Cuts RGB pixels into rows `[channel][frame][y][x]`, one per patch, patches of a merge block together.
    fn patchify(&self, pixels: &[u8], height: usize, width: usize) -> ImageInput {
        let (patch, merge) = (self.patch_size, self.merge_size);
        let table: [[f32; 256]; 3] = std::array::from_fn(|channel| std::array::from_fn(|value| self.normalised(channel, value as u8)));
        let (rows, columns) = (height / patch, width / patch);
        let mut pixel_values = Vec::with_capacity(rows * columns * 3 * self.temporal_patch_size * patch * patch);
        let in_block = |block_row: usize, block_column: usize| {
            (0..merge).flat_map(move |y| (0..merge).map(move |x| (block_row * merge + y, block_column * merge + x)))
        };
        for block_row in 0..rows / merge {
            for block_column in 0..columns / merge {
                for (row, column) in in_block(block_row, block_column) {
                    for (channel, table) in table.iter().enumerate() {
                        let start = pixel_values.len();
                        for y in row * patch..(row + 1) * patch {
                            let line = (y * width + column * patch) * 3;
                            pixel_values.extend((0..patch).map(|x| table[usize::from(pixels[line + x * 3 + channel])]));
                        }
                        let end = pixel_values.len();
                        for _ in 1..self.temporal_patch_size {
                            pixel_values.extend_from_within(start..end);
                        }
                    }
                }
            }
        }
        ImageInput { pixel_values, grid_thw: [1, rows as u32, columns as u32] }
    }

    fn normalised(&self, channel: usize, value: u8) -> f32 {
        let value = f64::from(value) * if self.do_rescale { self.rescale_factor } else { 1.0 };
        if !self.do_normalize {
            return value as f32;
        }
        ((value - f64::from(self.image_mean[channel])) / f64::from(self.image_std[channel])) as f32
    }
}

fn exact(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn on_white(image: &DynamicImage) -> RgbImage {
    let rgba = image.to_rgba8();
    let blend = |colour: u8, alpha: u16| ((u16::from(colour) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        Rgb([r, g, b].map(|colour| blend(colour, u16::from(a))))
    })
}

fn resize(mut pixels: Vec<u8>, mut from: (u32, u32), to: (u32, u32)) -> std::result::Result<Vec<u8>, String> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
    let mut resizer = Resizer::new();
    // Bicubic filters overshoot and 8-bit values are clipped in between, so the order of the two directions shows at sharp
    // edges. Pillow goes along the rows first.
    for step in [(to.0, from.1), to] {
        if step == from {
            continue;
        }
        let mut resized = vec![0; step.0 as usize * step.1 as usize * 3];
        let source = TypedImageRef::<U8x3>::from_buffer(from.0, from.1, &pixels).map_err(|e| e.to_string())?;
        let mut target = TypedImage::<U8x3>::from_buffer(step.0, step.1, &mut resized).map_err(|e| e.to_string())?;
        // Typed: the untyped call compiles the resizer for every kind of pixel, which takes longer than the rest of this crate.
        resizer.resize_typed(&source, &mut target, &options).map_err(|e| e.to_string())?;
        (pixels, from) = (resized, step);
    }
    Ok(pixels)
}

//! Crops the question's image to a rectangle that the policy names, and enlarges the crop.

use image::imageops::{FilterType, crop_imm, resize};
use image::{ImageFormat, ImageReader, Limits};
use mmhost_sdk::tool::{CallForm, Description, EncodedImage, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, Image};
use std::io::Cursor;

const SCHEMA: &str = r#"{"type": "object", "properties": {"left": {"type": "number", "minimum": 0, "maximum": 100, "description": "percent of the width", "examples": [25]}, "top": {"type": "number", "minimum": 0, "maximum": 100, "examples": [25]}, "right": {"type": "number", "minimum": 0, "maximum": 100, "examples": [75]}, "bottom": {"type": "number", "minimum": 0, "maximum": 100, "examples": [75]}}, "required": ["left", "top", "right", "bottom"]}"#;
/// Most bytes that one read may ask for, by the contract.
const MAX_READ: u64 = 1 << 20;
/// Largest encoded file.
const MAX_FILE: u64 = 16 << 20;

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    side: u32,
    max_pixels: u64,
    max_calls: u32,
}

/// The rectangle in percent of width and height.
#[derive(miniserde::Deserialize)]
struct Rectangle {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

struct ImageCrop;

impl Tool for ImageCrop {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        Ok(Description {
            name: "image-crop".into(),
            description: "look closer at a part of the image".into(),
            call: CallForm::Json(SCHEMA.into()),
            max_calls: config.max_calls,
            instruction: "Go on.".into(),
            needs_image: true,
        })
    }

    fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let image = input.images.first().ok_or(ToolError::MissingImage)?;
        let rectangle: Rectangle = miniserde::json::from_str(&input.argument)
            .map_err(|_| ToolError::BadArgument("expected {\"left\": PERCENT, \"top\": …, \"right\": …, \"bottom\": …}".into()))?;
        let size = image.dimensions().map_err(|_| unreadable("it is no image"))?;
        // Before anything is read: an image is as large in memory as its header says.
        if u64::from(size.width) * u64::from(size.height) > config.max_pixels {
            return Err(unreadable(&format!("it has more than {} pixels", config.max_pixels)));
        }
        let (left, width) = span(rectangle.left, rectangle.right, size.width)?;
        let (top, height) = span(rectangle.top, rectangle.bottom, size.height)?;
        let whole = decode(image, config.max_pixels)?;
        let crop = crop_imm(&whole, left, top, width, height).to_image();
        let scale = f64::from(config.side) / f64::from(width.max(height));
        let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).clamp(1, config.side);
        let zoomed = resize(&crop, scaled(width), scaled(height), FilterType::CatmullRom);
        let mut bytes = Cursor::new(Vec::new());
        zoomed.write_to(&mut bytes, ImageFormat::Png).map_err(|error| ToolError::Internal(error.to_string()))?;
        Ok(vec![Part::Encoded(EncodedImage { media_type: "image/png".into(), bytes: bytes.into_inner() })])
    }
}

/// The first pixel and the number of pixels of a side, at least one.
fn span(from: f64, to: f64, pixels: u32) -> Result<(u32, u32), ToolError> {
    // NaN is in no range.
    if !((0.0..=100.0).contains(&from) && (0.0..=100.0).contains(&to) && from < to) {
        return Err(ToolError::BadArgument("expected 0 <= left < right <= 100 and 0 <= top < bottom <= 100".into()));
    }
    let at = |percent: f64| (percent / 100.0 * f64::from(pixels)).round() as u32;
    let first = at(from).min(pixels.saturating_sub(1));
    Ok((first, at(to).saturating_sub(first).max(1)))
}

fn unreadable(why: &str) -> ToolError {
    ToolError::Unavailable(format!("the image cannot be read: {why}"))
}

fn decode(image: &Image, max_pixels: u64) -> Result<image::RgbImage, ToolError> {
    let size = image.size();
    if size > MAX_FILE {
        return Err(unreadable("the file is too large"));
    }
    let mut file = Vec::with_capacity(size as usize);
    while (file.len() as u64) < size {
        let at = file.len() as u64;
        file.extend(image.read(at, (size - at).min(MAX_READ) as u32).map_err(|_| unreadable("the file ends early"))?);
    }
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|_| unreadable("unknown format"))?;
    let mut limits = Limits::default();
    // Four channels of a byte, and as much again for the decoder.
    limits.max_alloc = Some(max_pixels.saturating_mul(8));
    reader.limits(limits);
    reader.decode().map(|image| image.into_rgb8()).map_err(|error| unreadable(&error.to_string()))
}

mmhost_sdk::export_tool!(ImageCrop);

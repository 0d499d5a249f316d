//! Images in and out: decoding under limits, encoding, thumbnails.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{ImageFormat, ImageReader, Limits, RgbImage, imageops};

/// Longest side of an image that is decoded, pixels.
const MAX_SIDE: u32 = 16_384;
/// Most memory that decoding one image may take, bytes.
const MAX_ALLOCATION: u64 = 256 << 20;

/// Why encoded bytes are not a usable image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageProblem {
    /// No bytes at all.
    #[error("the image is empty (0 bytes)")]
    Empty,
    /// Not a known format.
    #[error("{len} bytes in no known image format (PNG, JPEG and WebP are known)")]
    UnknownFormat {
        /// Length of the input in bytes.
        len: usize,
    },
    /// The decoder gave up.
    #[error("cannot be decoded as {format}: {problem}")]
    Undecodable {
        /// Format by the first bytes.
        format: String,
        /// The decoder's word.
        problem: String,
    },
    /// The image does not exist or cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// Reads an encoded image. Data sets and corpora name files; what is no regular file (a device, a pipe) or larger than any image is not read.
///
/// # Errors
/// The file is missing, unreadable, no regular file, or larger than 256 MiB.
pub fn read_image_file(path: &Path) -> std::result::Result<Arc<[u8]>, ImageProblem> {
    let unreadable = |e: std::io::Error| ImageProblem::Unreadable(e.to_string());
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ImageProblem::Unreadable("it is not a regular file".into()));
    }
    if metadata.len() > MAX_ALLOCATION {
        return Err(ImageProblem::Unreadable(format!("its size must be <= {MAX_ALLOCATION} bytes. Given: {}", metadata.len())));
    }
    std::fs::read(path).map(Arc::from).map_err(unreadable)
}

/// Decodes PNG, JPEG or WebP to RGB; what is transparent becomes white.
///
/// # Errors
/// Unknown formats, broken files, and images wider or higher than 16,384 pixels or needing more than 256 MiB.
pub fn decode_image(encoded: &[u8]) -> std::result::Result<RgbImage, ImageProblem> {
    if encoded.is_empty() {
        return Err(ImageProblem::Empty);
    }
    let Ok(format) = image::guess_format(encoded) else {
        return Err(ImageProblem::UnknownFormat { len: encoded.len() });
    };
    let mut reader = ImageReader::with_format(Cursor::new(encoded), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|e| ImageProblem::Undecodable { format: format_name(format).into(), problem: e.to_string() })?;
    if !decoded.color().has_alpha() {
        return Ok(decoded.into_rgb8());
    }
    let rgba = decoded.into_rgba8();
    Ok(RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a) + 127) / 255) as u8))
    }))
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        other => other.extensions_str().first().copied().unwrap_or("an unknown format"),
    }
}

/// Media type by the first bytes, e.g. `image/png`; `application/octet-stream` when they tell nothing.
pub fn media_type(encoded: &[u8]) -> &'static str {
    image::guess_format(encoded).map_or("application/octet-stream", |f| f.to_mime_type())
}

/// Encodes as PNG.
pub fn encode_png(image: &RgbImage) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    // Writing to memory fails only for an image without pixels, which has no encoding.
    match image.write_to(&mut png, ImageFormat::Png) {
        Ok(()) => png.into_inner(),
        Err(_) => Vec::new(),
    }
}

/// Scales so that the longer side measures `size` pixels (bilinear, antialiased); the shorter side is at least one pixel.
pub fn thumbnail(image: &RgbImage, size: u32) -> RgbImage {
    let (width, height) = (image.width().max(1), image.height().max(1));
    let size = size.max(1);
    let scale = |side: u32, longer: u32| ((u64::from(side) * u64::from(size) + u64::from(longer) / 2) / u64::from(longer)).max(1) as u32;
    let longer = width.max(height);
    imageops::resize(image, scale(width, longer), scale(height, longer), imageops::FilterType::Triangle)
}

//! Encoded images to pixels.

use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader};

use crate::{Error, Result};

/// Reads an image file (PNG, JPEG or WebP, told apart by content), turned upright as its EXIF data says.
///
/// # Errors
/// When the file cannot be read or decoded.
pub fn read_image(path: &Path) -> Result<DynamicImage> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    decode(std::io::BufReader::new(file)).map_err(|reason| Error::ImageDecode { path: Some(path.to_owned()), reason })
}

/// Decodes the bytes of an image file, as [`read_image`].
///
/// # Errors
/// When the bytes cannot be decoded.
pub fn decode_image(bytes: &[u8]) -> Result<DynamicImage> {
    decode(Cursor::new(bytes)).map_err(|reason| Error::ImageDecode { path: None, reason })
}

fn decode(reader: impl BufRead + Seek) -> std::result::Result<DynamicImage, String> {
    let reader = ImageReader::new(reader).with_guessed_format().map_err(|e| e.to_string())?;
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    // Damaged EXIF data does not make the pixels unreadable.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    image.apply_orientation(orientation);
    Ok(image)
}

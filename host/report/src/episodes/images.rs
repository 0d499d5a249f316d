//! The images of shown episodes, small enough for a page.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageReader, Limits};
use serde::Serialize;

use super::pack::base64;
use super::scan::in_parallel;

/// Files up to this size stand in the page as they are.
const SMALL_FILE: usize = 1200;
/// Quality of the JPEG that stands for a larger one.
const QUALITY: u8 = 85;
/// Longest side in pixels, by how many images there are: at most so many, this side.
const SIDES: [(usize, u32); 3] = [(250, 320), (1000, 192), (usize::MAX, 128)];
/// Largest file that is opened.
const LARGEST_FILE: u64 = 64 << 20;
/// Longest side that is decoded.
const LONGEST_SIDE: u32 = 16_384;

/// Width and height of the stored file, and the image in base 64.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Picture(pub u32, pub u32, pub String);

/// What became of an image.
#[derive(Debug)]
pub(super) enum Loaded {
    Shown(Picture),
    Missing,
    Damaged(String),
}

/// Loads the images with these digests, each from the first of `dirs` that holds it.
pub(super) fn load(dirs: &[PathBuf], digests: &[String]) -> Vec<Loaded> {
    let side = SIDES.iter().find(|(most, _)| digests.len() <= *most).map_or(128, |(_, side)| *side);
    in_parallel(digests.len(), |at| load_one(dirs, &digests[at], side))
}

fn load_one(dirs: &[PathBuf], digest: &str, side: u32) -> Loaded {
    // A digest names a file: anything else than hex digits could leave the folder.
    if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Loaded::Damaged(format!("{digest:?} is no digest"));
    }
    let files = dirs.iter().flat_map(|dir| ["png", "jpg", "webp", "bin"].map(|extension| dir.join(format!("{digest}.{extension}"))));
    let Some(path) = files.into_iter().find(|path| path.is_file()) else { return Loaded::Missing };
    match picture(&path, side) {
        Ok(picture) => Loaded::Shown(picture),
        Err(reason) => Loaded::Damaged(format!("{}: {reason}", path.file_name().unwrap_or_default().to_string_lossy())),
    }
}

fn picture(path: &Path, side: u32) -> Result<Picture, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_FILE {
        return Err(format!("{size} bytes, expected at most {LARGEST_FILE}"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|error| error.to_string())?;
    let (width, height) = (decoded.width(), decoded.height());
    let fits = width <= side && height <= side;
    if fits && bytes.len() <= SMALL_FILE {
        return Ok(Picture(width, height, base64(&bytes)));
    }
    let shown = if fits { decoded } else { decoded.thumbnail(side, side) };
    let jpeg = encoded(&shown).map_err(|error| error.to_string())?;
    let smaller = if fits && bytes.len() <= jpeg.len() { &bytes } else { &jpeg };
    Ok(Picture(width, height, base64(smaller)))
}

fn encoded(image: &DynamicImage) -> image::ImageResult<Vec<u8>> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&image.to_rgb8())?;
    Ok(jpeg)
}

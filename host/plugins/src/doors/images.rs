//! The door `images`: encoded images that stay in the host's memory.

use super::CallState;
use crate::bindings::imports::images::{self, Dimensions, ImageError};
use crate::types::ImageBytes;
use sha2::{Digest, Sha256};
use std::io::Cursor;
use wasmtime::component::Resource;

/// Most bytes that one `read` may ask for.
const MAX_READ: u32 = 1 << 20;

/// What a handle of the guest stands for.
#[derive(Debug, Clone)]
pub struct ImageHandle(pub ImageBytes);

/// Width and height from the header of an encoded PNG, JPEG or WebP image; the pixels are not decoded.
///
/// # Errors
/// What the decoder said.
pub(crate) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), String> {
    image::ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?
        .into_dimensions()
        .map_err(|error| error.to_string())
}

impl CallState {
    /// Lends an image to the guest.
    pub fn lend(&mut self, image: &ImageBytes) -> wasmtime::Result<Resource<ImageHandle>> {
        Ok(self.table.push(ImageHandle(image.clone()))?)
    }

    fn image(&self, handle: &Resource<ImageHandle>) -> wasmtime::Result<&ImageBytes> {
        Ok(&self.table.get(handle)?.0)
    }
}

impl images::Host for CallState {}

impl images::HostImage for CallState {
    fn size(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<u64> {
        Ok(self.image(&handle)?.bytes.len() as u64)
    }

    fn media_type(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<String> {
        Ok(self.image(&handle)?.media_type.clone())
    }

    fn digest(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<String> {
        Ok(hex::encode(Sha256::digest(&self.image(&handle)?.bytes)))
    }

    fn dimensions(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<Result<Dimensions, ImageError>> {
        Ok(dimensions(&self.image(&handle)?.bytes).map(|(width, height)| Dimensions { width, height }).map_err(ImageError::Undecodable))
    }

    fn read(&mut self, handle: Resource<ImageHandle>, offset: u64, length: u32) -> wasmtime::Result<Result<Vec<u8>, ImageError>> {
        let bytes = &self.image(&handle)?.bytes;
        if length > MAX_READ {
            return Ok(Err(ImageError::TooLong(MAX_READ)));
        }
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(length as usize)?));
        Ok(range.and_then(|range| bytes.get(range)).map(<[u8]>::to_vec).ok_or(ImageError::OutOfRange(bytes.len() as u64)))
    }

    fn duplicate(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<Resource<ImageHandle>> {
        let image = self.image(&handle)?.clone();
        self.lend(&image)
    }

    fn drop(&mut self, handle: Resource<ImageHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

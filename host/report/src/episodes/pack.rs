//! Packing data into text that stands inside a page.

use std::collections::HashMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use crate::{Error, Result};

/// JSON, compressed (zlib), in base 64: what the page's `DecompressionStream("deflate")` reads.
pub(super) fn packed(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(value)?;
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(json.len() / 4), Compression::new(6));
    encoder.write_all(&json).map_err(Error::Compress)?;
    Ok(base64(&encoder.finish().map_err(Error::Compress)?))
}

/// Base 64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A table of strings: each is stored once and told by its number.
#[derive(Debug, Default)]
pub struct Strings {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Strings {
    /// The number of `text`.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        number
    }

    /// The texts by number.
    pub fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

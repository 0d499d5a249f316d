//! What the tokens of a run look like: the vocabulary of the `tokenizer.json` beside its checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
    #[serde(default)]
    decoder: serde_json::Value,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// The text of each token, by id.
#[derive(Debug, Default)]
pub(crate) struct Pieces(BTreeMap<u32, String>);

impl Pieces {
    /// Reads a `tokenizer.json`.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file: TokenizerFile = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let byte_level = file.decoder.to_string().contains("ByteLevel");
        let bytes_of = byte_alphabet();
        let piece = |text: String| if byte_level { decoded(&text, &bytes_of) } else { text.replace('▁', " ") };
        let mut pieces: BTreeMap<u32, String> = file.model.vocab.into_iter().map(|(text, id)| (id, piece(text))).collect();
        pieces.extend(file.added_tokens.into_iter().map(|token| (token.id, token.content)));
        Ok(Self(pieces))
    }

    /// The text of a token, if the vocabulary has it.
    pub fn get(&self, id: u32) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }
}

/// The characters that byte-level BPE writes for bytes: printable ones for themselves, the others from U+0100 on (GPT-2).
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            let written = if printable(byte) {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or('\u{FFFD}')
            };
            (written, byte)
        })
        .collect()
}

/// The text of a byte-level piece; bytes that are no character by themselves are written as `\xE2`.
fn decoded(piece: &str, bytes_of: &HashMap<char, u8>) -> String {
    let Some(bytes) = piece.chars().map(|c| bytes_of.get(&c).copied()).collect::<Option<Vec<u8>>>() else { return piece.to_owned() };
    let escaped = |chunk: std::str::Utf8Chunk| {
        let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")).collect();
        chunk.valid().to_owned() + &invalid
    };
    bytes.utf8_chunks().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_pieces_are_decoded() {
        let bytes_of = byte_alphabet();
        assert_eq!(bytes_of.len(), 256);
        assert_eq!(decoded("Ġcapital", &bytes_of), " capital");
        assert_eq!(decoded("Ċ", &bytes_of), "\n");
        assert_eq!(decoded("Ã©", &bytes_of), "é");
        assert_eq!(decoded("Ã", &bytes_of), "\\xC3");
    }
}

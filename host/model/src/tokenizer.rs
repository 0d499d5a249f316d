//! Byte-level BPE: reading, training, encoding with and without control tokens.

use std::path::Path;
use std::sync::Arc;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{AddedToken, AddedVocabulary};

use crate::{Error, Result};

/// Tokens that every tokenizer trained here has, control tokens of the chat format and of images.
pub const CONTROL_TOKENS: [&str; 7] =
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"];

/// Byte-level BPE tokenizer of a Hugging Face folder. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    full: tokenizers::Tokenizer,
    /// The same without added tokens: nothing in a text is special to it.
    plain: tokenizers::Tokenizer,
    /// Contents of all added tokens, none of them empty.
    added: Vec<String>,
    /// The tokenizer.json that this was read from or will be written as.
    json: String,
}

/// A stretch of text as the tokenizer divides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// An added token.
    Token(u32),
    /// Text without added tokens.
    Plain(&'a str),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let json = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::from_json(json).map_err(|reason| Error::Tokenizer { path: Some(path.to_owned()), reason })
    }

    fn from_json(json: String) -> std::result::Result<Self, String> {
        let mut full = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| e.to_string())?;
        // A stored truncation or padding would change what a conversation says.
        full.with_truncation(None).map_err(|e| e.to_string())?;
        full.with_padding(None);
        let mut plain = full.clone();
        plain.with_added_vocabulary(AddedVocabulary::new());
        let added = full.get_added_tokens_decoder().into_values().map(|token| token.content).filter(|content| !content.is_empty());
        let mut added: Vec<String> = added.collect();
        added.sort();
        Ok(Self { inner: Arc::new(Inner { plain, added, json, full }) })
    }

    /// Trains byte-level BPE on `texts`, to at most `vocab_size` tokens in all: 256 bytes, merges, [`CONTROL_TOKENS`] and
    /// `added_tokens` (tags of a protocol that are to be single tokens; decoding keeps them as text).
    ///
    /// The same texts in the same order give the same tokenizer.
    ///
    /// # Errors
    /// When `vocab_size` has no room for the bytes and the named tokens, or training fails.
    pub fn train<S: AsRef<str> + Send>(texts: impl Iterator<Item = S> + Send, vocab_size: usize, added_tokens: &[&str]) -> Result<Self> {
        let fail = |reason: String| Error::Tokenizer { path: None, reason };
        let library = |e: tokenizers::Error| fail(e.to_string());
        let named = CONTROL_TOKENS.len() + added_tokens.len();
        let least = 256 + named;
        if vocab_size < least {
            return Err(fail(format!("vocab_size {vocab_size}, expected at least {least}: 256 bytes and {named} named tokens")));
        }
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        tokenizer.with_normalizer(Some(tokenizers::normalizers::unicode::NFC)).map_err(library)?;
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, false, true)));
        let mut trainer = tokenizers::models::TrainerWrapper::BpeTrainer(
            BpeTrainer::builder()
                .vocab_size(vocab_size - named)
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .show_progress(false)
                .build(),
        );
        tokenizer.train(&mut trainer, texts).map_err(library)?;
        let control = CONTROL_TOKENS.iter().map(|token| AddedToken::from(*token, true).normalized(false));
        tokenizer.add_special_tokens(control).map_err(library)?;
        let tags = added_tokens.iter().map(|token| AddedToken::from(*token, false).normalized(false));
        tokenizer.add_tokens(tags).map_err(library)?;
        Self::from_json(tokenizer.to_string(true).map_err(library)?).map_err(fail)
    }

    /// The `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.inner.json
    }

    /// Tokens in all, added ones included: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        let largest = self.inner.full.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// Encodes text in which special and added tokens are recognised.
    ///
    /// # Errors
    /// When the tokenizer refuses the text; a byte-level one never does.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.inner.full, text)
    }

    /// Encodes text in which nothing is special: `<|im_end|>` or `<reason>` inside it stay plain characters.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.inner.plain, text)
    }

    /// Decodes ids, special tokens included as text. Ids without a token (embedding tables are often padded beyond the
    /// vocabulary) decode to nothing, as in transformers.
    ///
    /// # Errors
    /// When the decoder refuses the tokens; a byte-level one never does.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.full.decode(ids, false).map_err(|e| Error::Tokenizer { path: None, reason: e.to_string() })
    }

    /// Id of a token that stands for itself.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.full.token_to_id(token)
    }

    /// The text of all added tokens.
    pub(crate) fn added_tokens(&self) -> &[String] {
        &self.inner.added
    }

    /// Divides text at the added tokens in it, as [`Tokenizer::encode`] does.
    pub(crate) fn pieces<'a>(&self, text: &'a str) -> Vec<Piece<'a>> {
        let split = self.inner.full.get_added_vocabulary().extract_and_normalize(None::<&NormalizerWrapper>, text);
        let mut pieces = Vec::new();
        for (_, (start, end), tokens) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match tokens {
                Some(tokens) => pieces.extend(tokens.iter().map(|token| Piece::Token(token.id))),
                None => pieces.push(Piece::Plain(&text[start..end])),
            }
        }
        pieces
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    match tokenizer.encode_fast(text, false) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(e) => Err(Error::Tokenizer { path: None, reason: e.to_string() }),
    }
}

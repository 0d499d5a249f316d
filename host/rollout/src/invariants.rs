//! What must hold of every finished episode, whatever the policy and the tools did.

use crate::{Episode, Error, Result};
use mmhost_model::Processor;

/// A property of the record that does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Violation {
    /// `mask` and `tokens` differ in length.
    #[error("the mask has {found} entries for {expected} tokens")]
    MaskLength {
        /// Entries of the mask.
        found: usize,
        /// Tokens.
        expected: usize,
    },
    /// The mask marks other tokens than those that the engine sampled.
    #[error("the mask says of token {index} that it was {}sampled, but it was {}sampled", not(*.masked), not(!*.masked))]
    MaskCoverage {
        /// The token.
        index: usize,
        /// What the mask says.
        masked: bool,
    },
    /// A log-probability is missing, or one too many.
    #[error("{found} log-probabilities for {expected} sampled tokens")]
    LogprobCount {
        /// Log-probabilities.
        found: usize,
        /// Sampled tokens.
        expected: usize,
    },
    /// A log-probability is not a number at or below zero.
    #[error("log-probability {index} is {value}; it must be finite and at most 0")]
    LogprobValue {
        /// Which sampled token.
        index: usize,
        /// What the engine gave.
        value: f32,
    },
    /// Tokens that the engine had already read were changed afterwards.
    #[error("the first {prefix} tokens, which the engine had read, were changed afterwards")]
    PrefixChanged {
        /// Length of the prefix that the engine had read.
        prefix: usize,
    },
    /// Image placeholders and image features differ in number.
    #[error("{found} image tokens for {expected} image features")]
    ImageTokens {
        /// Image placeholder tokens.
        found: usize,
        /// Features that the images will give.
        expected: usize,
    },
    /// Images of the context are not at hand.
    #[error("{found} images at hand for {expected} in the context; attach the stored images first")]
    ImagesMissing {
        /// Images at hand.
        found: usize,
        /// Images that the record names.
        expected: usize,
    },
    /// A turn's span does not lie behind the one before it and within the tokens.
    #[error("turn {turn} spans tokens {start}..{end} of {tokens}, out of order or out of range")]
    TurnSpan {
        /// The turn, from 0.
        turn: usize,
        /// First token.
        start: usize,
        /// One past the last.
        end: usize,
        /// Tokens in all.
        tokens: usize,
    },
}

fn not(value: bool) -> &'static str {
    if value { "" } else { "not " }
}

/// What was handed to the engine, noted while the episode grew and compared with the record at its end.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Length and running hash of the tokens at each hand-over.
    prefixes: Vec<(usize, u64)>,
    hashed: usize,
    hash: u64,
    /// Spans that the engine sampled, in order.
    sampled: Vec<std::ops::Range<usize>>,
}

impl Witness {
    /// The engine now reads `tokens`.
    pub(crate) fn handed_over(&mut self, tokens: &[u32]) {
        self.hash = tokens[self.hashed.min(tokens.len())..].iter().fold(self.hash, |hash, token| absorb(hash, *token));
        self.hashed = tokens.len();
        self.prefixes.push((tokens.len(), self.hash));
    }

    /// The engine sampled `span`.
    pub(crate) fn sampled(&mut self, span: std::ops::Range<usize>) {
        self.sampled.push(span);
    }

    /// Compares the record with what was noted.
    ///
    /// # Errors
    /// [`Error::Invariant`] with the first violation and the episode.
    pub(crate) fn check(&self, episode: Episode, processor: &Processor) -> Result<Episode> {
        match self.violation(&episode, processor) {
            None => Ok(episode),
            Some(violation) => Err(Error::Invariant { violation, episode: Box::new(episode) }),
        }
    }

    fn violation(&self, episode: &Episode, processor: &Processor) -> Option<Violation> {
        let tokens = &episode.tokens;
        if episode.mask.len() != tokens.len() {
            return Some(Violation::MaskLength { found: episode.mask.len(), expected: tokens.len() });
        }

        // Prefixes: what the engine read at each hand-over is still what stands in the record.
        let (mut hash, mut hashed) = (0, 0);
        for (prefix, noted) in &self.prefixes {
            let stretch = tokens.get(hashed..*prefix);
            hash = stretch.unwrap_or(&[]).iter().fold(hash, |hash, token| absorb(hash, *token));
            hashed = *prefix;
            if stretch.is_none() || hash != *noted {
                return Some(Violation::PrefixChanged { prefix: *prefix });
            }
        }

        // Mask: true exactly inside the sampled spans.
        let mut expected = vec![false; tokens.len()];
        for span in &self.sampled {
            match expected.get_mut(span.clone()) {
                Some(sampled) => sampled.fill(true),
                None => return Some(Violation::PrefixChanged { prefix: span.end }),
            }
        }
        if let Some(index) = (0..tokens.len()).find(|i| expected[*i] != episode.mask[*i]) {
            return Some(Violation::MaskCoverage { index, masked: episode.mask[index] });
        }

        let num_sampled = episode.num_sampled();
        if episode.logprobs.len() != num_sampled {
            return Some(Violation::LogprobCount { found: episode.logprobs.len(), expected: num_sampled });
        }
        // A probability of one may come out a rounding error above zero.
        let bad = |value: &f32| !value.is_finite() || *value > 1e-4;
        if let Some(index) = episode.logprobs.iter().position(bad) {
            return Some(Violation::LogprobValue { index, value: episode.logprobs[index] });
        }

        let mut behind = 0;
        for (turn, record) in episode.turns.iter().enumerate() {
            if record.start < behind || record.end < record.start || record.end > tokens.len() {
                return Some(Violation::TurnSpan { turn, start: record.start, end: record.end, tokens: tokens.len() });
            }
            behind = record.end;
        }
        image_violation(episode, processor)
    }
}

/// Image placeholders against image features.
pub(crate) fn image_violation(episode: &Episode, processor: &Processor) -> Option<Violation> {
    if episode.images.len() != episode.image_digests.len() {
        return Some(Violation::ImagesMissing { found: episode.images.len(), expected: episode.image_digests.len() });
    }
    let pad = processor.tokenizer.token_id(crate::protocol::IMAGE_PAD);
    let found = episode.tokens.iter().filter(|id| Some(**id) == pad).count();
    let expected = episode.images.iter().map(|image| image.num_tokens(processor.image_processor().merge_size as u32)).sum();
    (found != expected).then_some(Violation::ImageTokens { found, expected })
}

/// FNV-1a over the bytes of a token id.
fn absorb(hash: u64, token: u32) -> u64 {
    token
        .to_le_bytes()
        .iter()
        .fold(hash ^ 0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

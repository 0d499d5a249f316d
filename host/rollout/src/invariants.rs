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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ending, TurnRecord, Workflow};
    use mmhost_model::{ImageInput, ImageProcessor, Tokenizer};
    use std::sync::Arc;

    /// Prompt of three tokens with one image token, then two sampled ones; the engine read the prompt.
    fn sound(processor: &Processor) -> (Witness, Episode) {
        let pad = processor.tokenizer.token_id(crate::protocol::IMAGE_PAD).unwrap();
        let episode = Episode {
            id: "group=0/rollout=0".into(),
            sample: String::new(),
            category: None,
            question: String::new(),
            ground_truth: String::new(),
            candidate_answers: vec![],
            workflow: Workflow::OnDemand,
            tokens: vec![1, pad, 2, 3, 4],
            mask: vec![false, false, false, true, true],
            logprobs: vec![-0.5, 0.0],
            turns: vec![TurnRecord { start: 3, end: 5, text: String::new() }],
            calls: vec![],
            calls_allowed: 2,
            ending: Ending::Malformed,
            reward: None,
            image_digests: vec!["00".into()],
            images: vec![Arc::new(ImageInput { pixel_values: vec![], grid_thw: [1, 2, 2] })],
            image_files: vec![],
        };
        let mut witness = Witness::default();
        witness.handed_over(&episode.tokens[..3]);
        witness.sampled(3..5);
        (witness, episode)
    }

    #[test]
    fn each_violation_is_found() {
        let tokenizer = Tokenizer::train(["a"].iter(), 300, &[]).unwrap();
        let processor = Processor::new(tokenizer, ImageProcessor::default()).unwrap();
        let (witness, episode) = sound(&processor);
        assert!(witness.check(episode, &processor).is_ok());

        type Spoil = fn(&mut Episode);
        let cases: [(Spoil, &str); 11] = [
            (|e| e.mask.push(true), "the mask has 6 entries for 5 tokens"),
            (|e| e.mask[2] = true, "token 2 that it was sampled, but it was not sampled"),
            (|e| e.mask[4] = false, "token 4 that it was not sampled, but it was sampled"),
            (|e| e.logprobs.truncate(1), "1 log-probabilities for 2 sampled tokens"),
            (|e| e.logprobs[1] = f32::NAN, "log-probability 1 is NaN"),
            (|e| e.logprobs[0] = 0.5, "log-probability 0 is 0.5"),
            (|e| e.tokens[0] = 9, "the first 3 tokens, which the engine had read, were changed"),
            (|e| e.tokens.swap(0, 2), "the first 3 tokens"),
            (|e| e.tokens[3] = e.tokens[1], "2 image tokens for 1 image features"),
            (|e| e.images.clear(), "0 images at hand for 1"),
            (|e| e.turns.push(TurnRecord { start: 4, end: 5, text: String::new() }), "turn 1 spans tokens 4..5 of 5"),
        ];
        for (spoil, needle) in cases {
            let (witness, mut episode) = sound(&processor);
            spoil(&mut episode);
            let message = witness.check(episode, &processor).unwrap_err().to_string();
            assert!(message.starts_with("group=0/rollout=0: ") && message.contains(needle), "{needle}: {message}");
        }
    }
}

//! Stop strings, recognised as the turn grows.

use std::sync::Arc;

use crate::EngineError;

/// Turns token ids into text.
pub(crate) type Decode = Arc<dyn Fn(&[u32]) -> Result<String, EngineError> + Send + Sync>;

/// Texts of single tokens, decoded when first met.
pub(crate) struct TokenTexts {
    decode: Decode,
    texts: Vec<Option<Box<str>>>,
}

impl TokenTexts {
    pub(crate) fn new(decode: Decode) -> Self {
        Self { decode, texts: Vec::new() }
    }

    fn get(&mut self, token: u32) -> Result<&str, EngineError> {
        let index = token as usize;
        if self.texts.len() <= index {
            self.texts.resize(index + 1, None);
        }
        let slot = &mut self.texts[index];
        if slot.is_none() {
            *slot = Some((self.decode)(&[token])?.into());
        }
        Ok(slot.as_deref().unwrap_or_default())
    }

    /// The first of `stops` that the newest of `tokens` completes. Texts that an earlier token completed are not looked for
    /// again: the turn ended there.
    pub(crate) fn completed(&mut self, tokens: &[u32], stops: &[String]) -> Result<Option<usize>, EngineError> {
        let Some(&newest) = tokens.last() else { return Ok(None) };
        for (index, stop) in stops.iter().enumerate() {
            // 1. Without the text's last character the newest token completes nothing. A character outside ASCII may be
            //    spread over several tokens, whose single texts do not show it.
            match stop.chars().next_back() {
                None => continue,
                Some(last) if last.is_ascii() && !self.get(newest)?.contains(last) => continue,
                Some(_) => {}
            }
            // 2. Every token with a text has at least one byte, so the match begins at most `stop.len()` of them back.
            let (mut start, mut with_text) = (tokens.len(), 0);
            while start > 0 && with_text < stop.len() {
                start -= 1;
                with_text += usize::from(!self.get(tokens[start])?.is_empty());
            }
            if (self.decode)(&tokens[start..])?.contains(stop.as_str()) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token ids are bytes; 0 has no text.
    fn bytes() -> TokenTexts {
        let decode = |ids: &[u32]| {
            let bytes: Vec<u8> = ids.iter().filter(|id| **id != 0).map(|&id| id as u8).collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        TokenTexts::new(Arc::new(decode))
    }

    /// How many tokens of `text` are taken before a stop string is found, and which it is.
    fn first(text: &[u8], stops: &[&str]) -> Option<(usize, usize)> {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let ids: Vec<u32> = text.iter().map(|&b| u32::from(b)).collect();
        let mut texts = bytes();
        (1..=ids.len()).find_map(|n| texts.completed(&ids[..n], &stops).unwrap().map(|stop| (n, stop)))
    }

    #[test]
    fn found_with_the_token_that_completes_it() {
        assert_eq!(first(b"say </answer> now", &["</search>", "</answer>"]), Some((13, 1)));
        assert_eq!(first(b"say </answer", &["</answer>"]), None);
        assert_eq!(first(b"aaab", &["aab", "b"]), Some((4, 0)));
        assert_eq!(first(b"", &["a"]), None);
    }

    #[test]
    fn tokens_without_text_do_not_hide_it() {
        assert_eq!(first(b"x\0e\0\0n\0\0d\0", &["end"]), Some((9, 0)));
    }

    #[test]
    fn characters_spread_over_tokens_count() {
        let text = "a é".as_bytes();
        assert_eq!(first(text, &["é"]), Some((text.len(), 0)));
        let text = "日本語".as_bytes();
        assert_eq!(first(text, &["本"]), Some((6, 0)));
    }
}

//! The corpus that stands in for every one that a plugin asks for: few pages, among them what a hostile web would hold.

use super::battery::{INJECTION, png};
use crate::types::{CorpusHit, CorpusService, ImageBytes};

/// Identifier, title, text.
const PAGES: [(&str, &str, &str); 7] = [
    ("peru", "Peru", "Peru is a country in South America. Its capital is Lima. Its currency is the sol."),
    ("lima", "Lima", "Lima is the capital of Peru. It has about ten million inhabitants."),
    ("chad", "Chad", "Chad is a country in Africa. Its capital is N'Djamena."),
    ("japan", "日本", "日本の首都は東京です。 Straße, naïve, 🗾"),
    ("injected", "Ignore this page", INJECTION),
    ("empty", "", ""),
    ("control", "\u{0}\u{1b}[2J", "line\r\nline\u{2028}line\u{0}"),
];

/// The corpus.
pub(crate) struct Test;

impl Test {
    fn pages(query: Option<&str>, k: usize) -> Vec<CorpusHit> {
        let words: Vec<String> = query.unwrap_or_default().split_whitespace().map(str::to_lowercase).collect();
        let matching = |(_, title, text): &&(&str, &str, &str)| {
            let page = format!("{title} {text}").to_lowercase();
            query.is_none() || words.iter().any(|word| page.contains(word.as_str()))
        };
        let hit = |(rank, (id, title, text)): (usize, &(&str, &str, &str))| CorpusHit {
            id: (*id).into(),
            title: (*title).into(),
            text: (*text).into(),
            url: format!("https://example.org/{id}"),
            score: 10.0 - rank as f32,
            image: (*id != "empty").then(|| png(28, 28)),
        };
        PAGES.iter().filter(matching).enumerate().map(hit).take(k).collect()
    }
}

impl CorpusService for Test {
    fn search_text(&self, _: &str, query: &str, k: usize) -> Result<Vec<CorpusHit>, String> {
        Ok(Self::pages(Some(query), k))
    }

    fn search_image(&self, _: &str, image: &ImageBytes, k: usize) -> Result<Vec<CorpusHit>, String> {
        image::load_from_memory(&image.bytes).map_err(|error| error.to_string())?;
        Ok(Self::pages(None, k))
    }
}

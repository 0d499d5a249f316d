//! The options that both rewards share.

use std::collections::BTreeMap;

/// Options of the rewards. The defaults are those of MMSearch-R1.
#[derive(Debug, Clone, PartialEq, miniserde::Deserialize)]
pub struct Options {
    /// Weight of the format term, α, 0 to 1.
    pub alpha: f64,
    /// What a search costs a correct answer, 0 to 1: its accuracy is multiplied with `1 - search_penalty`.
    pub search_penalty: f64,
    /// Whether the penalty is applied once for each search (else once if there was any).
    pub penalty_per_search: bool,
    /// How [`mmsearch`](crate::mmsearch) compares an answer with the truth; `None` means exactly.
    #[serde(rename = "match")]
    pub match_mode: Option<MatchMode>,
    /// The legal sequences of endings, each as names separated by spaces, e.g. `image text answer`.
    pub legal_sequences: Vec<String>,
    /// The tag that encloses a turn's reasoning.
    pub reason_tag: String,
    /// The tag that encloses the answer; its ending is called `answer`.
    pub answer_tag: String,
    /// Searches that are called by an exact text: name of the ending to the text.
    pub literals: BTreeMap<String, String>,
    /// Searches that are called by a tag with an argument: name of the ending to the tag.
    pub tags: BTreeMap<String, String>,
}

/// How an answer is compared with the truth, after normalising both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, miniserde::Deserialize)]
pub enum MatchMode {
    /// They are equal.
    #[serde(rename = "exact")]
    Exact,
    /// The truth occurs in the answer.
    #[serde(rename = "substring")]
    Substring,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            alpha: 0.1,
            search_penalty: 0.1,
            penalty_per_search: false,
            match_mode: None,
            legal_sequences: ["answer", "image answer", "text answer", "image text answer"].map(String::from).into(),
            reason_tag: "reason".into(),
            answer_tag: "answer".into(),
            literals: [("image".into(), "<search><img></search>".into())].into(),
            tags: [("text".into(), "text_search".into())].into(),
        }
    }
}

/// An option with an unusable value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOption {
    /// Name of the option.
    pub field: &'static str,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Options {
    /// Checks every value, so that scoring cannot fail later.
    ///
    /// # Errors
    /// The first option with an unusable value.
    pub fn check(&self) -> Result<(), BadOption> {
        let bad = |field, found: &str, expected| Err(BadOption { field, found: found.into(), expected });
        for (field, value) in [("alpha", self.alpha), ("search_penalty", self.search_penalty)] {
            if !(0.0..=1.0).contains(&value) {
                return bad(field, &thousandths(value), "a number from 0 to 1");
            }
        }
        let is_tag = |tag: &str| !tag.is_empty() && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let tags = [("reason_tag", &self.reason_tag), ("answer_tag", &self.answer_tag)]
            .into_iter()
            .chain(self.tags.values().map(|tag| ("tags", tag)));
        let mut seen = Vec::new();
        for (field, tag) in tags {
            if !is_tag(tag) {
                return bad(field, tag, "a tag's name: letters, digits, `_` and `-`");
            }
            if seen.contains(&tag) {
                return bad(field, tag, "a tag that nothing else uses");
            }
            seen.push(tag);
        }
        if let Some(literal) = self.literals.values().find(|literal| literal.trim().is_empty()) {
            return bad("literals", literal, "a text that is not blank");
        }
        let names = || self.literals.keys().chain(self.tags.keys());
        for name in names() {
            if name == "answer" || name.is_empty() || name.contains(char::is_whitespace) {
                return bad("tags", name, "a name of one word other than `answer`");
            }
            if names().filter(|other| *other == name).count() > 1 {
                return bad("tags", name, "a name that `literals` does not use");
            }
        }
        for sequence in &self.legal_sequences {
            let known = |name: &str| name == "answer" || names().any(|other| other == name);
            if sequence.trim().is_empty() || !sequence.split_whitespace().all(known) {
                let expected = "names of endings (`answer` and the keys of `literals` and `tags`) separated by spaces";
                return bad("legal_sequences", sequence, expected);
            }
        }
        Ok(())
    }

    /// What a correct answer is multiplied with after so many searches, 0 to 1.
    pub fn penalty_factor(&self, searches: usize) -> f64 {
        match (searches, self.penalty_per_search) {
            (0, _) => 1.0,
            (_, false) => 1.0 - self.search_penalty,
            (n, true) => (1.0 - self.search_penalty).powi(n.min(10_000) as i32),
        }
    }
}

/// A number to three decimals. Formatting floats properly would add a quarter to the size of a component, for a message.
fn thousandths(value: f64) -> String {
    let rounded = (value * 1000.0).round();
    // The cast is saturating, and 0 for NaN.
    let (sign, whole) = (if value < 0.0 { "-" } else { "" }, rounded.abs() as u64);
    format!("{sign}{}.{:03}", whole / 1000, whole % 1000)
}

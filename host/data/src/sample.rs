//! One question with its images and truth.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use mmhost_corpus::{ImageProblem, decode_image, read_image_file};

use crate::error::{Error, Result};

/// One question with its images, truth, candidates and source (FVQA schema).
#[derive(Debug, Clone)]
pub struct Sample {
    /// `data_id`, or the row number.
    pub id: String,
    /// The question, image placeholders removed.
    pub question: String,
    /// Encoded images.
    pub images: Vec<SampleImage>,
    /// Reference answer; empty when the data set has none.
    pub ground_truth: String,
    /// Other accepted answers.
    pub candidate_answers: Vec<String>,
    /// Where the sample comes from.
    pub data_source: String,
    /// Question class: `search_free`, `image_required`, `text_required`, `both_required`, or a data set's own category.
    pub category: Option<String>,
    /// Links of the images.
    pub image_urls: Vec<String>,
    /// Tags given by filters.
    pub tags: Vec<String>,
}

/// An encoded image of a sample.
#[derive(Debug, Clone)]
pub struct SampleImage {
    /// File bytes.
    pub bytes: Arc<[u8]>,
    /// Original path, if known.
    pub path: Option<String>,
}

impl Sample {
    /// Decodes the images, in order.
    ///
    /// # Errors
    /// The first image that cannot be decoded, named by sample and position.
    pub fn decode_images(&self) -> Result<Vec<RgbImage>> {
        self.images
            .iter()
            .enumerate()
            .map(|(index, image)| decode_image(&image.bytes).map_err(|problem| Error::Image { sample: self.id.clone(), index, problem }))
            .collect()
    }
}

/// A question without the placeholders that data sets put where the images go.
pub(crate) fn without_placeholders(content: &str) -> String {
    const PLACEHOLDERS: [&str; 3] = ["<image>", "<|vision_start|><|image_pad|><|vision_end|>", "<img>"];
    let mut text = content.to_owned();
    for placeholder in PLACEHOLDERS {
        text = text.replace(placeholder, "");
    }
    text.trim().to_owned()
}

/// The question in a conversation: what its user messages say.
pub(crate) fn question_of<'a>(messages: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let asked: Vec<String> =
        messages.filter(|(role, _)| *role == "user").map(|(_, content)| without_placeholders(content)).filter(|q| !q.is_empty()).collect();
    (!asked.is_empty()).then(|| asked.join("\n"))
}

/// `candidate_answers` as data sets write it: a JSON list as a string.
pub(crate) fn parse_candidates(text: &str) -> std::result::Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text)
        .map_err(|e| format!("expected a JSON list of strings as a string, such as `[\"Paris\"]`; found `{}` ({e})", shortened(text)))?;
    values.into_iter().map(candidate).collect()
}

/// One candidate answer: a string, or a number taken as text.
pub(crate) fn candidate(value: serde_json::Value) -> std::result::Result<String, String> {
    match value {
        serde_json::Value::String(s) => Ok(s),
        serde_json::Value::Number(n) => Ok(n.to_string()),
        other => Err(format!("expected strings in the list of candidate answers, found `{}`", shortened(&other.to_string()))),
    }
}

/// A value as messages quote it.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// An image that is given by path only: read from beside the data set.
pub(crate) fn read_beside(data_set: &Path, name: &str) -> std::result::Result<Arc<[u8]>, ImageProblem> {
    read_image_file(&data_set.parent().unwrap_or(Path::new(".")).join(name))
}

//! What a data set holds.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use mmhost_corpus::{decode_image, media_type};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::sample::Sample;
use crate::{extension, parquet_read, read};

/// Smallest, mean and largest value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut n, mut sum, mut min, mut max) = (0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            n += 1;
            sum += v;
            min = f64::min(min, v);
            max = f64::max(max, v);
        }
        (n > 0).then(|| Self { min, mean: sum / n as f64, max })
    }
}

/// The images of a data set.
#[derive(Debug, Clone, Serialize)]
pub struct ImageSummary {
    /// Images in all.
    pub count: usize,
    /// Encoded size in all, bytes.
    pub bytes: u64,
    /// Images by media type.
    pub formats: BTreeMap<String, usize>,
    /// Width in pixels, of the images that decode.
    pub width: Option<Range>,
    /// Height in pixels, of the images that decode.
    pub height: Option<Range>,
    /// Images that do not decode: sample, position and reason.
    pub undecodable: Vec<String>,
}

/// Summary of a data set, for people ([`fmt::Display`]) and programs (serde).
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub file_bytes: u64,
    /// Samples.
    pub rows: usize,
    /// Columns with their types, in order (the fields that occur, for JSONL).
    pub columns: Vec<(String, String)>,
    /// The images.
    pub images: ImageSummary,
    /// Samples without any image.
    pub without_image: usize,
    /// Samples whose ground truth is empty.
    pub without_answer: usize,
    /// Different ground truths.
    pub distinct_answers: usize,
    /// Candidate answers per sample.
    pub candidates: Option<Range>,
    /// Length of a question, characters.
    pub question_chars: Option<Range>,
    /// Samples by category; `(none)` for those without.
    pub categories: BTreeMap<String, usize>,
    /// Samples by source.
    pub sources: BTreeMap<String, usize>,
    /// Ids that more than one sample bears.
    pub duplicate_ids: Vec<String>,
    /// Pairs of samples with the same question and images: the first one's id and the later one's.
    pub duplicates: Vec<(String, String)>,
    /// The first question with its answer.
    pub example: Option<(String, String)>,
}

/// Reads a data set and summarises it; decodes every image.
///
/// # Errors
/// As [`crate::read`]; undecodable images are listed, not errors.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let samples = read(path)?;
    let columns = match extension(path).as_str() {
        "parquet" => parquet_read::schema(path)?.fields().iter().map(|f| (f.name().clone(), plain_type(f.data_type()))).collect(),
        _ => json_columns(path)?,
    };
    let file_bytes = std::fs::metadata(path).map_err(crate::Error::io("read", path))?.len();
    Ok(summarise(path, file_bytes, columns, &samples))
}

/// A column's type in short, e.g. `list<struct{bytes: binary, path: string}>`.
fn plain_type(data_type: &arrow_schema::DataType) -> String {
    use arrow_schema::DataType;
    match data_type {
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Null => "null".into(),
        DataType::List(element) => format!("list<{}>", plain_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), plain_type(f.data_type()))).collect();
            format!("struct{{{}}}", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// Fields that occur in a JSONL file with the JSON types seen.
fn json_columns(path: &Path) -> Result<Vec<(String, String)>> {
    let bytes = std::fs::read(path).map_err(crate::Error::io("read", path))?;
    let mut seen: Vec<(String, Vec<&'static str>)> = Vec::new();
    for line in bytes.split(|&b| b == b'\n') {
        // `read` has parsed every line before; empty ones remain.
        let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) else { continue };
        for (name, value) in object {
            let kind = match value {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "boolean",
                serde_json::Value::Number(_) => "number",
                serde_json::Value::String(_) => "string",
                serde_json::Value::Array(_) => "list",
                serde_json::Value::Object(_) => "object",
            };
            let position = seen.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
                seen.push((name, Vec::new()));
                seen.len() - 1
            });
            if !seen[position].1.contains(&kind) {
                seen[position].1.push(kind);
            }
        }
    }
    Ok(seen.into_iter().map(|(name, kinds)| (name, kinds.join(" or "))).collect())
}

fn summarise(path: &Path, file_bytes: u64, columns: Vec<(String, String)>, samples: &[Sample]) -> Inspection {
    let mut formats = BTreeMap::new();
    let mut undecodable = Vec::new();
    let mut sizes = Vec::new();
    let mut bytes = 0;
    let (mut first_by_content, mut duplicates) = (HashMap::new(), Vec::new());
    let (mut by_id, mut duplicate_ids) = (HashMap::new(), Vec::new());
    let (mut categories, mut sources) = (BTreeMap::new(), BTreeMap::new());
    for sample in samples {
        let mut digest = Sha256::new();
        digest.update(sample.question.as_bytes());
        for (i, image) in sample.images.iter().enumerate() {
            bytes += image.bytes.len() as u64;
            *formats.entry(media_type(&image.bytes).to_owned()).or_insert(0) += 1;
            match decode_image(&image.bytes) {
                Ok(decoded) => sizes.push(decoded.dimensions()),
                Err(problem) => undecodable.push(format!("sample `{}`, image {i}: {problem}", sample.id)),
            }
            digest.update(Sha256::digest(&image.bytes));
        }
        match first_by_content.entry(digest.finalize()) {
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(&sample.id)),
            std::collections::hash_map::Entry::Occupied(first) => duplicates.push(((*first.get()).clone(), sample.id.clone())),
        }
        let occurrences = by_id.entry(sample.id.as_str()).or_insert(0);
        *occurrences += 1;
        if *occurrences == 2 {
            duplicate_ids.push(sample.id.clone());
        }
        *categories.entry(sample.category.clone().unwrap_or_else(|| "(none)".into())).or_insert(0) += 1;
        *sources.entry(sample.data_source.clone()).or_insert(0) += 1;
    }
    let answers: std::collections::HashSet<&str> = samples.iter().map(|s| s.ground_truth.as_str()).collect();
    Inspection {
        path: path.to_owned(),
        file_bytes,
        rows: samples.len(),
        columns,
        images: ImageSummary {
            count: samples.iter().map(|s| s.images.len()).sum(),
            bytes,
            formats,
            width: Range::of(sizes.iter().map(|s| f64::from(s.0))),
            height: Range::of(sizes.iter().map(|s| f64::from(s.1))),
            undecodable,
        },
        without_image: samples.iter().filter(|s| s.images.is_empty()).count(),
        without_answer: samples.iter().filter(|s| s.ground_truth.trim().is_empty()).count(),
        distinct_answers: answers.len(),
        candidates: Range::of(samples.iter().map(|s| s.candidate_answers.len() as f64)),
        question_chars: Range::of(samples.iter().map(|s| s.question.chars().count() as f64)),
        categories,
        sources,
        duplicate_ids,
        duplicates,
        example: samples.first().map(|s| (s.question.clone(), s.ground_truth.clone())),
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<12}{value}");
        let range = |r: &Option<Range>| r.map_or("none".into(), |r| format!("{} to {}, mean {:.1}", r.min, r.max, r.mean));
        let counts = |c: &BTreeMap<String, usize>| c.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ");
        line(f, "file", &format!("{} ({} bytes)", self.path.display(), self.file_bytes))?;
        line(f, "rows", &self.rows)?;
        for (i, (name, kind)) in self.columns.iter().enumerate() {
            line(f, if i == 0 { "columns" } else { "" }, &format!("{name}: {kind}"))?;
        }
        line(f, "images", &format!("{} in {} bytes; {}", self.images.count, self.images.bytes, counts(&self.images.formats)))?;
        line(f, "", &format!("width {} px; height {} px", range(&self.images.width), range(&self.images.height)))?;
        line(f, "questions", &format!("{} characters", range(&self.question_chars)))?;
        line(f, "answers", &format!("{} different; candidates per sample {}", self.distinct_answers, range(&self.candidates)))?;
        line(f, "categories", &counts(&self.categories))?;
        line(f, "sources", &counts(&self.sources))?;
        if let Some((question, answer)) = &self.example {
            line(f, "first", &format!("{question} → {answer}"))?;
        }
        line(f, "problems", &format!("{} without image, {} without answer", self.without_image, self.without_answer))?;
        line(f, "", &format!("{} ids borne twice, {} samples repeated", self.duplicate_ids.len(), self.duplicates.len()))?;
        line(f, "", &format!("{} images undecodable", self.images.undecodable.len()))?;
        self.images.undecodable.iter().try_for_each(|image| writeln!(f, "            {image}"))
    }
}

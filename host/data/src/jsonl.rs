//! Reading the FVQA fields from JSON lines.
//!
//! Each line is an object with the fields of the Parquet schema. `prompt` may be a string, or `question` may stand in its place. `images` is a list of
//! paths relative to the file, or of `{"path": …}` or `{"bytes": BASE64}`. `reward_model` is `{"ground_truth", "candidate_answers"}`, the candidates as a
//! JSON list or a string that holds one; `ground_truth` and `candidate_answers` may also stand at the top level.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::sample::{Sample, SampleImage, candidate, parse_candidates, question_of, read_beside, shortened, without_placeholders};

/// What a field lacks: its name and the problem.
type Problem = (&'static str, String);

/// Every line as a sample; empty lines are skipped.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut samples = Vec::new();
    for (i, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let at =
            |(column, problem): Problem| Error::Row { path: path.to_owned(), unit: "line", row: i + 1, column: column.into(), problem };
        let object: Map<String, Value> =
            serde_json::from_slice(&line).map_err(|e| at(("(whole line)", format!("not a JSON object: {e}"))))?;
        samples.push(sample(path, samples.len(), object).map_err(at)?);
    }
    Ok(samples)
}

fn sample(path: &Path, number: usize, mut object: Map<String, Value>) -> std::result::Result<Sample, Problem> {
    let question = match (object.remove("prompt"), object.remove("question")) {
        (Some(prompt), _) => question(prompt)?,
        (None, Some(question)) => without_placeholders(&string("question", question)?),
        (None, None) => {
            let present: Vec<&str> = object.keys().map(String::as_str).collect();
            return Err(("prompt", format!("missing; the line has the fields {}", present.join(", "))));
        }
    };
    if question.is_empty() {
        return Err(("prompt", "no user message with text; expected [{\"role\": \"user\", \"content\": QUESTION}]".into()));
    }
    let mut reward = match object.remove("reward_model") {
        Some(Value::Object(reward)) => reward,
        None | Some(Value::Null) if object.contains_key("ground_truth") => object.clone(),
        None => return Err(("reward_model", "missing; expected {\"ground_truth\": …, \"candidate_answers\": …}".into())),
        Some(other) => return Err(("reward_model", format!("expected an object, found `{}`", shortened(&other.to_string())))),
    };
    let ground_truth = match reward.remove("ground_truth") {
        None => return Err(("reward_model.ground_truth", "missing".into())),
        Some(Value::Null) => String::new(),
        Some(value) => candidate(value).map_err(|p| ("reward_model.ground_truth", p))?,
    };
    Ok(Sample {
        id: optional("data_id", &mut object)?.unwrap_or_else(|| number.to_string()),
        question,
        images: images(path, object.remove("images"))?,
        ground_truth,
        candidate_answers: candidates(reward.remove("candidate_answers"))?,
        data_source: optional("data_source", &mut object)?
            .unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
        category: optional("category", &mut object)?,
        image_urls: match object.remove("image_urls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(urls)) => urls.into_iter().map(|u| string("image_urls", u)).collect::<std::result::Result<_, _>>()?,
            Some(one) => vec![string("image_urls", one)?],
        },
        tags: Vec::new(),
    })
}

fn string(field: &'static str, value: Value) -> std::result::Result<String, Problem> {
    match value {
        Value::String(s) => Ok(s),
        other => Err((field, format!("expected a string, found `{}`", shortened(&other.to_string())))),
    }
}

fn optional(field: &'static str, object: &mut Map<String, Value>) -> std::result::Result<Option<String>, Problem> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(value) => string(field, value).map(Some),
    }
}

fn question(prompt: Value) -> std::result::Result<String, Problem> {
    match prompt {
        Value::String(text) => Ok(without_placeholders(&text)),
        Value::Array(messages) => {
            let pairs = messages
                .iter()
                .filter_map(|m| Some((m.get("role").and_then(Value::as_str).unwrap_or("user"), m.get("content")?.as_str()?)));
            Ok(question_of(pairs).unwrap_or_default())
        }
        other => Err(("prompt", format!("expected a list of messages or a string, found `{}`", shortened(&other.to_string())))),
    }
}

fn candidates(value: Option<Value>) -> std::result::Result<Vec<String>, Problem> {
    let parsed = match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => parse_candidates(&text),
        Some(Value::Array(values)) => values.into_iter().map(candidate).collect(),
        Some(other) => Err(format!("expected a list of strings, found `{}`", shortened(&other.to_string()))),
    };
    parsed.map_err(|p| ("reward_model.candidate_answers", p))
}

fn images(path: &Path, value: Option<Value>) -> std::result::Result<Vec<SampleImage>, Problem> {
    let elements = match value {
        None => return Err(("images", "missing; write `\"images\": []` for a sample without images".into())),
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(elements)) => elements,
        Some(one) => vec![one],
    };
    elements.into_iter().map(|element| image(path, element).map_err(|p| ("images", p))).collect()
}

fn image(data_set: &Path, element: Value) -> std::result::Result<SampleImage, String> {
    let (bytes, path) = match element {
        Value::String(path) => (None, Some(path)),
        Value::Object(mut object) => {
            let mut field = |name: &str| match object.remove(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(s)) => Ok(Some(s)),
                Some(other) => Err(format!("expected a string in `{name}`, found `{}`", shortened(&other.to_string()))),
            };
            (field("bytes")?, field("path")?)
        }
        other => return Err(format!("expected a path or {{\"path\"}} or {{\"bytes\"}}, found `{}`", shortened(&other.to_string()))),
    };
    let bytes = match (bytes, &path) {
        (Some(encoded), _) => {
            // Data URLs carry the media type before the comma.
            let encoded = encoded.strip_prefix("data:").and_then(|url| url.split_once(',')).map_or(encoded.as_str(), |(_, data)| data);
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
            Arc::from(decoded.map_err(|e| format!("`bytes` is not base64: {e}"))?)
        }
        (None, Some(name)) => {
            read_beside(data_set, name).map_err(|e| format!("the file `{name}` (paths are relative to the data set) {e}"))?
        }
        (None, None) => return Err("an image without `path` and without `bytes`".into()),
    };
    Ok(SampleImage { bytes, path })
}

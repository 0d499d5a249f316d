//! One call of one plugin from JSON to JSON: the work behind `mmhost plugin call`, and the form in which a plugin's tests are written.

use crate::types::{CallCost, Decision, FilterInput, ImageBytes, ResultPart, RewardInput, ToolInput, Verdict};
use crate::{FilterPlugin, PluginError, PluginInfo, Plugins, Result, RewardPlugin, ToolError, ToolPlugin};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;

/// A function that plugins export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Every kind's self-description; it takes no input.
    Describe,
    /// A tool's call.
    Call,
    /// A reward's score of episodes.
    Score,
    /// A filter's decisions on samples.
    Filter,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Function::Describe => "describe",
            Function::Call => "call",
            Function::Score => "score",
            Function::Filter => "filter",
        })
    }
}

/// The one plugin of a folder.
#[derive(Clone)]
pub enum Subject {
    /// A tool.
    Tool(ToolPlugin),
    /// A reward.
    Reward(RewardPlugin),
    /// A filter.
    Filter(FilterPlugin),
}

impl Subject {
    /// The only plugin among those that were loaded; `dir` is where from.
    ///
    /// # Errors
    /// When there are several.
    pub fn only(mut plugins: Plugins, dir: &Path) -> Result<Self> {
        if let [first, _, ..] = plugins.infos()[..] {
            let message = format!("several plugins are here; name the folder of one, e.g. {}", first.folder.display());
            return Err(PluginError::File { file: dir.into(), message });
        }
        let tool = plugins.tools.pop().map(Subject::Tool);
        let reward = plugins.rewards.pop().map(Subject::Reward);
        let any = tool.or(reward).or(plugins.filters.pop().map(Subject::Filter));
        any.ok_or_else(|| PluginError::Empty { dir: dir.into() })
    }

    /// Name, digest, configuration, grants and limits.
    pub fn info(&self) -> &PluginInfo {
        match self {
            Subject::Tool(tool) => tool.info(),
            Subject::Reward(reward) => reward.info(),
            Subject::Filter(filter) => filter.info(),
        }
    }

    /// The function that does the plugin's work.
    pub fn function(&self) -> Function {
        match self {
            Subject::Tool(_) => Function::Call,
            Subject::Reward(_) => Function::Score,
            Subject::Filter(_) => Function::Filter,
        }
    }

    /// Calls a function with an input in JSON. Paths of images are relative to `base`.
    ///
    /// The answer is JSON too: what a tool reports as an error of the contract is an answer, `{"error": {"kind": …, "message": …}}`.
    ///
    /// # Errors
    /// When the plugin has no such function, the input is not what the function takes, an image cannot be read, or the call fails.
    pub async fn run(&self, function: Function, input: &Value, base: &Path) -> Result<(Value, CallCost)> {
        let bad = |message: String| PluginError::Input { function: function.to_string(), message };
        match (self, function) {
            (Subject::Tool(tool), Function::Describe) => described(tool.describe().await),
            (Subject::Reward(reward), Function::Describe) => described(reward.describe().await),
            (Subject::Filter(filter), Function::Describe) => described(filter.describe().await),
            (Subject::Tool(tool), Function::Call) => {
                let input = call_input(input, base).map_err(bad)?;
                let (answer, cost) = tool.answer(&input).await?;
                Ok((answered(&answer), cost))
            }
            (Subject::Reward(reward), Function::Score) => {
                let episodes = many::<Episode>(input).map_err(bad)?;
                let episodes: Vec<RewardInput> = episodes.into_iter().map(RewardInput::from).collect();
                let (verdicts, cost) = reward.score(&episodes).await?;
                Ok((json!({"verdicts": verdicts.iter().map(verdict).collect::<Vec<_>>()}), cost))
            }
            (Subject::Filter(filter), Function::Filter) => {
                let samples = many::<Sample>(input).map_err(bad)?;
                let samples =
                    samples.into_iter().map(|sample| sample.read(base)).collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
                let (decisions, cost) = filter.filter(&samples).await?;
                Ok((json!({"decisions": decisions.iter().map(decision).collect::<Vec<_>>()}), cost))
            }
            _ => Err(bad(format!("this plugin has none; it has `describe` and `{}`", self.function()))),
        }
    }
}

/// The input of `call`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Call {
    /// A text, or the object of arguments of a tool that is called in JSON.
    argument: Value,
    question: String,
    images: Vec<String>,
}

/// One episode of the input of `score`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Episode {
    id: String,
    question: String,
    ground_truth: String,
    candidate_answers: Vec<String>,
    turns: Vec<String>,
    calls: Vec<crate::CallView>,
    ending: Option<String>,
}

/// One sample of the input of `filter`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    id: String,
    question: String,
    ground_truth: String,
    candidate_answers: Vec<String>,
    data_source: String,
    images: Vec<String>,
}

impl From<Episode> for RewardInput {
    fn from(e: Episode) -> Self {
        RewardInput {
            id: e.id,
            question: e.question,
            ground_truth: e.ground_truth,
            candidate_answers: e.candidate_answers,
            turns: e.turns,
            calls: e.calls,
            ending: e.ending.unwrap_or_else(|| "answered".into()),
        }
    }
}

impl Sample {
    fn read(self, base: &Path) -> std::result::Result<FilterInput, String> {
        Ok(FilterInput {
            images: images(&self.images, base)?,
            id: self.id,
            question: self.question,
            ground_truth: self.ground_truth,
            candidate_answers: self.candidate_answers,
            data_source: self.data_source,
        })
    }
}

fn call_input(input: &Value, base: &Path) -> std::result::Result<ToolInput, String> {
    let call: Call = one(input)?;
    let argument = match call.argument {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Object(object) => Value::Object(object).to_string(),
        other => return Err(format!("field `argument`: found {other}, expected a text, or an object for a tool that is called in JSON")),
    };
    Ok(ToolInput { argument, images: images(&call.images, base)?, question: call.question })
}

fn one<T: serde::de::DeserializeOwned>(input: &Value) -> std::result::Result<T, String> {
    match input {
        Value::Object(_) => T::deserialize(input).map_err(|error| error.to_string()),
        other => Err(format!("found {}, expected an object", short(other))),
    }
}

/// One object or an array of them.
fn many<T: serde::de::DeserializeOwned>(input: &Value) -> std::result::Result<Vec<T>, String> {
    match input {
        Value::Array(items) => {
            let item = |(index, item)| one(item).map_err(|message| format!("entry {}: {message}", index + 1));
            items.iter().enumerate().map(item).collect()
        }
        _ => Ok(vec![one(input)?]),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn images(paths: &[String], base: &Path) -> std::result::Result<Vec<ImageBytes>, String> {
    let read = |path: &String| {
        let file = base.join(path);
        let bytes = std::fs::read(&file).map_err(|error| format!("field `images`: cannot read {}: {error}", file.display()))?;
        let media_type = image::guess_format(&bytes).map_or("application/octet-stream", |format| format.to_mime_type());
        Ok(ImageBytes { media_type: media_type.into(), bytes: bytes.into() })
    };
    paths.iter().map(read).collect()
}

fn described<T: serde::Serialize>(outcome: Result<(T, CallCost)>) -> Result<(Value, CallCost)> {
    let (spec, cost) = outcome?;
    let value = serde_json::to_value(spec).map_err(|error| PluginError::Other(error.to_string()))?;
    Ok((value, cost))
}

/// A tool's answer in JSON.
pub(crate) fn answered(answer: &std::result::Result<Vec<ResultPart>, ToolError>) -> Value {
    match answer {
        Ok(parts) => json!({"parts": parts.iter().map(part).collect::<Vec<_>>()}),
        Err(error) => json!({"error": reported(error)}),
    }
}

fn part(part: &ResultPart) -> Value {
    match part {
        ResultPart::Text(text) => json!({"text": text}),
        ResultPart::Image(image) => {
            let (width, height) = crate::doors::images::dimensions(&image.bytes).unwrap_or_default();
            let digest = crate::lock::digest(&image.bytes);
            json!({"image": {"media_type": image.media_type, "width": width, "height": height, "bytes": image.bytes.len(), "sha256": digest}})
        }
    }
}

fn reported(error: &ToolError) -> Value {
    match error {
        ToolError::BadArgument(what) => json!({"kind": "bad-argument", "message": what}),
        ToolError::MissingImage => json!({"kind": "missing-image"}),
        ToolError::NothingFound => json!({"kind": "nothing-found"}),
        ToolError::Unavailable(what) => json!({"kind": "unavailable", "message": what}),
        ToolError::Internal(what) => json!({"kind": "internal", "message": what}),
    }
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Scored { total, components } => {
            let components: serde_json::Map<String, Value> = components.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({"total": total, "components": components})
        }
        Verdict::Abstained(reason) => json!({"abstained": reason}),
    }
}

fn decision(decision: &Decision) -> Value {
    match decision {
        Decision::Keep(tags) => json!({"keep": tags}),
        Decision::Drop(reason) => json!({"drop": reason}),
    }
}

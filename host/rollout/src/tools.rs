//! Tools as the rollout uses them, and the sharing of equal calls within a group.

use crate::protocol::ProtocolOptions;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use mmhost_model::{ImageInput, Part, Processor};
use mmhost_plugins::{CallCost, ImageBytes, PluginError, ResultPart, ToolInput, ToolPlugin, ToolSpec};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Longest error text that the policy reads, in characters.
const MAX_ERROR_CHARS: usize = 160;

/// Tools as the rollout uses them.
#[async_trait::async_trait]
pub trait Tool: Send + Sync {
    /// What is known of it before it is called.
    fn about(&self) -> About<'_>;
    /// One call.
    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError>;
    /// Self-description.
    fn spec(&self) -> &ToolSpec {
        self.about().spec
    }
    /// One call, timed, with a failure in the words of the episode.
    async fn play(&self, input: &ToolInput) -> Played {
        let started = Instant::now();
        let result = self.call(input).await.map(|(parts, _cost)| parts);
        // Whole microseconds, so that the record reads back as it was written.
        let elapsed_ms = started.elapsed().as_micros() as f64 / 1e3;
        Played { result: result.map_err(|error| Failed { told: told(&error), fault: error.to_string() }), elapsed_ms }
    }
}

/// What is known of a tool before it is called.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Self-description.
    pub spec: &'a ToolSpec,
    /// Name of the plugin; of a tool that is none, its own.
    pub plugin: &'a str,
    /// Digest of the component; empty where there is none.
    pub digest: &'a str,
    /// The configuration that the component sees, as JSON; empty where there is none.
    pub configuration: &'a str,
    /// Most tokens that an answer may add to the context.
    pub max_tokens: usize,
}

impl<'a> About<'a> {
    /// A tool without a component.
    pub fn plain(spec: &'a ToolSpec) -> Self {
        Self { spec, plugin: &spec.name, digest: "", configuration: "", max_tokens: usize::MAX }
    }
}

/// What a call came to.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Played {
    /// The tool's result.
    pub result: Result<Vec<ResultPart>, Failed>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: f64,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failed {
    /// What the policy is told.
    pub told: String,
    /// What went wrong in full, for the record.
    pub fault: String,
}

#[async_trait::async_trait]
impl Tool for ToolPlugin {
    fn about(&self) -> About<'_> {
        let info = self.info();
        About {
            spec: ToolPlugin::spec(self),
            plugin: &info.name,
            digest: &info.digest,
            configuration: &info.config_json,
            max_tokens: info.limits.output_tokens as usize,
        }
    }

    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
        ToolPlugin::call(self, input).await
    }
}

/// A piece of a tool's result, ready for the context.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Text(String),
    Image { input: Arc<ImageInput>, file: ImageBytes, digest: String },
}

impl Content {
    pub(crate) fn part(&self) -> Part {
        match self {
            Content::Text(text) => Part::Untrusted(text.clone()),
            Content::Image { input, .. } => Part::Image(input.clone()),
        }
    }
}

/// The result as text for the record, images by digest.
pub(crate) fn transcript(body: &[Content]) -> String {
    body.iter()
        .map(|content| match content {
            Content::Text(text) => text.clone(),
            Content::Image { digest, .. } => format!("[image sha256:{digest}]"),
        })
        .collect()
}

/// What came of a call: a result, or a short error text as its only content.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) body: Vec<Content>,
    /// What went wrong in full, for the record; the policy reads `body`.
    pub(crate) fault: Option<String>,
    pub(crate) elapsed_ms: f64,
}

/// SHA-256 of an image file, hex.
pub(crate) fn image_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Guesses the media type of an image file from its first bytes.
pub(crate) fn media_type(bytes: &[u8]) -> &'static str {
    image::guess_format(bytes).map_or("application/octet-stream", |format| format.to_mime_type())
}

type SharedCall = Shared<BoxFuture<'static, Arc<Outcome>>>;

/// The calls of one group: equal ones (tool and argument; image and question are the group's own) run once.
pub(crate) struct CallBook {
    tools: Arc<[Arc<dyn Tool>]>,
    processor: Processor,
    limits: ProtocolOptions,
    question: String,
    images: Vec<ImageBytes>,
    calls: Mutex<HashMap<(usize, String), SharedCall>>,
}

impl CallBook {
    pub(crate) fn new(
        tools: Arc<[Arc<dyn Tool>]>,
        processor: Processor,
        limits: ProtocolOptions,
        question: String,
        images: Vec<ImageBytes>,
    ) -> Self {
        Self { tools, processor, limits, question, images, calls: Mutex::new(HashMap::new()) }
    }

    /// Starts the call, or joins an equal one. The call runs as a task of its own and is aborted when nobody waits any more.
    pub(crate) fn call(&self, tool: usize, argument: &str) -> SharedCall {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .entry((tool, argument.to_owned()))
            .or_insert_with(|| {
                let input = ToolInput { argument: argument.to_owned(), images: self.images.clone(), question: self.question.clone() };
                let mut task = tokio::task::JoinSet::new();
                task.spawn(perform(self.tools[tool].clone(), input, self.processor.clone(), self.limits.clone()));
                async move {
                    Arc::new(match task.join_next().await {
                        Some(Ok(outcome)) => outcome,
                        // The tool's code panicked; its fault ends the call, not the run.
                        Some(Err(error)) => {
                            tracing::error!(%error, "a tool call died");
                            failure("the tool stopped unexpectedly", 0.0)
                        }
                        None => failure("the tool gave no result", 0.0),
                    })
                }
                .boxed()
                .shared()
            })
            .clone()
    }
}

/// One call from input to content. Never fails: a failure is an outcome.
async fn perform(tool: Arc<dyn Tool>, input: ToolInput, processor: Processor, limits: ProtocolOptions) -> Outcome {
    let name = &tool.spec().name;
    if tool.spec().needs_image && input.images.is_empty() {
        return failure(&format!("{name} failed: the question has no image"), 0.0);
    }
    let Played { result, elapsed_ms } = tool.play(&input).await;
    let parts = match result {
        Ok(parts) => parts,
        Err(Failed { told, fault }) => {
            tracing::debug!(tool = %name, %fault, "a tool call failed");
            return Outcome { fault: Some(fault), ..failure(&format!("{name} failed: {told}"), elapsed_ms) };
        }
    };
    let body = contents(parts, &processor, &limits).and_then(|body| match tokens(&body, &processor)? {
        found if found > tool.about().max_tokens => {
            let most = tool.about().max_tokens;
            Err(format!(
                "the result has {found} tokens, at most {most} are allowed; `[limits] output_tokens` in the tool's plugin.toml sets it"
            ))
        }
        _ => Ok(body),
    });
    match body {
        Ok(body) => Outcome { body, fault: None, elapsed_ms },
        Err(reason) => {
            tracing::warn!(tool = %name, %reason, "the result of a tool cannot be used");
            Outcome { fault: Some(reason), ..failure(&format!("{name} failed: its result cannot be used"), elapsed_ms) }
        }
    }
}

fn failure(message: &str, elapsed_ms: f64) -> Outcome {
    Outcome { body: vec![Content::Text(short(message))], fault: Some(message.to_owned()), elapsed_ms }
}

/// What the policy is told of a failure: what the tool itself reports, and of the sandbox only the kind of trouble.
fn told(error: &PluginError) -> String {
    match error {
        PluginError::Tool { error, .. } => error.to_string(),
        PluginError::Deadline { .. } => "it took too long".into(),
        PluginError::Memory { .. } | PluginError::Resources { .. } => "it needed too much memory".into(),
        PluginError::OutputTooLong { .. } => "its result was too long".into(),
        _ => "it is out of order".into(),
    }
}

/// The first line, cut to [`MAX_ERROR_CHARS`].
fn short(message: &str) -> String {
    let line = message.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(MAX_ERROR_CHARS) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// Decodes and processes what a tool returned; space around the whole is dropped.
fn contents(parts: Vec<ResultPart>, processor: &Processor, limits: &ProtocolOptions) -> Result<Vec<Content>, String> {
    let found = parts.iter().filter(|part| matches!(part, ResultPart::Image(_))).count();
    if found > limits.max_result_images {
        return Err(format!("the result has {found} images, at most {} are allowed", limits.max_result_images));
    }
    let mut body: Vec<Content> = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            ResultPart::Text(text) => match body.last_mut() {
                Some(Content::Text(last)) => last.push_str(&text),
                _ => body.push(Content::Text(text)),
            },
            ResultPart::Image(file) => body.push(decode(file, processor, limits)?),
        }
    }
    if let Some(Content::Text(first)) = body.first_mut() {
        *first = first.trim_start().to_owned();
    }
    if let Some(Content::Text(last)) = body.last_mut() {
        *last = last.trim_end().to_owned();
    }
    Ok(body)
}

/// Tokens that a result adds to the context, the protocol's own beside.
fn tokens(body: &[Content], processor: &Processor) -> Result<usize, String> {
    let merge_size = processor.image_processor().merge_size as u32;
    let tokens = |content: &Content| match content {
        Content::Text(text) => {
            processor.tokenizer.encode_plain(text).map(|ids| ids.len()).map_err(|error| format!("its text cannot be read: {error}"))
        }
        Content::Image { input, .. } => Ok(input.num_tokens(merge_size)),
    };
    body.iter().map(tokens).sum()
}

fn decode(file: ImageBytes, processor: &Processor, limits: &ProtocolOptions) -> Result<Content, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("an image cannot be read: {error}");
    // The size stands in the header: a bomb is refused before it is unpacked.
    let header = image::ImageReader::new(Cursor::new(&file.bytes)).with_guessed_format().map_err(|error| unreadable(&error))?;
    let (width, height) = header.into_dimensions().map_err(|error| unreadable(&error))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_image_pixels {
        return Err(format!("an image has {width}x{height} pixels, at most {} are allowed", limits.max_image_pixels));
    }
    let decoded = mmhost_model::decode_image(&file.bytes).map_err(|error| unreadable(&error))?;
    let input = processor.process_image(&decoded).map_err(|error| unreadable(&error))?;
    let digest = image_digest(&file.bytes);
    Ok(Content::Image { input: Arc::new(input), file, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_one_short_line() {
        assert_eq!(short("a\nb"), "a");
        assert_eq!(short(""), "");
        let long = short(&"é".repeat(1000));
        assert_eq!(long.chars().count(), MAX_ERROR_CHARS + 1);
    }

    #[test]
    fn media_types_come_from_the_bytes() {
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\n"), "image/png");
        assert_eq!(media_type(b"\xff\xd8\xff\xe0"), "image/jpeg");
        assert_eq!(media_type(b"nothing"), "application/octet-stream");
    }
}

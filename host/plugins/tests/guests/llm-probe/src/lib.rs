//! Asks a model what a test tells it to, and shows what came back.

use mmhost_sdk::ConfigError;
use mmhost_sdk::llm::{self, LlmError, Message, Request, Role};
use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};

#[derive(miniserde::Deserialize)]
struct Config {}

#[derive(miniserde::Deserialize)]
struct Order {
    model: String,
    text: String,
    /// How often the text is repeated in the question; without it there is no message.
    repeat: Option<u32>,
    /// Requests of the batch.
    batch: u32,
    max_tokens: u32,
    /// `None` for a temperature that is no number.
    temperature: Option<f32>,
}

struct Probe;

impl Tool for Probe {
    type Config = Config;

    fn describe(_: &Config) -> Result<Description, ConfigError> {
        Ok(Description {
            name: "llm-probe".into(),
            description: "asks a model".into(),
            call: CallForm::Tag("probe".into()),
            max_calls: 1,
            instruction: String::new(),
            needs_image: false,
        })
    }

    fn call(_: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let order: Order = miniserde::json::from_str(&input.argument).map_err(|_| ToolError::BadArgument("no order".into()))?;
        let message = |times: u32| Message { role: Role::User, text: order.text.repeat(times as usize) };
        let request = Request {
            messages: order.repeat.map(message).into_iter().collect(),
            max_tokens: order.max_tokens,
            temperature: order.temperature.unwrap_or(f32::NAN),
            seed: 0,
        };
        let answers = llm::complete(&order.model, &vec![request; order.batch as usize]);
        let text = answers.into_iter().map(|answer| answer.map(|answer| answer.text)).collect::<Result<Vec<_>, _>>();
        let text = text.map_err(|error| {
            ToolError::Unavailable(match error {
                LlmError::NotGranted(what) => format!("not granted: {what}"),
                LlmError::BadRequest(what) => format!("bad request: {what}"),
                LlmError::OverLimit(what) => format!("over a limit: {what}"),
                LlmError::Failed(why) => format!("failed: {why}"),
            })
        })?;
        Ok(vec![Part::Text(text.join("\n"))])
    }
}

mmhost_sdk::export_tool!(Probe);

//! Arithmetic for the policy: exact fractions as long as they fit, decimals where they do not.

mod number;
mod parse;

use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, bad_value};

const SCHEMA: &str = r#"{"type": "object", "properties": {"expression": {"type": "string", "description": "e.g. (2 + 3) * 4.5", "examples": ["(2 + 3) * 4.5"]}}, "required": ["expression"]}"#;
const TAG: &str = "calculate";

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    call: String,
    digits: u32,
    max_calls: u32,
}

/// The arguments of a call in JSON.
#[derive(miniserde::Deserialize)]
struct Arguments {
    expression: String,
}

struct Calculator;

impl Tool for Calculator {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        let call = match config.call.as_str() {
            "tag" => CallForm::Tag(TAG.into()),
            "json" => CallForm::Json(SCHEMA.into()),
            other => return Err(bad_value("call", other, "tag or json")),
        };
        Ok(Description {
            name: "calculator".into(),
            description: "arithmetic, e.g. (2 + 3) * 4.5".into(),
            call,
            max_calls: config.max_calls,
            instruction: "Go on.".into(),
            needs_image: false,
        })
    }

    fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let expression = match config.call.as_str() {
            "json" => {
                let arguments: Result<Arguments, _> = miniserde::json::from_str(&input.argument);
                arguments.map_err(|_| ToolError::BadArgument("expected {\"expression\": TEXT}".into()))?.expression
            }
            _ => input.argument,
        };
        let value = parse::evaluate(&expression).map_err(ToolError::BadArgument)?;
        let text = value.written(config.digits).ok_or_else(|| ToolError::BadArgument("the result is too large".into()))?;
        Ok(vec![Part::Text(text)])
    }
}

mmhost_sdk::export_tool!(Calculator);

//! Sends the requests that a test tells it to, one after the other, by `wasi:http` or the contract's own door, and shows what came back.

use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, http};

mod wasi;

#[derive(miniserde::Deserialize)]
struct Config {}

#[derive(miniserde::Deserialize)]
struct Order {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    /// How often; the last answer is shown.
    times: u32,
    /// Whether by the contract's own door.
    own_door: Option<bool>,
}

struct Probe;

impl Tool for Probe {
    type Config = Config;

    fn describe(_: &Config) -> Result<Description, ConfigError> {
        Ok(Description {
            name: "http-probe".into(),
            description: "sends requests".into(),
            call: CallForm::Tag("probe".into()),
            max_calls: 1,
            instruction: String::new(),
            needs_image: false,
        })
    }

    fn call(_: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let order: Order = miniserde::json::from_str(&input.argument).map_err(|_| ToolError::BadArgument("no order".into()))?;
        let headers: Vec<(&str, &str)> = order.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut text = String::new();
        for _ in 0..order.times {
            if order.own_door == Some(true) {
                text = by_own_door(&order, &headers)?;
                continue;
            }
            let answer = wasi::send(&order.method, &order.url, &headers, order.body.as_bytes());
            let answer = answer.map_err(|error| ToolError::Unavailable(error.to_string()))?;
            text = format!("{}\n", answer.status);
            for (name, value) in &answer.headers {
                text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
            }
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&answer.body));
        }
        Ok(vec![Part::Text(text)])
    }
}

fn by_own_door(order: &Order, headers: &[(&str, &str)]) -> Result<String, ToolError> {
    let answer = http::send(&order.method, &order.url, headers, order.body.as_bytes()).map_err(|error| {
        let kind = match error {
            http::HttpError::Malformed(_) => "malformed: ",
            http::HttpError::NotGranted => "",
            http::HttpError::OverLimit(_) => "over a limit: ",
            http::HttpError::Failed(_) => "failed: ",
        };
        ToolError::Unavailable(format!("{kind}{}", http::explain(&error)))
    })?;
    let headers: String = answer.headers.iter().map(|header| format!("{}: {}\n", header.name, header.value)).collect();
    Ok(format!("{}\n{headers}\n{}", answer.status, String::from_utf8_lossy(&answer.body)))
}

mmhost_sdk::export_tool!(Probe);

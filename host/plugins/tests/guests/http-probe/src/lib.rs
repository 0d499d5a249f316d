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
        let mut last = None;
        for _ in 0..order.times {
            last = Some(match order.own_door {
                Some(true) => Answer::Plain(by_own_door(&order, &headers)?),
                _ => {
                    let answer = wasi::send(&order.method, &order.url, &headers, order.body.as_bytes());
                    Answer::Wasi(answer.map_err(|error| ToolError::Unavailable(error.to_string()))?)
                }
            });
        }
        Ok(vec![Part::Text(last.map(|answer| answer.shown()).unwrap_or_default())])
    }
}

/// What came back, by either door.
enum Answer {
    Plain(http::Response),
    Wasi(wasi::Response),
}

impl Answer {
    fn shown(self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (status, headers, body) = match self {
            Answer::Plain(answer) => {
                let headers = answer.headers.into_iter().map(|header| (header.name, header.value)).collect();
                (answer.status, headers, answer.body)
            }
            Answer::Wasi(answer) => {
                let headers: Vec<_> = answer.headers.into_iter().map(|(name, value)| (name, text(&value))).collect();
                (answer.status, headers, answer.body)
            }
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{status}\n{headers}\n{}", text(&body))
    }
}

fn by_own_door(order: &Order, headers: &[(&str, &str)]) -> Result<http::Response, ToolError> {
    http::send(&order.method, &order.url, headers, order.body.as_bytes()).map_err(|error| {
        let kind = match error {
            http::HttpError::Malformed(_) => "malformed: ",
            http::HttpError::NotGranted => "",
            http::HttpError::OverLimit(_) => "over a limit: ",
            http::HttpError::Failed(_) => "failed: ",
        };
        ToolError::Unavailable(format!("{kind}{}", http::explain(&error)))
    })
}

mmhost_sdk::export_tool!(Probe);

//! Web search: asks a search service for the policy's query and reads the pages that it finds, as the text search of MMSearch-R1 does
//! (SerpAPI and a reader, section 3.2 of arXiv 2506.20670). There is no summary by a language model: a page is cut instead.

use miniserde::json::{Object, Value};
use mmhost_sdk::http::{self, Response, percent_encode};
use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, Level, bad_value, log, one_line};

/// Most characters of a query; longer ones are runaway generations.
const MAX_QUERY_CHARS: usize = 400;

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    url: String,
    results: String,
    title: String,
    snippet: String,
    link: String,
    k: u32,
    reader: String,
    max_chars: usize,
    name: String,
    description: String,
    call: String,
    max_calls: u32,
    instruction: String,
}

struct WebSearch;

impl Tool for WebSearch {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        if config.k == 0 || config.k > 10 {
            return Err(bad_value("k", config.k, "1 to 10"));
        }
        if !config.url.contains("{query}") {
            return Err(bad_value("url", &config.url, "a URL with {query} in it"));
        }
        if !config.reader.is_empty() && !config.reader.contains("{url}") {
            return Err(bad_value("reader", &config.reader, "empty, or a URL with {url} in it"));
        }
        if config.max_chars == 0 {
            return Err(bad_value("max_chars", 0, "at least 1"));
        }
        Ok(Description {
            name: config.name.clone(),
            description: config.description.clone(),
            call: CallForm::Tag(config.call.clone()),
            max_calls: config.max_calls,
            instruction: config.instruction.clone(),
            needs_image: false,
        })
    }

    fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let query = one_line(&input.argument, MAX_QUERY_CHARS);
        if query.is_empty() {
            return Err(ToolError::BadArgument("the query is empty".into()));
        }
        let url = config.url.replace("{query}", &percent_encode(&query)).replace("{k}", &config.k.to_string());
        let answer = fetch(&url).map_err(ToolError::Unavailable)?;
        let found = results(config, &answer)?;
        let mut text = String::new();
        for (index, result) in found.iter().take(config.k as usize).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            let read = read(config, field(result, &config.link));
            let content = read.as_deref().unwrap_or_else(|| field(result, &config.snippet));
            let title = one_line(field(result, &config.title), config.max_chars);
            text.push_str(&format!("{}. {title}: {}", index + 1, one_line(content, config.max_chars)));
        }
        match text.is_empty() {
            true => Err(ToolError::NothingFound),
            false => Ok(vec![Part::Text(text)]),
        }
    }
}

/// The body of a page that answers with success.
fn fetch(url: &str) -> Result<String, String> {
    let Response { status, body, .. } = http::get(url, &[]).map_err(|error| http::explain(&error).to_owned())?;
    match status {
        200..=299 => Ok(String::from_utf8_lossy(&body).into_owned()),
        _ => Err(format!("the service answers with status {status}")),
    }
}

/// A page as the reader gives it. A page that cannot be read is no reason to fail: there is the snippet.
fn read(config: &Config, link: &str) -> Option<String> {
    if config.reader.is_empty() || link.is_empty() {
        return None;
    }
    let page = fetch(&config.reader.replace("{url}", link));
    page.inspect_err(|error| log(Level::Warn, &format!("{link} cannot be read: {error}"))).ok().filter(|page| !page.trim().is_empty())
}

fn results(config: &Config, answer: &str) -> Result<Vec<Object>, ToolError> {
    let odd = |what: &str| ToolError::Unavailable(format!("the service's answer {what}"));
    let Ok(Value::Object(mut answer)) = miniserde::json::from_str(answer) else { return Err(odd("is no JSON object")) };
    match answer.remove(&config.results) {
        Some(Value::Array(results)) => Ok(results.into_iter().filter_map(object).collect()),
        None => Err(ToolError::NothingFound),
        Some(_) => Err(odd(&format!("has no list `{}`", config.results))),
    }
}

fn object(value: Value) -> Option<Object> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn field<'a>(result: &'a Object, name: &str) -> &'a str {
    match result.get(name) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

mmhost_sdk::export_tool!(WebSearch);

//! Image search: pages of a corpus whose images resemble the question's, each as a thumbnail and a title.

use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, bad_value, corpus, one_line};

/// Most characters of a title.
const MAX_TITLE_CHARS: usize = 200;

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    corpus: String,
    k: u32,
    name: String,
    description: String,
    call: String,
    max_calls: u32,
    instruction: String,
}

struct ImageSearch;

impl Tool for ImageSearch {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        if config.k == 0 {
            return Err(bad_value("k", 0, "at least 1"));
        }
        Ok(Description {
            name: config.name.clone(),
            description: config.description.clone(),
            call: CallForm::Literal(config.call.clone()),
            max_calls: config.max_calls,
            instruction: config.instruction.clone(),
            needs_image: true,
        })
    }

    fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        let image = input.images.first().ok_or(ToolError::MissingImage)?;
        let hits = corpus::search_image(&config.corpus, image, config.k)?;
        if hits.is_empty() {
            return Err(ToolError::NothingFound);
        }
        // "1. ", thumbnail, "Title\n2. ", thumbnail, …
        let mut parts = Vec::with_capacity(2 * hits.len() + 1);
        let mut text = String::new();
        for (index, hit) in hits.into_iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&format!("{}. ", index + 1));
            if let Some(thumbnail) = hit.image {
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Forwarded(thumbnail));
            }
            text.push_str(&one_line(&hit.title, MAX_TITLE_CHARS));
        }
        parts.push(Part::Text(text));
        Ok(parts)
    }
}

mmhost_sdk::export_tool!(ImageSearch);

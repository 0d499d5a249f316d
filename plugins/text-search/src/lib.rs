//! Text search: the passages of a corpus that match the policy's query best.

use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, bad_value, corpus, one_line};

/// Most characters of a query that reach the corpus; longer ones are runaway generations.
const MAX_QUERY_CHARS: usize = 1000;

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    corpus: String,
    k: u32,
    max_chars: usize,
    show_titles: bool,
    name: String,
    description: String,
    call: String,
    max_calls: u32,
    instruction: String,
}

struct TextSearch;

impl Tool for TextSearch {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        if config.k == 0 {
            return Err(bad_value("k", 0, "at least 1"));
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
        let hits = corpus::search_text(&config.corpus, &query, config.k)?;
        if hits.is_empty() {
            return Err(ToolError::NothingFound);
        }
        let mut text = String::new();
        for (index, hit) in hits.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&format!("{}. ", index + 1));
            if config.show_titles && !hit.title.is_empty() {
                text.push_str(&one_line(&hit.title, config.max_chars));
                text.push_str(": ");
            }
            text.push_str(&one_line(&hit.text, config.max_chars));
        }
        Ok(vec![Part::Text(text)])
    }
}

mmhost_sdk::export_tool!(TextSearch);

use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
use mmhost_sdk::{ConfigError, corpus, one_line};

/// The keys of `[config]` in plugin.toml.
#[derive(miniserde::Deserialize)]
struct Config {
    corpus: String,
    max_calls: u32,
}

struct Plugin;

impl Tool for Plugin {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        Ok(Description {
            name: "{{name}}".into(),
            description: "search for a passage".into(),
            // The policy writes <{{name}}>QUERY</{{name}}>.
            call: CallForm::Tag("{{name}}".into()),
            max_calls: config.max_calls,
            instruction: "Answer now.".into(),
            needs_image: false,
        })
    }

    fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
        // The policy in training writes anything, of any length.
        let query = one_line(&input.argument, 200);
        if query.is_empty() {
            return Err(ToolError::BadArgument("the query is empty".into()));
        }
        let hits = corpus::search_text(&config.corpus, &query, 1)?;
        let first = hits.first().filter(|hit| !hit.text.trim().is_empty()).ok_or(ToolError::NothingFound)?;
        Ok(vec![Part::Text(one_line(&first.text, 1000))])
    }
}

mmhost_sdk::export_tool!(Plugin);

//! Write mmhost plugins in Rust: implement one trait, export it with one macro.
//!
//! | kind | trait | macro |
//! |---|---|---|
//! | a search tool | [`tool::Tool`] | [`export_tool!`] |
//! | a reward | [`reward::Reward`] | [`export_reward!`] |
//! | a dataset filter | [`filter::Filter`] | [`export_filter!`] |
//!
//! ```ignore
//! use mmhost_sdk::tool::{CallForm, Description, Input, Part, Tool, ToolError};
//!
//! #[derive(miniserde::Deserialize)]
//! struct Config { greeting: String }
//! struct Hello;
//!
//! impl Tool for Hello {
//!     type Config = Config;
//!     fn describe(_: &Config) -> Result<Description, mmhost_sdk::ConfigError> { /* … */ }
//!     fn call(config: &Config, input: Input) -> Result<Vec<Part>, ToolError> {
//!         Ok(vec![Part::Text(format!("{}, {}", config.greeting, input.argument))])
//!     }
//! }
//! mmhost_sdk::export_tool!(Hello);
//! ```
//!
//! A plugin's folder holds `Cargo.toml` (`crate-type = ["cdylib"]`), `plugin.toml` and `src/lib.rs`; `mmhost plugin build` makes
//! the component. The host calls each function in a fresh instance: nothing in memory outlives a call. The documentation of
//! every type stands in `wit/`.
#![warn(missing_docs)]

pub mod bindings;
pub mod filter;
pub mod http;
pub mod llm;
pub mod reward;
pub mod tool;

pub use bindings::imports::{
    corpus,
    images::{Dimensions, Image, ImageError},
    log::Level,
    types::{BadValue, ConfigError},
};

/// Reads the plugin's configuration.
///
/// # Errors
/// [`ConfigError::Malformed`] when it is not a `C`. The host compares overrides with the manifest's defaults (same fields, same
/// types) before the plugin sees them, so this means that the manifest and `C` disagree.
pub fn config<C: miniserde::Deserialize>() -> Result<C, ConfigError> {
    miniserde::json::from_str(&bindings::imports::config::get())
        .map_err(|_| ConfigError::Malformed("the fields differ from those that the plugin reads".into()))
}

/// The error for a configuration field with an unusable value.
pub fn bad_value(field: &str, found: impl ToString, expected: &str) -> ConfigError {
    ConfigError::BadValue(BadValue { field: field.into(), found: found.to_string(), expected: expected.into() })
}

/// Writes a message to the host's log.
pub fn log(level: Level, message: &str) {
    bindings::imports::log::write(level, message);
}

/// Text on one line: runs of white space become single spaces, and what exceeds `max_chars` characters is cut.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max_chars));
    let mut chars = 0;
    for word in text.split_whitespace() {
        if chars > 0 {
            if chars + 1 >= max_chars {
                break;
            }
            line.push(' ');
            chars += 1;
        }
        for character in word.chars().take(max_chars - chars) {
            line.push(character);
            chars += 1;
        }
        if chars >= max_chars {
            break;
        }
    }
    line
}

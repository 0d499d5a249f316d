//! Checks that every kind of plugin shares: what a guest reports and returns, turned into the host's terms.

use crate::bindings::imports::types;
use crate::{ConfigFault, PluginError, PluginInfo, Result};

/// Longest text of a self-description in bytes. All of them stand in every prompt.
const MAX_DESCRIPTION: usize = 8192;

impl From<types::ConfigError> for ConfigFault {
    fn from(error: types::ConfigError) -> Self {
        match error {
            types::ConfigError::Malformed(what) => ConfigFault::Malformed(what),
            types::ConfigError::BadValue(types::BadValue { field, found, expected }) => ConfigFault::BadValue { field, found, expected },
        }
    }
}

impl PluginInfo {
    /// The plugin refused its configuration.
    pub(crate) fn refused(&self, error: types::ConfigError) -> PluginError {
        PluginError::Config { plugin: self.name.clone(), fault: error.into() }
    }

    /// The plugin's answer breaks the contract.
    pub(crate) fn bad(&self, found: impl Into<String>, expected: impl Into<String>) -> PluginError {
        PluginError::BadAnswer { plugin: self.name.clone(), found: found.into(), expected: expected.into() }
    }

    /// The plugin reported an error of its own.
    pub(crate) fn internal(&self, message: String) -> PluginError {
        PluginError::Internal { plugin: self.name.clone(), message }
    }

    /// Compares an amount of output with its limit.
    pub(crate) fn within(&self, what: &'static str, found: u64, limit: u64, field: &'static str) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        Err(PluginError::OutputTooLong { plugin: self.name.clone(), what, found: found.to_string(), limit, field })
    }

    /// One line of a self-description: not blank, and without anything that a chat template takes for control.
    pub(crate) fn line(&self, field: &str, text: &str) -> Result<()> {
        self.plain(field, text)?;
        match text.trim().is_empty() || text.contains('\n') {
            true => Err(self.bad(format!("{field} {text:?}"), "one line that is not blank")),
            false => Ok(()),
        }
    }

    /// A text of a self-description without control tokens.
    pub(crate) fn plain(&self, field: &str, text: &str) -> Result<()> {
        if text.len() > MAX_DESCRIPTION {
            return Err(self.bad(format!("{field} of {} bytes", text.len()), format!("at most {MAX_DESCRIPTION} bytes")));
        }
        match text.contains("<|") {
            true => Err(self.bad(format!("{field} {text:?}"), "no control tokens of chat templates (`<|`)")),
            false => Ok(()),
        }
    }
}

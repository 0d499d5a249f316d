//! Search tools.

use crate::ConfigError;
pub use crate::bindings::exports::tool::{CallForm, CallInput as Input, Description, EncodedImage, Part, ToolError};
use crate::corpus::CorpusError;

/// A tool that the policy may call.
pub trait Tool {
    /// The plugin's configuration: the manifest's `[config]` table.
    type Config: miniserde::Deserialize;

    /// The tool's self-description. The host composes the system prompt from it.
    ///
    /// # Errors
    /// When the configuration is unusable.
    fn describe(config: &Self::Config) -> Result<Description, ConfigError>;

    /// Answers one call.
    ///
    /// # Errors
    /// Say what went wrong with the fitting variant; the policy sees a short text and the episode goes on.
    fn call(config: &Self::Config, input: Input) -> Result<Vec<Part>, ToolError>;
}

impl From<ConfigError> for ToolError {
    fn from(error: ConfigError) -> Self {
        ToolError::Config(error)
    }
}

impl From<CorpusError> for ToolError {
    fn from(error: CorpusError) -> Self {
        ToolError::Unavailable(match error {
            CorpusError::NotGranted(how) => format!("corpus not granted: {how}"),
            CorpusError::TooMany(most) => format!("at most {most} hits can be asked for"),
            CorpusError::Failed(why) => why,
        })
    }
}

/// Exports a [`Tool`](tool::Tool) as the component's `search-tool` world.
#[macro_export]
macro_rules! export_tool {
    ($tool:ty) => {
        struct MmhostComponent;
        impl $crate::bindings::exports::tool::Guest for MmhostComponent {
            fn describe() -> Result<$crate::tool::Description, $crate::ConfigError> {
                <$tool as $crate::tool::Tool>::describe(&$crate::config()?)
            }
            fn call(
                input: $crate::tool::Input,
            ) -> Result<Vec<$crate::tool::Part>, $crate::tool::ToolError> {
                <$tool as $crate::tool::Tool>::call(&$crate::config()?, input)
            }
        }
        $crate::bindings::tool::export_search_tool!(MmhostComponent with_types_in $crate::bindings::tool);
    };
}

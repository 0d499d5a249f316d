//! What plugins report of themselves, through the contract.

/// An error that a tool reports through the contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ToolError {
    /// The argument makes no sense to the tool; says what would.
    #[error("bad argument: {0}")]
    BadArgument(String),
    /// The tool needs an image and the question has none.
    #[error("the question has no image")]
    MissingImage,
    /// The search worked and found nothing.
    #[error("nothing found")]
    NothingFound,
    /// A service behind the tool refused or failed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Anything else that is the plugin's own fault.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why a plugin refused its configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigFault {
    /// It is not the JSON object that the plugin expects.
    #[error("{0}")]
    Malformed(String),
    /// A field has an unusable value.
    #[error("field `{field}`: found {found}, expected {expected}")]
    BadValue {
        /// The field.
        field: String,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
}

//! What can go wrong when a model is read, written or run.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A field of a configuration file that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}: field `{field}`: found {found}, expected {expected}{hint}")]
pub struct FieldError {
    /// The file (or the name of the preset) that holds the field.
    pub file: String,
    /// Dotted path of the field.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// Empty, or `; hint: …`: what to change.
    pub hint: String,
}

/// Error of this crate. Every message names the file or the value that is wrong, and what was expected in its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration field is unknown, missing, of the wrong type or out of range.
    #[error(transparent)]
    Config(#[from] Box<FieldError>),
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file that a model folder must have is not there.
    #[error("{}: the model folder has no {file}; hint: {hint}", dir.display())]
    MissingFile {
        /// The model folder.
        dir: PathBuf,
        /// The missing file, or the names of which one must exist.
        file: String,
        /// What to do.
        hint: &'static str,
    },
    /// A JSON file does not parse.
    #[error("{}: not valid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why parsing stopped.
        reason: String,
    },
    /// A safetensors shard is cut short, damaged or no safetensors file at all.
    #[error("{}: damaged weight shard: {reason}; hint: fetch or copy the file again", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weight files lack a tensor that the configuration asks for.
    #[error("{}: tensor `{name}` is missing, expected shape {expected:?}; hint: does config.json belong to these weights?", dir.display())]
    MissingTensor {
        /// The model folder.
        dir: PathBuf,
        /// The tensor's Hugging Face name.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// The weight files hold a tensor that the configuration has no place for.
    #[error("{}: tensor `{name}` has no place in the model that config.json describes; hint: does config.json belong to these weights?", path.display())]
    UnexpectedTensor {
        /// The shard.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{}: tensor `{name}` has shape {found:?}, expected {expected:?} from config.json", path.display())]
    TensorShape {
        /// The shard.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error("{}: tensor `{name}` is stored as {found}, expected F32, BF16 or F16", path.display())]
    TensorDtype {
        /// The shard.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// The format in the file.
        found: String,
    },
    /// The weights in memory lack a parameter that the configuration asks for.
    #[error("parameter `{name}`: {problem}, expected shape {expected:?}; hint: these weights were made for another configuration")]
    Parameter {
        /// The parameter's packed name.
        name: String,
        /// What is wrong.
        problem: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
    },
    /// The tokenizer cannot be read, trained or used.
    #[error("tokenizer{}: {reason}", in_file(path))]
    Tokenizer {
        /// The file, where one is at fault.
        path: Option<PathBuf>,
        /// What is wrong.
        reason: String,
    },
    /// A chat template does not parse, or does not render these messages.
    #[error("chat template{}: {reason}", in_file(path))]
    Template {
        /// The file, where it was read from one.
        path: Option<PathBuf>,
        /// What is wrong.
        reason: String,
    },
    /// An image cannot be decoded.
    #[error("image{}: not readable: {reason}; expected PNG, JPEG or WebP data", in_file(path))]
    ImageDecode {
        /// The image file, where it came from one.
        path: Option<PathBuf>,
        /// Why decoding failed.
        reason: String,
    },
    /// An image cannot be scaled to what the model reads.
    #[error("image of {width}×{height} pixels: {problem}")]
    ImageSize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What is wrong.
        problem: String,
    },
    /// Image placeholders in the tokens and images beside them do not match.
    #[error("image tokens and images do not match: {problem}")]
    ImageTokens {
        /// Found and expected numbers.
        problem: String,
    },
    /// A packed batch contradicts itself.
    #[error("malformed batch: {problem}")]
    Batch {
        /// Found and expected numbers.
        problem: String,
    },
    /// A file of chat messages has the wrong form.
    #[error("{}: {at}: found {found}, expected {expected}", path.display())]
    Messages {
        /// The file.
        path: PathBuf,
        /// Where in the file, as in `messages[1].content[0].type`.
        at: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A tensor operation failed (shapes, device memory).
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

fn in_file(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default()
}

impl Error {
    /// An [`Error::Io`] for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Config`].
    pub(crate) fn field(file: &str, field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Config(Box::new(FieldError {
            file: file.to_owned(),
            field: field.into(),
            found: found.into(),
            expected: expected.into(),
            hint: String::new(),
        }))
    }
}

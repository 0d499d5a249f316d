//! How the program fails: whose fault it was decides the exit code.

use std::fmt::Display;

/// Exit code of a wrong command line (clap uses the same).
pub const EXIT_USAGE: u8 = 2;
/// Exit code of bad input: a file, a configuration, a plugin, a data set, a full disk.
pub const EXIT_INPUT: u8 = 3;
/// Exit code of a fault of this program: a violated invariant, a failing kernel.
pub const EXIT_INTERNAL: u8 = 4;

/// A failed command.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something impossible.
    Usage(String),
    /// Something given to the program is wrong; the message says what to do.
    Input(anyhow::Error),
    /// The program itself is wrong.
    Internal(anyhow::Error),
}

/// Result of a command.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Input(_) => EXIT_INPUT,
            Self::Internal(_) => EXIT_INTERNAL,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Input(error) => write!(f, "{error:#}"),
            Self::Internal(error) => write!(f, "internal error: {error:#}"),
        }
    }
}

/// Says whose fault an error is.
pub trait Blame<T> {
    /// The input's, with what was being done.
    fn input(self, doing: impl Display) -> Outcome<T>;
    /// This program's, with what was being done.
    fn internal(self, doing: impl Display) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn input(self, doing: impl Display) -> Outcome<T> {
        self.map_err(|e| Failure::Input(e.into().context(doing.to_string())))
    }

    fn internal(self, doing: impl Display) -> Outcome<T> {
        self.map_err(|e| Failure::Internal(e.into().context(doing.to_string())))
    }
}

/// An input failure with a message of our own.
pub fn bad_input(message: impl Display) -> Failure {
    Failure::Input(anyhow::anyhow!("{message}"))
}

//! Finding the tools of other languages, and running them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How much of what a failed tool said is shown.
const TAIL_LINES: usize = 60;

/// A program with its first arguments.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    program: PathBuf,
    args: Vec<&'static str>,
}

impl Tool {
    /// A program of the search path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Tool { program: program.into(), args: Vec::new() }
    }

    /// The same with these arguments before all others.
    pub fn with(mut self, args: &[&'static str]) -> Self {
        self.args = args.into();
        self
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }

    /// What it says of itself in one line, or `None` when it does not run.
    pub fn version(&self, args: &[&str]) -> Option<String> {
        let output = self.command().args(args).output().ok().filter(|output| output.status.success())?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.lines().next().map(|line| line.trim().to_string()).filter(|line| !line.is_empty())
    }
}

/// `program` in the folder `within` (e.g. `.venv/bin`) of the plugin's folder or of one above it, innermost first, then that of the
/// search path.
pub(super) fn candidates(folder: &Path, within: &str, program: &str) -> Vec<Tool> {
    let local = folder.ancestors().map(|above| above.join(within).join(program)).filter(|file| file.is_file());
    local.map(Tool::new).chain([Tool::new(program)]).collect()
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails, with the end of what it said.
pub(super) fn run(name: &str, command: &mut Command) -> Result<Output, String> {
    // A backtrace through the tool's own code tells an author nothing.
    command.env_remove("RUST_BACKTRACE");
    let output = command.output().map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    // Some tools complain on standard output.
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Cargo's messages for programs stand among those for people.
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("{\"reason\":")).collect();
    Err(format!("{name} failed ({}):\n{}", output.status, said[said.len().saturating_sub(TAIL_LINES)..].join("\n")))
}

/// A folder that is removed when the build is over.
pub(super) fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("there is no room for a temporary folder: {error}"))
}

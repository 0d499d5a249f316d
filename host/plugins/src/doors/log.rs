//! The door `log`: what guests say, capped, and passed on to the host's own log.

use super::CallState;
use crate::bindings::imports::log;
pub(crate) use log::Level;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest line in bytes; the rest is cut.
const MAX_LINE_BYTES: usize = 2000;

/// The messages of one call. Clones share them: standard output and standard error write here too.
#[derive(Debug, Clone)]
pub(crate) struct CallLog {
    plugin: String,
    max_lines: u64,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    count: u64,
    dropped: u64,
    last_error: Option<String>,
}

impl CallLog {
    pub fn new(plugin: String, max_lines: u64) -> Self {
        CallLog { plugin, max_lines, lines: Arc::default() }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes one message on, unless the call has said enough already.
    pub fn write(&self, level: Level, message: &str) {
        let message = clean(message);
        if matches!(level, Level::Warn | Level::Error) {
            self.remember(&message);
        }
        let mut lines = self.lines();
        if lines.count >= self.max_lines {
            lines.dropped += 1;
            return;
        }
        lines.count += 1;
        drop(lines);
        let plugin = &self.plugin;
        match level {
            Level::Debug => tracing::debug!(target: "plugin", "{plugin}: {message}"),
            Level::Info => tracing::info!(target: "plugin", "{plugin}: {message}"),
            Level::Warn => tracing::warn!(target: "plugin", "{plugin}: {message}"),
            Level::Error => tracing::error!(target: "plugin", "{plugin}: {message}"),
        }
    }

    /// Keeps what may explain a trap that follows.
    pub fn remember(&self, message: &str) {
        if !message.is_empty() {
            self.lines().last_error = Some(clean(message));
        }
    }

    /// The last warning or error, which explains a trap.
    pub fn last_error(&self) -> Option<String> {
        self.lines().last_error.clone()
    }

    /// Says how much was dropped, if anything was.
    pub fn close(&self) {
        let dropped = self.lines().dropped;
        if dropped > 0 {
            tracing::warn!(target: "plugin", "{}: {dropped} more log lines dropped", self.plugin);
        }
    }
}

/// One line without control characters, which could repaint the terminal of whoever reads the log.
fn clean(message: &str) -> String {
    let mut end = message.len().min(MAX_LINE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let kept = message[..end].trim_end();
    kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl log::Host for CallState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.log.write(level, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cleaned_cut_and_counted() {
        assert_eq!(clean("a\u{1b}[31mb\nc\n"), "a [31mb c");
        assert_eq!(clean(&"é".repeat(2000)).len(), MAX_LINE_BYTES);
        let log = CallLog::new("p".into(), 2);
        for line in ["one", "two", "three"] {
            log.write(Level::Warn, line);
        }
        let lines = log.lines();
        assert_eq!((lines.count, lines.dropped), (2, 1));
        drop(lines);
        assert_eq!(log.last_error().as_deref(), Some("three"));
    }
}

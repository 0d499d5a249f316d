//! What a call may use, and the bookkeeping that enforces it.

use crate::PluginError;
use crate::runtime::MAX_CONCURRENT_CALLS;
use std::path::Path;
use wasmtime::ResourceLimiter;

/// Limits of every call of a plugin: the manifest's `[limits]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest duration of a call in milliseconds, host services included.
    pub deadline_ms: u64,
    /// Most linear memory in mebibytes.
    pub memory_mib: u64,
    /// Most bytes of an answer: texts and images together.
    pub output_bytes: u64,
    /// Most images of an answer.
    pub output_images: u64,
    /// Most pixels of one image of an answer.
    pub output_pixels: u64,
    /// Most tokens that an answer, its images included, may add to the model's context.
    pub output_tokens: u64,
    /// Most log lines of a call; the rest is counted and dropped.
    pub log_lines: u64,
    /// Most fuel of a call, about one for each instruction; 0 does not count it. Unlike the deadline it ends a call at the same place on every
    /// machine. A plugin with counted fuel computes about 40 % slower.
    pub fuel: u64,
    /// Most calls at once; one beyond them waits.
    pub concurrent_calls: u64,
    /// Most HTTP requests of a call; repeated and redirected ones count again.
    pub http_requests: u64,
    /// Most bytes of the bodies of a call's requests and answers together.
    pub http_bytes: u64,
    /// Most completions that a call may ask models for.
    pub completions: u64,
    /// Most tokens of those, conversations and answers together.
    pub completion_tokens: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            deadline_ms: 10_000,
            memory_mib: 64,
            output_bytes: 4 << 20,
            output_images: 16,
            output_pixels: 16 << 20,
            output_tokens: 8192,
            log_lines: 32,
            fuel: 0,
            concurrent_calls: 64,
            http_requests: 16,
            http_bytes: 8 << 20,
            completions: 256,
            completion_tokens: 1 << 20,
        }
    }
}

/// Largest value that a manifest may ask for, field by field.
pub const CEILING: Limits = Limits {
    deadline_ms: 600_000,
    memory_mib: 256,
    output_bytes: 64 << 20,
    output_images: 64,
    output_pixels: 64 << 20,
    output_tokens: 1 << 20,
    log_lines: 1000,
    fuel: u64::MAX >> 1,
    concurrent_calls: MAX_CONCURRENT_CALLS as u64,
    http_requests: 256,
    http_bytes: 64 << 20,
    completions: 4096,
    completion_tokens: 16 << 20,
};

impl Limits {
    /// The fields by name.
    pub fn fields(&self) -> [(&'static str, u64); 13] {
        [
            ("deadline_ms", self.deadline_ms),
            ("memory_mib", self.memory_mib),
            ("output_bytes", self.output_bytes),
            ("output_images", self.output_images),
            ("output_pixels", self.output_pixels),
            ("output_tokens", self.output_tokens),
            ("log_lines", self.log_lines),
            ("fuel", self.fuel),
            ("concurrent_calls", self.concurrent_calls),
            ("http_requests", self.http_requests),
            ("http_bytes", self.http_bytes),
            ("completions", self.completions),
            ("completion_tokens", self.completion_tokens),
        ]
    }

    /// Compares each field with its ceiling; deadline, memory and concurrent calls must be positive too.
    ///
    /// # Errors
    /// [`PluginError::Field`] for the first field out of range.
    pub fn check(&self, manifest: &Path) -> Result<(), PluginError> {
        for ((field, value), (_, most)) in self.fields().into_iter().zip(CEILING.fields()) {
            let least = u64::from(matches!(field, "deadline_ms" | "memory_mib" | "concurrent_calls"));
            if !(least..=most).contains(&value) {
                return Err(PluginError::Field {
                    file: manifest.into(),
                    field: format!("limits.{field}"),
                    found: value.to_string(),
                    expected: format!("{least} to {most}"),
                });
            }
        }
        Ok(())
    }
}

/// Most core instances that one component may consist of (Python's have 38).
pub(crate) const MAX_INSTANCES: usize = 48;
/// Most memories of a component.
pub(crate) const MAX_MEMORIES: usize = 2;
/// Most tables of a component.
pub(crate) const MAX_TABLES: usize = 8;
/// Most elements of a table.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 20_000;
/// Handles that a call may hold beside those that it was given.
pub(crate) const SPARE_HANDLES: usize = 1024;

/// The limit that a guest ran into first. A trap that follows is only its consequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Deadline,
    Memory,
    TableElements,
}

/// Counts the memory of one call and refuses what exceeds the limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Most bytes of all memories together.
    max_bytes: usize,
    /// Bytes of all memories now; they never shrink.
    bytes: usize,
    /// The limit that was exceeded.
    pub fault: Option<Fault>,
}

impl Limiter {
    pub fn new(limits: &Limits) -> Self {
        Limiter { max_bytes: (limits.memory_mib << 20) as usize, bytes: 0, fault: None }
    }

    /// Largest amount of memory held so far in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.bytes as u64
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.max_bytes {
            self.fault = Some(Fault::Memory);
            // A trap rather than a failed `memory.grow`: few guests survive the latter, and then with misleading messages.
            return Err(wasmtime::Error::msg("memory limit exceeded"));
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.fault = Some(Fault::TableElements);
            return Err(wasmtime::Error::msg("table limit exceeded"));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

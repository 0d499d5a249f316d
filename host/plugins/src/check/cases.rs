//! The author's own tests: files `tests/*.json` in the plugin's folder, each one call with the answer that it must give.

use super::Checker;
use crate::call::{Function, Subject};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A test.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The function to call; the one that does the work of the plugin's kind if absent.
    function: Option<Function>,
    /// Its input, as for `mmhost plugin call`. Paths of images are relative to the file.
    #[serde(default)]
    input: Value,
    /// The answer, as `mmhost plugin call` prints it under `result`.
    expect: Value,
}

impl Checker {
    pub(super) async fn cases(&mut self, subject: &Subject) {
        for file in files(&self.folder.join("tests")) {
            let place = file.display().to_string();
            let why = "a test says what its author relies on";
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) => {
                    self.error("test", place, format!("cannot be read: {error}"), why, "make it readable");
                    continue;
                }
            };
            let case: Case = match serde_json::from_str(&text) {
                Ok(case) => case,
                Err(error) => {
                    let help = "write {\"input\": …, \"expect\": …}, and \"function\" for another than the plugin's main one";
                    self.error("test", place, format!("is not a test: {error}"), why, help);
                    continue;
                }
            };
            let base = file.parent().unwrap_or(Path::new("."));
            match subject.run(case.function.unwrap_or(subject.function()), &case.input, base).await {
                Err(error) => self.error("test", place, format!("the call fails: {error}"), why, "mend the plugin or the test"),
                Ok((found, cost)) => {
                    self.spent(cost);
                    if !same(&found, &case.expect) {
                        let what = format!("found {found}, expected {}", case.expect);
                        self.error("test", place, what, why, "mend the plugin or the test");
                    }
                }
            }
        }
    }
}

/// The tests of a folder, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// Equality where 1 is 1.0 and the last digits of a number do not count.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        _ => a == b,
    }
}

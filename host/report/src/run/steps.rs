//! `metrics.jsonl` by column, whatever columns it has.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::growing::{Growing, Look};

/// The numbers of every step. A field of an object is a column of its own: `image_search_ratio.search_free`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Steps {
    /// The steps on record, ascending.
    pub step: Vec<usize>,
    /// By column, one value per step; `null` where a step has none.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

/// `metrics.jsonl` as it grows.
#[derive(Debug, Default)]
pub(crate) struct StepsReader {
    file: Growing,
    /// A step on record twice was done again after a resume: the later line counts.
    rows: BTreeMap<usize, BTreeMap<String, f64>>,
    damaged: Vec<usize>,
    unreadable: Option<String>,
}

impl StepsReader {
    /// Reads what was added to `path`; says whether anything is new.
    pub fn read(&mut self, path: &Path) -> bool {
        let before = self.file.lines;
        let bytes = match self.file.look(path) {
            Ok(Look::Same) => return false,
            Ok(Look::More(bytes)) => bytes,
            Ok(Look::Anew) => {
                *self = Self::default();
                self.read(path);
                return true;
            }
            Err(error) => {
                let told = Some(format!("metrics.jsonl cannot be read: {error}."));
                return std::mem::replace(&mut self.unreadable, told.clone()) != told;
            }
        };
        self.unreadable = None;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
            match row(line) {
                Some((step, values)) => drop(self.rows.insert(step, values)),
                None => self.damaged.push(before + index + 1),
            }
        }
        true
    }

    /// The last step on record.
    pub fn last_step(&self) -> Option<usize> {
        self.rows.last_key_value().map(|(step, _)| *step)
    }

    /// What has been read; what could not be is named in `problems`.
    pub fn steps(&self, problems: &mut Vec<String>) -> Steps {
        problems.extend(self.unreadable.clone());
        if self.file.partial {
            problems.push(format!("metrics.jsonl line {} was not written to its end and is left out.", self.file.lines + 1));
        }
        if let Some(first) = self.damaged.first() {
            let n = self.damaged.len();
            problems.push(format!("metrics.jsonl: {n} damaged line(s) are left out, the first is line {first}."));
        }
        Steps::from_rows(&self.rows)
    }
}

impl Steps {
    /// Reads `path`. Lines that cannot be read are counted in `problems`; no file is no steps.
    pub fn read(path: &Path, problems: &mut Vec<String>) -> Self {
        let mut reader = StepsReader::default();
        reader.read(path);
        reader.steps(problems)
    }

    fn from_rows(rows: &BTreeMap<usize, BTreeMap<String, f64>>) -> Self {
        let mut columns: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for (at, values) in rows.values().enumerate() {
            for (name, value) in values {
                let column = columns.entry(name.clone()).or_default();
                column.resize(at, None);
                column.push(Some(*value));
            }
        }
        let num_steps = rows.len();
        columns.values_mut().for_each(|column| column.resize(num_steps, None));
        Self { step: rows.keys().copied().collect(), columns }
    }

    /// Whether nothing is on record.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// The last step on record.
    pub fn last_step(&self) -> Option<usize> {
        self.step.last().copied()
    }

    /// The last value of a column.
    pub fn last(&self, column: &str) -> Option<f64> {
        *self.columns.get(column)?.last()?
    }
}

fn row(line: &[u8]) -> Option<(usize, BTreeMap<String, f64>)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let fields = value.as_object()?;
    let step = usize::try_from(fields.get("step")?.as_u64()?).ok()?;
    let mut values = BTreeMap::new();
    for (name, field) in fields.iter().filter(|(name, _)| *name != "step") {
        match field {
            Value::Object(inner) => {
                values.extend(inner.iter().filter_map(|(key, number)| Some((format!("{name}.{key}"), number.as_f64()?))));
            }
            other => values.extend(other.as_f64().map(|number| (name.clone(), number))),
        }
    }
    Some((step, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(text: &str) -> (Steps, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, text).unwrap();
        let mut problems = Vec::new();
        let steps = Steps::read(&path, &mut problems);
        (steps, problems)
    }

    #[test]
    fn nested_fields_become_columns_and_late_columns_start_with_nothing() {
        let (steps, problems) = read("{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":2,\"r\":{\"x\":0.5}}\n");
        assert_eq!(steps.step, [1, 2]);
        assert_eq!(steps.columns["a"], [Some(1.0), Some(2.0)]);
        assert_eq!(steps.columns["r.x"], [None, Some(0.5)]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn damaged_and_truncated_lines_are_named_and_a_repeated_step_counts_once() {
        let (steps, problems) = read("{\"step\":1,\"a\":1}\nnonsense\n{\"step\":1,\"a\":3}\n{\"step\":2,\"a\"");
        assert_eq!((steps.step, steps.columns["a"].clone()), (vec![1], vec![Some(3.0)]));
        assert!(problems.iter().any(|p| p.contains("line 2")) && problems.iter().any(|p| p.contains("line 4")), "{problems:?}");
    }
}

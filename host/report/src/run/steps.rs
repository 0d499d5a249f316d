//! `metrics.jsonl` by column, whatever columns it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// The numbers of every step. A field of an object is a column of its own: `image_search_ratio.search_free`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Steps {
    /// The steps on record, ascending.
    pub step: Vec<usize>,
    /// By column, one value per step; `null` where a step has none.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

impl Steps {
    /// Reads `path`. Lines that cannot be read are counted in `problems`; no file is no steps.
    pub fn read(path: &Path, problems: &mut Vec<String>) -> Self {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                problems.push(format!("metrics.jsonl cannot be read: {error}."));
                return Self::default();
            }
        };
        // A step on record twice was done again after a resume: the later line counts.
        let mut rows: BTreeMap<usize, BTreeMap<String, f64>> = BTreeMap::new();
        let mut damaged = Vec::new();
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Some(whole) = line.strip_suffix(b"\n") else {
                problems.push(format!("metrics.jsonl line {} was not written to its end and is left out.", index + 1));
                break;
            };
            if whole.trim_ascii().is_empty() {
                continue;
            }
            match row(whole) {
                Some((step, values)) => drop(rows.insert(step, values)),
                None => damaged.push(index + 1),
            }
        }
        if let Some(first) = damaged.first() {
            let n = damaged.len();
            problems.push(format!("metrics.jsonl: {n} damaged line(s) are left out, the first is line {first}."));
        }
        Self::from_rows(rows)
    }

    fn from_rows(rows: BTreeMap<usize, BTreeMap<String, f64>>) -> Self {
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
        Self { step: rows.into_keys().collect(), columns }
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

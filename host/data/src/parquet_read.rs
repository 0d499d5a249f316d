//! Reading the FVQA schema.

use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray, StructArray, types};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::error::{Error, Result};
use crate::sample::{Sample, SampleImage, parse_candidates, question_of, read_beside};

/// Rows decoded at a time.
const BATCH: usize = 64;

/// Schema of a file, without reading rows.
pub(crate) fn schema(path: &Path) -> Result<SchemaRef> {
    guarded(path, || Ok(builder(path)?.schema().clone()))
}

/// Every row as a sample.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>> {
    guarded(path, || {
        let builder = builder(path)?;
        let names: Vec<String> = builder.schema().fields().iter().map(|f| f.name().clone()).collect();
        for column in ["prompt", "images", "reward_model"] {
            if !names.iter().any(|n| n == column) {
                return Err(Error::MissingColumn { path: path.to_owned(), column: column.into(), present: names.join(", ") });
            }
        }
        let reader = builder.with_batch_size(BATCH).build().map_err(|e| broken(path, e))?;
        let mut samples = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|e| broken(path, e))?;
            rows(path, &batch, &mut samples)?;
        }
        Ok(samples)
    })
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // The Arrow schema that writers embed only chooses between string types; without it there is one of each kind to handle.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|e| broken(path, e))
}

fn broken(path: &Path, e: impl std::fmt::Display) -> Error {
    Error::Parquet { path: path.to_owned(), problem: e.to_string() }
}

thread_local! {
    /// Whether a panic on this thread is about to be turned into an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Damaged files can trip assertions inside the Parquet decoder; for the caller that is one more kind of unreadable file, so the
/// panic becomes an error and its backtrace is not printed.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIETED: Once = Once::new();
    QUIETED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                report(info);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.unwrap_or_else(|panic| {
        let word = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(broken(path, word.unwrap_or_else(|| "its contents are damaged".into())))
    })
}

/// One batch and where it comes from.
struct Rows<'a> {
    path: &'a Path,
    /// Number of the batch's first row.
    first: usize,
}

impl Rows<'_> {
    fn bad_row(&self, row: usize, column: &str, problem: impl Into<String>) -> Error {
        Error::Row { path: self.path.to_owned(), unit: "row", row: self.first + row, column: column.into(), problem: problem.into() }
    }

    fn bad_type(&self, column: &str, expected: &'static str, array: &dyn Array) -> Error {
        Error::ColumnType { path: self.path.to_owned(), column: column.into(), expected, found: array.data_type().to_string() }
    }

    /// Strings of a column; `None` for one that is null throughout.
    fn strings(&self, column: &str, array: &ArrayRef) -> Result<Option<StringArray>> {
        match array.data_type() {
            DataType::Utf8 => Ok(Some(array.as_string::<i32>().clone())),
            DataType::Null => Ok(None),
            // Identifiers are often numbers.
            DataType::Int64 => Ok(Some(array.as_primitive::<types::Int64Type>().iter().map(|v| v.map(|v| v.to_string())).collect())),
            DataType::Int32 => Ok(Some(array.as_primitive::<types::Int32Type>().iter().map(|v| v.map(|v| v.to_string())).collect())),
            _ => Err(self.bad_type(column, "strings", array)),
        }
    }

    fn list_of_structs(&self, column: &str, expected: &'static str, array: &ArrayRef) -> Result<Option<(ListArray, StructArray)>> {
        match array.data_type() {
            DataType::Null => Ok(None),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                match list.values().data_type() {
                    DataType::Struct(_) => Ok(Some((list.clone(), list.values().as_struct().clone()))),
                    _ => Err(self.bad_type(column, expected, array)),
                }
            }
            _ => Err(self.bad_type(column, expected, array)),
        }
    }

    fn field(&self, column: &str, name: &str, structs: &StructArray) -> Result<ArrayRef> {
        structs.column_by_name(name).cloned().ok_or_else(|| Error::MissingColumn {
            path: self.path.to_owned(),
            column: format!("{column}.{name}"),
            present: format!("{column} with the fields {}", structs.column_names().join(", ")),
        })
    }
}

fn text(strings: Option<&StringArray>, row: usize) -> Option<&str> {
    strings.filter(|s| s.is_valid(row)).map(|s| s.value(row))
}

/// Elements of row `row`; empty for a null list.
fn span(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    if list.is_null(row) {
        return 0..0;
    }
    let offsets = list.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

fn rows(path: &Path, batch: &RecordBatch, samples: &mut Vec<Sample>) -> Result<()> {
    let at = Rows { path, first: samples.len() };
    let column = |name: &str| batch.column_by_name(name);
    // The three needed columns were checked before; an absent one here reads as null.
    let null: ArrayRef = Arc::new(arrow_array::NullArray::new(batch.num_rows()));
    let needed = |name: &str| column(name).unwrap_or(&null);

    let prompt = at.list_of_structs("prompt", "a list of {role, content}", needed("prompt"))?;
    let prompt = prompt
        .map(|(list, message)| {
            let role = at.strings("prompt.role", &at.field("prompt", "role", &message)?)?;
            let content = at.strings("prompt.content", &at.field("prompt", "content", &message)?)?;
            Ok::<_, Error>((list, role, content))
        })
        .transpose()?;
    let images = Images::of(&at, needed("images"))?;

    let reward = needed("reward_model");
    let DataType::Struct(_) = reward.data_type() else {
        return Err(at.bad_type("reward_model", "a struct {ground_truth, candidate_answers, style}", reward));
    };
    let reward = reward.as_struct();
    let truth = at.strings("reward_model.ground_truth", &at.field("reward_model", "ground_truth", reward)?)?;
    let candidates = reward.column_by_name("candidate_answers").map(|a| Candidates::of(&at, a)).transpose()?;

    let optional = |name: &str| column(name).map(|a| at.strings(name, a)).transpose().map(Option::flatten);
    let (data_source, data_id, category) = (optional("data_source")?, optional("data_id")?, optional("category")?);
    let urls = column("image_urls").map(|a| Urls::of(&at, a)).transpose()?;
    let file_name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();

    for row in 0..batch.num_rows() {
        let question = prompt
            .as_ref()
            .and_then(|(list, role, content)| {
                question_of(span(list, row).filter_map(|i| Some((text(role.as_ref(), i).unwrap_or("user"), text(content.as_ref(), i)?))))
            })
            .ok_or_else(|| {
                at.bad_row(row, "prompt", "no user message with text; expected [{\"role\": \"user\", \"content\": QUESTION}]")
            })?;
        if reward.is_null(row) {
            return Err(at.bad_row(row, "reward_model", "null; expected a struct with `ground_truth`"));
        }
        samples.push(Sample {
            id: text(data_id.as_ref(), row).map_or_else(|| (at.first + row).to_string(), str::to_owned),
            question,
            images: images.row(&at, row)?,
            ground_truth: text(truth.as_ref(), row).unwrap_or_default().to_owned(),
            candidate_answers: candidates.as_ref().map_or(Ok(Vec::new()), |c| c.row(&at, row))?,
            data_source: text(data_source.as_ref(), row).unwrap_or(&file_name).to_owned(),
            category: text(category.as_ref(), row).map(str::to_owned),
            image_urls: urls.as_ref().map_or(Vec::new(), |u| u.row(row)),
            tags: Vec::new(),
        });
    }
    Ok(())
}

/// `images`: a list of {bytes, path}, or one such struct.
struct Images {
    list: Option<ListArray>,
    present: Option<StructArray>,
    bytes: Option<ArrayRef>,
    path: Option<StringArray>,
}

impl Images {
    fn of(at: &Rows, array: &ArrayRef) -> Result<Self> {
        let (list, structs) = match array.data_type() {
            DataType::Struct(_) => (None, Some(array.as_struct().clone())),
            _ => at.list_of_structs("images", "a list of {bytes, path}", array)?.map_or((None, None), |(l, s)| (Some(l), Some(s))),
        };
        let Some(structs) = structs else { return Ok(Self { list, present: None, bytes: None, path: None }) };
        let bytes = at.field("images", "bytes", &structs)?;
        let bytes = match bytes.data_type() {
            DataType::Binary => Some(bytes),
            DataType::Null => None,
            _ => return Err(at.bad_type("images.bytes", "binary", &bytes)),
        };
        let path = structs.column_by_name("path").map(|a| at.strings("images.path", a)).transpose()?.flatten();
        Ok(Self { list, present: Some(structs), bytes, path })
    }

    fn row(&self, at: &Rows, row: usize) -> Result<Vec<SampleImage>> {
        let Some(present) = &self.present else { return Ok(Vec::new()) };
        let elements = match &self.list {
            Some(list) => span(list, row),
            None => row..row + 1,
        };
        elements
            .filter(|&i| present.is_valid(i))
            .filter_map(|i| {
                let path = text(self.path.as_ref(), i).map(str::to_owned);
                let bytes = self.bytes.as_ref().map(|b| b.as_binary::<i32>()).filter(|b| b.is_valid(i)).map(|b| Arc::from(b.value(i)));
                match (bytes, &path) {
                    (Some(bytes), _) => Some(Ok(SampleImage { bytes, path })),
                    (None, Some(name)) => {
                        Some(read_beside(at.path, name).map(|bytes| SampleImage { bytes, path: path.clone() }).map_err(|e| {
                            at.bad_row(row, "images", format!("no bytes, and the file `{name}` (paths are relative to the data set) {e}"))
                        }))
                    }
                    (None, None) => None,
                }
            })
            .collect()
    }
}

/// `candidate_answers`: a JSON list as a string, or a list of strings.
enum Candidates {
    Json(Option<StringArray>),
    List(ListArray, Option<StringArray>),
}

impl Candidates {
    fn of(at: &Rows, array: &ArrayRef) -> Result<Self> {
        const COLUMN: &str = "reward_model.candidate_answers";
        match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let values = at.strings(COLUMN, list.values())?;
                Ok(Self::List(list, values))
            }
            _ => at.strings(COLUMN, array).map(Self::Json),
        }
    }

    fn row(&self, at: &Rows, row: usize) -> Result<Vec<String>> {
        match self {
            Self::Json(strings) => text(strings.as_ref(), row)
                .map_or(Ok(Vec::new()), parse_candidates)
                .map_err(|problem| at.bad_row(row, "reward_model.candidate_answers", problem)),
            Self::List(list, values) => Ok(span(list, row).filter_map(|i| text(values.as_ref(), i)).map(str::to_owned).collect()),
        }
    }
}

/// `image_urls`: a list of strings, or one string.
enum Urls {
    One(Option<StringArray>),
    List(ListArray, Option<StringArray>),
}

impl Urls {
    fn of(at: &Rows, array: &ArrayRef) -> Result<Self> {
        match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let values = at.strings("image_urls", list.values())?;
                Ok(Self::List(list, values))
            }
            _ => at.strings("image_urls", array).map(Self::One),
        }
    }

    fn row(&self, row: usize) -> Vec<String> {
        match self {
            Self::One(strings) => text(strings.as_ref(), row).map(str::to_owned).into_iter().collect(),
            Self::List(list, values) => span(list, row).filter_map(|i| text(values.as_ref(), i)).map(str::to_owned).collect(),
        }
    }
}

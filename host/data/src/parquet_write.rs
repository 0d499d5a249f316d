//! Writing the FVQA schema.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::sample::Sample;

/// Rows held in memory as one batch.
const BATCH: usize = 256;

/// Writes samples in the FVQA Parquet schema: `prompt` [{content, role}], `images` [{bytes, path}], `reward_model` {candidate_answers,
/// ground_truth, style}, `data_source`, `image_urls`, `data_id`, `category`. Tags are not written: they are a filter's word on one run.
///
/// The file appears under its name only when it is complete.
///
/// # Errors
/// The file cannot be written.
pub fn write_parquet(path: &Path, samples: &[Sample]) -> Result<()> {
    let partial = path.with_extension("parquet.partial");
    let written = write(&partial, samples).and_then(|()| std::fs::rename(&partial, path).map_err(Error::io("write", path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn write(path: &Path, samples: &[Sample]) -> Result<()> {
    let failed = |e: parquet::errors::ParquetError| Error::Io { action: "write", path: path.to_owned(), source: std::io::Error::other(e) };
    let arrow_failed = |e: ArrowError| Error::Io { action: "write", path: path.to_owned(), source: std::io::Error::other(e) };
    let file = File::create(path).map_err(Error::io("create", path))?;
    let schema = batch(&[]).map_err(arrow_failed)?.schema();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(failed)?;
    for rows in samples.chunks(BATCH) {
        writer.write(&batch(rows).map_err(arrow_failed)?).map_err(failed)?;
        writer.flush().map_err(failed)?;
    }
    let file = writer.into_inner().map_err(failed)?;
    file.sync_all().map_err(Error::io("write", path))
}

fn batch(rows: &[Sample]) -> std::result::Result<RecordBatch, ArrowError> {
    let strings = |f: &dyn Fn(&Sample) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<StringArray>()) };

    let prompt = structs(vec![("content", strings(&|s| Some(s.question.clone()))), ("role", strings(&|_| Some("user".into())))])?;
    let prompt = list(prompt, rows.iter().map(|_| 1))?;

    let images = || rows.iter().flat_map(|s| &s.images);
    let bytes: ArrayRef = Arc::new(images().map(|i| Some(&i.bytes[..])).collect::<BinaryArray>());
    let paths: ArrayRef = Arc::new(images().map(|i| i.path.as_deref()).collect::<StringArray>());
    let images = list(structs(vec![("bytes", bytes), ("path", paths)])?, rows.iter().map(|s| s.images.len()))?;

    let reward_model = structs(vec![
        ("candidate_answers", strings(&|s| Some(serde_json::Value::from(s.candidate_answers.clone()).to_string()))),
        ("ground_truth", strings(&|s| Some(s.ground_truth.clone()))),
        ("style", strings(&|_| Some("rule".into()))),
    ])?;

    let urls: ArrayRef = Arc::new(rows.iter().flat_map(|s| &s.image_urls).map(|u| Some(u.as_str())).collect::<StringArray>());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("prompt", prompt),
        ("images", images),
        ("reward_model", reward_model),
        ("data_source", strings(&|s| Some(s.data_source.clone()))),
        ("image_urls", list(urls, rows.iter().map(|s| s.image_urls.len()))?),
        ("data_id", strings(&|s| Some(s.id.clone()))),
        ("category", strings(&|s| s.category.clone())),
    ];
    // Nullable throughout, also in a batch without nulls: all batches must have one schema.
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> std::result::Result<ArrayRef, ArrowError> {
    let fields: Fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    Ok(Arc::new(StructArray::try_new_with_length(
        fields,
        columns.iter().map(|(_, array)| array.clone()).collect(),
        None,
        columns.first().map_or(0, |(_, array)| array.len()),
    )?))
}

fn list(values: ArrayRef, lengths: impl Iterator<Item = usize>) -> std::result::Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("element", values.data_type().clone() as DataType, true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None)?))
}

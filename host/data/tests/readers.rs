//! Reading, writing and inspecting data sets, with good and bad contents.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, NullArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use image::RgbImage;
use mmhost_corpus::encode_png;
use mmhost_data::{Error, Sample, SampleImage, inspect, read, write_parquet};
use parquet::arrow::ArrowWriter;

fn png(value: u8) -> Arc<[u8]> {
    encode_png(&RgbImage::from_pixel(6, 4, image::Rgb([value; 3]))).into()
}

fn sample(id: &str) -> Sample {
    Sample {
        id: id.into(),
        question: "What is the capital of this country?".into(),
        images: vec![SampleImage { bytes: png(7), path: Some("a.png".into()) }],
        ground_truth: "Vienna".into(),
        candidate_answers: vec!["Wien".into(), "\"quoted\"".into()],
        data_source: "test".into(),
        category: Some("search_free".into()),
        image_urls: vec!["https://example.org/a.png".into()],
        tags: Vec::new(),
    }
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The FVQA sample that lies beside the repository during development.
fn mini() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fvqa-mini.parquet");
    if !path.exists() {
        println!("skipped: no fvqa-mini.parquet beside the repository");
        return None;
    }
    Some(path)
}

#[test]
fn what_is_written_reads_back() {
    let dir = temp();
    let path = dir.path().join("set.parquet");
    let mut bare = sample("bare");
    (bare.images, bare.candidate_answers, bare.category, bare.image_urls) = (Vec::new(), Vec::new(), None, Vec::new());
    let mut many = sample("many");
    many.images = vec![SampleImage { bytes: png(1), path: None }, SampleImage { bytes: png(2), path: Some("b".into()) }];
    // More rows than one batch of writer or reader holds.
    let samples: Vec<Sample> = (0..600).map(|i| sample(&format!("row {i}"))).chain([bare, many]).collect();
    write_parquet(&path, &samples).expect("written");
    let back = read(&path).expect("reads");
    assert_eq!(format!("{back:?}"), format!("{samples:?}"));
    assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1, "no partial file is left");
    write_parquet(&path, &[]).expect("an empty set is a set");
    assert!(read(&path).expect("reads").is_empty());
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let dir = temp();
    let message = write_parquet(&dir.path().join("no/such/folder.parquet"), &[sample("a")]).expect_err("no folder").to_string();
    assert!(message.contains("no/such"), "{message}");
    // A folder stands where the file should go.
    let taken = dir.path().join("taken.parquet");
    fs::create_dir(&taken).expect("a folder");
    let message = write_parquet(&taken, &[sample("a")]).expect_err("taken").to_string();
    assert!(message.contains("taken.parquet"), "{message}");
    assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1);
    // A full disk.
    if Path::new("/dev/full").exists() {
        let full = dir.path().join("full.parquet");
        std::os::unix::fs::symlink("/dev/full", dir.path().join("full.parquet.partial")).expect("a link");
        let message = write_parquet(&full, &[sample("a")]).expect_err("full").to_string();
        assert!(message.contains("No space left"), "{message}");
        assert!(!full.exists());
    }
}

#[test]
fn the_real_sample_reads() {
    let Some(path) = mini() else { return };
    let samples = read(&path).expect("reads");
    assert_eq!(samples.len(), 5);
    assert_eq!(samples[0].question, "What is the country of origin of this food?");
    assert_eq!(samples[0].ground_truth, "Spain");
    assert_eq!(samples[0].candidate_answers.len(), 5);
    assert_eq!(samples[0].candidate_answers[2], "🇪🇸");
    assert_eq!(samples[0].id, "0");
    assert!(
        samples.iter().all(|s| s.images.len() == 1 && s.decode_images().is_ok() && s.data_source == "mmsearch_r1/infoseek_train_split")
    );
    let summary = inspect(&path).expect("inspects");
    assert_eq!((summary.rows, summary.images.count), (5, 5));
    let shown = summary.to_string();
    for word in [
        "rows        5",
        "reward_model: struct{candidate_answers: string, ground_truth: string, style: string}",
        "image/jpeg 5",
        "infoseek_train_split 5",
    ] {
        assert!(shown.contains(word), "{word} in\n{shown}");
    }
}

#[test]
fn damaged_files_are_errors_never_panics() {
    let dir = temp();
    let whole = dir.path().join("whole.parquet");
    write_parquet(&whole, &[sample("a"), sample("b")]).expect("written");
    let bytes = fs::read(&whole).expect("bytes");
    let path = dir.path().join("damaged.parquet");
    for length in (0..bytes.len()).step_by(37).chain([bytes.len() - 1, bytes.len() - 8]) {
        fs::write(&path, &bytes[..length]).expect("written");
        let error = read(&path).expect_err("a truncated file");
        assert!(error.to_string().contains("damaged.parquet"), "{error}");
    }
    // A changed byte may be harmless (in an image), or an error that names the file; never a panic.
    for at in (0..bytes.len()).step_by(11) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        fs::write(&path, &changed).expect("written");
        if let Err(error) = read(&path) {
            assert!(error.to_string().contains("damaged.parquet"), "{error}");
        }
    }
    fs::write(&path, b"PAR1 this is not Parquet PAR1").expect("written");
    assert!(matches!(read(&path), Err(Error::Parquet { .. })));
    assert!(matches!(read(&dir.path().join("missing.parquet")), Err(Error::Io { .. })));
    assert!(matches!(read(&dir.path().join("set.csv")), Err(Error::UnknownFormat { .. })));
}

/// Writes columns as they are.
fn raw(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).expect("a batch");
    let mut writer = ArrowWriter::try_new(fs::File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    Arc::new(StructArray::from(
        columns.into_iter().map(|(n, a)| (Arc::new(Field::new(n, a.data_type().clone(), true)), a)).collect::<Vec<_>>(),
    ))
}

/// A list of one element per row.
fn lists(values: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("element", values.data_type().clone() as DataType, true));
    let offsets = arrow_buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(1, values.len()));
    Arc::new(arrow_array::ListArray::new(field, offsets, values, None))
}

fn prompt(contents: &[Option<&str>]) -> ArrayRef {
    lists(structs(vec![("role", strings(&vec![Some("user"); contents.len()])), ("content", strings(contents))]))
}

fn images(n: usize) -> ArrayRef {
    let bytes: ArrayRef = Arc::new((0..n).map(|i| Some(png(i as u8).to_vec())).collect::<BinaryArray>());
    lists(structs(vec![("bytes", bytes)]))
}

fn reward(candidates: &[Option<&str>]) -> ArrayRef {
    structs(vec![("ground_truth", strings(&vec![Some("x"); candidates.len()])), ("candidate_answers", strings(candidates))])
}

#[test]
fn optional_columns_may_be_missing() {
    let dir = temp();
    let path = dir.path().join("bare.parquet");
    raw(
        &path,
        vec![
            ("prompt", prompt(&[Some("<image>\nWho?"), Some("Where?")])),
            ("images", images(2)),
            ("reward_model", reward(&[None, Some("[\"y\", 3]")])),
        ],
    );
    let samples = read(&path).expect("reads");
    assert_eq!(samples[0].question, "Who?");
    assert_eq!((samples[1].id.as_str(), samples[1].data_source.as_str()), ("1", "bare"));
    assert_eq!(samples[1].candidate_answers, ["y", "3"]);
    // A column that is null throughout, as pandas writes one.
    raw(
        &path,
        vec![
            ("prompt", prompt(&[Some("Who?")])),
            ("images", Arc::new(NullArray::new(1))),
            ("reward_model", reward(&[None])),
            ("image_urls", Arc::new(NullArray::new(1))),
            ("data_id", Arc::new(Int64Array::from(vec![42]))),
        ],
    );
    let samples = read(&path).expect("reads");
    assert_eq!((samples[0].id.as_str(), samples[0].images.len()), ("42", 0));
}

#[test]
fn missing_and_mistyped_columns_are_named() {
    let dir = temp();
    let path = dir.path().join("bad.parquet");
    let numbers = || -> ArrayRef { Arc::new(Int32Array::from(vec![1])) };
    let good = || vec![("prompt", prompt(&[Some("Who?")])), ("images", images(1)), ("reward_model", reward(&[None]))];
    let message = |columns: Vec<(&str, ArrayRef)>| {
        raw(&path, columns);
        read(&path).expect_err("bad columns").to_string()
    };
    let without = |name: &str| good().into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let with = |name: &'static str, array: ArrayRef| without(name).into_iter().chain([(name, array)]).collect::<Vec<_>>();

    for column in ["prompt", "images", "reward_model"] {
        let message = message(without(column));
        assert!(
            message.contains("bad.parquet") && message.contains(&format!("no column `{column}`")) && message.contains("the file has:"),
            "{message}"
        );
    }
    let binary: ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..]]));
    for (columns, words) in [
        (with("prompt", strings(&[Some("Who?")])), ["`prompt`", "list of {role, content}"]),
        (with("prompt", lists(strings(&[Some("Who?")]))), ["`prompt`", "list of {role, content}"]),
        (with("images", numbers()), ["`images`", "Int32"]),
        (with("images", lists(structs(vec![("bytes", numbers())]))), ["`images.bytes`", "binary"]),
        (with("images", lists(structs(vec![("path", strings(&[Some("a")]))]))), ["images.bytes", "the fields path"]),
        (with("reward_model", strings(&[Some("x")])), ["`reward_model`", "ground_truth"]),
        (with("reward_model", structs(vec![("truth", strings(&[Some("x")]))])), ["reward_model.ground_truth", "the fields truth"]),
        (with("reward_model", structs(vec![("ground_truth", binary)])), ["reward_model.ground_truth", "strings"]),
        (with("reward_model", reward(&[Some("Paris, Lutetia")])), ["row 0", "JSON list"]),
        (with("reward_model", reward(&[Some("{\"a\": 1}")])), ["row 0", "JSON list"]),
        (with("prompt", prompt(&[None])), ["row 0", "user message"]),
    ] {
        let message = message(columns);
        assert!(words.iter().all(|w| message.contains(w)) && message.contains("bad.parquet"), "{message}");
    }
}

#[test]
fn undecodable_images_are_the_samples_fault() {
    let dir = temp();
    let path = dir.path().join("set.parquet");
    let mut bad = sample("bad");
    bad.images = vec![
        SampleImage { bytes: png(9), path: None },
        SampleImage { bytes: b"GIF89a not really"[..].into(), path: None },
        SampleImage { bytes: png(3)[..40].into(), path: None },
    ];
    write_parquet(&path, &[sample("good"), bad]).expect("written");
    let samples = read(&path).expect("reads all the same");
    assert!(samples[0].decode_images().is_ok());
    let message = samples[1].decode_images().expect_err("undecodable").to_string();
    assert!(message.contains("sample `bad`, image 1"), "{message}");
    let summary = inspect(&path).expect("inspects");
    assert_eq!(summary.images.undecodable.len(), 2);
    assert!(summary.to_string().contains("2 images undecodable") && summary.to_string().contains("sample `bad`, image 2"));
}

#[test]
fn inspect_counts_what_repeats_and_what_lacks() {
    let dir = temp();
    let path = dir.path().join("set.parquet");
    let mut other = sample("b");
    (other.ground_truth, other.images) = (" ".into(), Vec::new());
    write_parquet(&path, &[sample("a"), sample("a"), sample("c"), other]).expect("written");
    let summary = inspect(&path).expect("inspects");
    assert_eq!(summary.duplicate_ids, ["a"]);
    assert_eq!(summary.duplicates, [("a".to_owned(), "a".to_owned()), ("a".to_owned(), "c".to_owned())]);
    assert_eq!((summary.without_answer, summary.without_image, summary.distinct_answers), (1, 1, 2));
    assert_eq!(summary.images.width.map(|r| (r.min, r.max)), Some((6.0, 6.0)));
    assert_eq!(serde_json::to_value(&summary).expect("JSON")["rows"], 4);
}

#[test]
fn json_lines_read_like_parquet() {
    let dir = temp();
    fs::create_dir(dir.path().join("pictures")).expect("a folder");
    fs::write(dir.path().join("pictures/a.png"), png(7)).expect("written");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, png(8));
    let path = dir.path().join("set.jsonl");
    let lines = [
        serde_json::json!({"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<image>Who?"}], "images": [{"path": "pictures/a.png"}],
            "reward_model": {"ground_truth": "Vienna", "candidate_answers": "[\"Wien\"]"}, "data_id": 5, "category": "free", "image_urls": ["u"]}),
        serde_json::json!({"question": "Where?", "images": ["pictures/a.png", {"bytes": base64}], "ground_truth": 12, "candidate_answers": ["twelve"]}),
        serde_json::json!({"prompt": "When?", "images": [{"bytes": format!("data:image/png;base64,{base64}")}], "reward_model": {"ground_truth": null}, "image_urls": null}),
    ];
    fs::write(&path, lines.map(|l| l.to_string()).join("\n\n") + "\n").expect("written");
    let samples = read(&path).expect("reads");
    assert_eq!(samples.iter().map(|s| s.question.as_str()).collect::<Vec<_>>(), ["Who?", "Where?", "When?"]);
    assert_eq!(samples.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["5", "1", "2"]);
    assert_eq!(samples.iter().map(|s| s.ground_truth.as_str()).collect::<Vec<_>>(), ["Vienna", "12", ""]);
    assert_eq!(samples.iter().map(|s| s.images.len()).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(samples[0].candidate_answers, ["Wien"]);
    assert_eq!(samples[1].images[1].bytes, png(8));
    assert_eq!(samples[2].images[0].bytes, png(8));
    let summary = inspect(&path).expect("inspects");
    assert!(summary.columns.iter().any(|(n, k)| n == "image_urls" && k == "list or null"), "{:?}", summary.columns);
}

#[test]
fn bad_lines_are_named() {
    let dir = temp();
    let path = dir.path().join("bad.jsonl");
    for (line, words) in [
        ("nonsense", ["line 2", "not a JSON object"]),
        ("[1, 2]", ["line 2", "not a JSON object"]),
        ("{\"question\": \"Who?\", \"images\": [], \"reward_model\": {}}", ["`reward_model.ground_truth`", "missing"]),
        ("{\"question\": \"Who?\", \"images\": [], \"reward_model\": 3}", ["`reward_model`", "expected an object"]),
        ("{\"question\": \"Who?\", \"images\": []}", ["`reward_model`", "missing"]),
        ("{\"question\": \"Who?\", \"ground_truth\": \"x\"}", ["`images`", "missing"]),
        ("{\"images\": [], \"ground_truth\": \"x\"}", ["`prompt`", "missing"]),
        ("{\"prompt\": [], \"images\": [], \"ground_truth\": \"x\"}", ["`prompt`", "user message"]),
        ("{\"question\": \"Who?\", \"images\": [\"none.png\"], \"ground_truth\": \"x\"}", ["`none.png`", "relative to the data set"]),
        ("{\"question\": \"Who?\", \"images\": [\"/dev/zero\"], \"ground_truth\": \"x\"}", ["`/dev/zero`", "not a regular file"]),
        ("{\"question\": \"Who?\", \"images\": [{\"bytes\": \"%%%\"}], \"ground_truth\": \"x\"}", ["`images`", "base64"]),
        ("{\"question\": \"Who?\", \"images\": [{}], \"ground_truth\": \"x\"}", ["`images`", "without `path`"]),
        ("{\"question\": \"Who?\", \"images\": [7], \"ground_truth\": \"x\"}", ["`images`", "`7`"]),
        (
            "{\"question\": \"Who?\", \"images\": [], \"ground_truth\": \"x\", \"candidate_answers\": [[1]]}",
            ["candidate_answers", "strings"],
        ),
        ("{\"question\": \"\u{fffd}", ["line 2", "JSON"]),
    ] {
        fs::write(&path, format!("{{\"question\": \"Who?\", \"images\": [], \"ground_truth\": \"x\"}}\n{line}\n")).expect("written");
        let message = read(&path).expect_err(line).to_string();
        assert!(words.iter().all(|w| message.contains(w)) && message.contains("bad.jsonl"), "{line}: {message}");
    }
}

//! Corpora built in memory and opened from folders, with good and bad contents.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use mmhost_corpus::{Corpus, CorpusOptions, Document, Error, ImageProblem, decode_image, encode_png, thumbnail, write_folder};

fn page(id: &str, title: &str, text: &str) -> Document {
    Document { id: id.into(), title: title.into(), text: text.into(), url: format!("https://example.org/{id}"), image: None }
}

/// A picture of two colours, split at a place.
fn picture(left: [u8; 3], right: [u8; 3], split: u32) -> RgbImage {
    RgbImage::from_fn(40, 30, |x, _| Rgb(if x < split { left } else { right }))
}

fn with_image(id: &str, image: &RgbImage) -> Document {
    Document { image: Some(encode_png(image).into()), ..page(id, &format!("Picture of {id}"), "") }
}

fn pages() -> Vec<Document> {
    vec![
        page("capital", "Capital of Chad", "The capital of Chad is N'Djamena."),
        page("currency", "Currency of Chad", "The currency of Chad is the Central African CFA Franc."),
        page("guinea", "Capital of Guinea", "The capital of Guinea is Conakry."),
        page("equatorial", "Capital of Equatorial Guinea", "The capital of Equatorial Guinea is Malabo."),
        with_image("red", &picture([200, 0, 0], [255, 255, 255], 20)),
        with_image("blue", &picture([255, 255, 255], [0, 0, 200], 10)),
    ]
}

fn corpus() -> Corpus {
    Corpus::build(pages(), &CorpusOptions::default()).expect("a sound corpus")
}

fn first(corpus: &Corpus, query: &str) -> String {
    corpus.search_text(query, 1).expect("text is searchable").first().map(|h| h.document.id.clone()).unwrap_or_default()
}

#[test]
fn text_search_ranks_the_page_that_is_about_the_query() {
    let corpus = corpus();
    for (query, id) in [
        ("capital of Chad", "capital"),
        ("What is the CAPITAL of chad?", "capital"),
        ("currency used in Chad", "currency"),
        ("currencies Chad", "currency"),
        ("capital of Guinea", "guinea"),
        ("capital of Equatorial Guinea", "equatorial"),
        ("N'Djaména", "capital"),
    ] {
        assert_eq!(first(&corpus, query), id, "{query}");
    }
    let hits = corpus.search_text("capital", 10).expect("searchable");
    assert_eq!(hits.len(), 3);
    assert!(hits.windows(2).all(|w| w[0].score >= w[1].score));
    assert!(hits.iter().all(|h| h.thumbnail.is_none()));
}

#[test]
fn query_text_has_no_syntax() {
    let corpus = corpus();
    for query in [
        "capital AND (Chad",
        "title:Chad capital",
        "+capital -Chad \"Chad",
        "[a TO b] Chad^9 capital~2",
        "Chad\\ capital*",
        "capital\0Chad\n/",
        "{}{}:: capital Chad",
    ] {
        assert_eq!(first(&corpus, query), "capital", "{query}");
    }
    for query in ["", "   ", "of the", "?!*", "zzzz", "\u{202e}\u{0}"] {
        assert!(corpus.search_text(query, 3).expect("no error").is_empty(), "{query:?}");
    }
    let long = "Chad ".repeat(100_000) + &"x".repeat(1_000_000);
    assert!(!corpus.search_text(&long, 1).expect("no error").is_empty());
}

#[test]
fn any_number_of_hits_may_be_asked_for() {
    let corpus = corpus();
    assert!(corpus.search_text("Chad", 0).expect("no error").is_empty());
    assert_eq!(corpus.search_text("Chad", usize::MAX).expect("no error").len(), 2);
    let image = encode_png(&picture([190, 10, 10], [240, 240, 240], 19));
    assert!(corpus.search_image(&image, 0).expect("no error").is_empty());
    assert_eq!(corpus.search_image(&image, usize::MAX).expect("no error").len(), 2);
}

#[test]
fn image_search_brings_thumbnails() {
    let hits = corpus().search_image(&encode_png(&picture([180, 20, 10], [235, 240, 250], 21)), 2).expect("a sound image");
    assert_eq!(hits[0].document.id, "red");
    assert!(hits[0].score > hits[1].score && hits[0].score <= 1.0001);
    let small = decode_image(hits[0].thumbnail.as_ref().expect("an image hit has a thumbnail")).expect("PNG");
    assert_eq!(small.dimensions(), (28, 21));
}

#[test]
fn an_undecodable_query_image_is_an_error_not_a_panic() {
    let corpus = corpus();
    let png = encode_png(&picture([1, 2, 3], [4, 5, 6], 7));
    let cases: [&[u8]; 4] = [b"", b"plainly not an image", &png[..png.len() / 2], b"\x89PNG\r\n\x1a\n"];
    for bytes in cases {
        assert!(matches!(corpus.search_image(bytes, 1), Err(Error::QueryImage(_))));
    }
}

#[test]
fn searches_run_concurrently() {
    let corpus = Arc::new(corpus());
    let image: Arc<[u8]> = encode_png(&picture([200, 0, 0], [255, 255, 255], 20)).into();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (corpus, image) = (corpus.clone(), image.clone());
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(first(&corpus, "capital of Chad"), "capital");
                    assert_eq!(corpus.search_image(&image, 1).expect("sound")[0].document.id, "red");
                }
            });
        }
    });
}

#[test]
fn two_documents_of_one_id_are_refused() {
    let twice = vec![page("a", "one", ""), page("a", "two", "")];
    assert!(matches!(Corpus::build(twice, &CorpusOptions::default()), Err(Error::DuplicateId(id)) if id == "a"));
}

#[test]
fn an_empty_corpus_finds_nothing() {
    let corpus = Corpus::build(Vec::new(), &CorpusOptions::default()).expect("nothing is a corpus");
    assert!(corpus.search_text("anything", 5).expect("no error").is_empty());
    assert!(corpus.search_image(&encode_png(&picture([0; 3], [9; 3], 3)), 5).expect("no error").is_empty());
}

fn indexes(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir.join(".mmhost-index")) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_folder_keeps_its_indexes_and_follows_its_contents() {
    let dir = tempfile::tempdir().expect("a folder");
    write_folder(dir.path(), &pages()).expect("written");
    let opened = Corpus::open(dir.path()).expect("opened");
    assert_eq!(opened.documents().iter().map(|d| (**d).clone()).collect::<Vec<_>>(), pages());
    assert_eq!(opened.num_images(), 2);
    let kept = indexes(dir.path());
    assert_eq!(kept.len(), 1);

    // Opened again: the same indexes, the same hits.
    let query = encode_png(&picture([200, 0, 0], [255, 255, 255], 20));
    let again = Corpus::open(dir.path()).expect("opened again");
    assert_eq!(indexes(dir.path()), kept);
    for corpus in [&opened, &again] {
        assert_eq!(first(corpus, "capital of Chad"), "capital");
        assert_eq!(corpus.search_image(&query, 1).expect("sound")[0].document.id, "red");
    }

    // Damaged indexes are built anew.
    fs::write(dir.path().join(".mmhost-index").join(&kept[0]).join("images.bin"), b"damaged").expect("damaged");
    assert_eq!(Corpus::open(dir.path()).expect("mended").search_image(&query, 1).expect("sound")[0].document.id, "red");
    fs::remove_dir_all(dir.path().join(".mmhost-index").join(&kept[0]).join("text")).expect("removed");
    assert_eq!(first(&Corpus::open(dir.path()).expect("mended"), "capital of Chad"), "capital");

    // New contents, new indexes, the old ones gone.
    let mut more = pages();
    more.push(page("new", "Language of Chad", "The language of Chad is French."));
    write_folder(dir.path(), &more).expect("written");
    assert_eq!(first(&Corpus::open(dir.path()).expect("opened"), "language of Chad"), "new");
    let now = indexes(dir.path());
    assert_eq!(now.len(), 1);
    assert_ne!(now, kept);
}

#[test]
fn a_folder_that_cannot_be_indexed_on_disk_still_opens() {
    let dir = tempfile::tempdir().expect("a folder");
    write_folder(dir.path(), &pages()).expect("written");
    // A file where the index folder should be.
    fs::write(dir.path().join(".mmhost-index"), b"in the way").expect("written");
    assert_eq!(first(&Corpus::open(dir.path()).expect("opened"), "capital of Chad"), "capital");
}

#[test]
fn bad_folders_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let message = |documents: Option<&[u8]>| {
        if let Some(bytes) = documents {
            fs::write(dir.path().join("documents.jsonl"), bytes).expect("written");
        }
        Corpus::open(dir.path()).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(message(None).contains("documents.jsonl"));
    let cases: [(&[u8], &[&str]); 6] = [
        (b"{\"id\": \"a\", \"title\": \"t\"}\nnonsense\n", &["line 2", "one JSON object per line"]),
        (b"\n\n{\"id\": \"a\"}\n", &["line 3", "title"]),
        (b"{\"id\": 3, \"title\": \"t\"}\n", &["line 1", "string"]),
        (b"{\"id\": \"a\", \"title\": \"t\", \"titel\": \"x\"}\n", &["line 1", "titel"]),
        (b"{\"id\": \"a\", \"title\": \"t\", \"image\": \"missing.png\"}\n", &["document `a`", "missing.png"]),
        (b"{\"id\": \"a\", \"title\": \"\xff\"}\n", &["line 1"]),
    ];
    for (bytes, words) in cases {
        let message = message(Some(bytes));
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    }
    fs::write(dir.path().join("bad.png"), b"not a picture").expect("written");
    let message = message(Some(b"{\"id\": \"a\", \"title\": \"t\", \"image\": \"bad.png\"}\n"));
    assert!(message.contains("document `a`") && message.contains("bad.png") && message.contains("no known image format"), "{message}");
}

#[test]
fn only_regular_files_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("folder.png")).expect("a folder");
    for name in ["folder.png", "/dev/zero"] {
        fs::write(dir.path().join("documents.jsonl"), format!("{{\"id\": \"a\", \"title\": \"t\", \"image\": \"{name}\"}}\n"))
            .expect("written");
        let message = Corpus::open(dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("document `a`") && message.contains(name), "{message}");
    }
}

#[test]
fn ids_of_any_kind_make_safe_file_names() {
    let dir = tempfile::tempdir().expect("a folder");
    let image = picture([1, 2, 3], [250, 250, 250], 9);
    let documents: Vec<Document> = ["td/flag", "td-flag", "../../escape", "a b", "", "ü"].iter().map(|id| with_image(id, &image)).collect();
    write_folder(dir.path(), &documents).expect("written");
    assert_eq!(fs::read_dir(dir.path().join("images")).expect("images").count(), documents.len());
    assert_eq!(Corpus::open(dir.path()).expect("opened").documents().len(), documents.len());
}

#[test]
fn transparency_becomes_white_and_thumbnails_keep_their_shape() {
    let clear = image::RgbaImage::from_pixel(4, 4, image::Rgba([255, 0, 0, 0]));
    let mut png = std::io::Cursor::new(Vec::new());
    clear.write_to(&mut png, image::ImageFormat::Png).expect("written");
    assert_eq!(decode_image(png.get_ref()).expect("sound").get_pixel(0, 0).0, [255; 3]);
    assert_eq!(thumbnail(&RgbImage::new(1000, 10), 28).dimensions(), (28, 1));
    assert_eq!(thumbnail(&RgbImage::new(10, 1000), 28).dimensions(), (1, 28));
}

#[test]
fn a_decompression_bomb_is_refused() {
    // A PNG header that promises 65,535 × 65,535 pixels.
    let mut png = encode_png(&RgbImage::new(1, 1));
    png[16..20].copy_from_slice(&65_535u32.to_be_bytes());
    png[20..24].copy_from_slice(&65_535u32.to_be_bytes());
    assert!(matches!(decode_image(&png), Err(ImageProblem::Undecodable { .. })));
}

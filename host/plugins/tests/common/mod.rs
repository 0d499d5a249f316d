//! What the tests share: a corpus of three flags, and hosts over it.
#![allow(dead_code)]

use mmhost_plugins::{CorpusHit, CorpusService, HostOptions, ImageBytes, PluginHost, RewardInput, ToolInput};
use serde_json::Value;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The committed reference plugins.
pub fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

/// An encoded PNG of one colour.
pub fn png(width: u32, height: u32, colour: [u8; 3]) -> ImageBytes {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    ImageBytes { media_type: "image/png".into(), bytes: bytes.into_inner().into() }
}

/// Knows three countries. Corpus `broken` fails, `slow` sleeps for long, `pause` for a moment.
pub struct Flags;

const COUNTRIES: [(&str, &str); 3] = [("Chad", "N'Djamena"), ("Mali", "Bamako"), ("Peru", "Lima")];

impl Flags {
    fn find(&self, name: &str, query: &str, k: usize) -> Result<Vec<CorpusHit>, String> {
        match name {
            "broken" => return Err("the index is gone".into()),
            "slow" => std::thread::sleep(std::time::Duration::from_secs(3)),
            "pause" => std::thread::sleep(std::time::Duration::from_millis(100)),
            _ => {}
        }
        let hits = COUNTRIES.iter().enumerate().filter(|(_, (country, _))| query.contains(country) || query == "any");
        let hit = |(index, (country, capital)): (usize, &(&str, &str))| CorpusHit {
            id: country.to_lowercase(),
            title: format!("Flag of {country}"),
            text: format!("The capital of {country} is {capital}."),
            url: String::new(),
            score: 1.0,
            image: Some(png(28, 28, [index as u8, 0, 0])),
        };
        Ok(hits.take(k).map(hit).collect())
    }
}

impl CorpusService for Flags {
    fn search_text(&self, name: &str, query: &str, k: usize) -> Result<Vec<CorpusHit>, String> {
        self.find(name, query, k)
    }
    fn search_image(&self, name: &str, image: &ImageBytes, k: usize) -> Result<Vec<CorpusHit>, String> {
        image::load_from_memory(&image.bytes).map_err(|error| error.to_string())?;
        self.find(name, "any", k)
    }
}

/// A host with a cache of its own.
pub fn host(config: &[(&str, Value)]) -> PluginHost {
    // One cache for all tests of a process: compiling is the slow part.
    static CACHE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    PluginHost::new(HostOptions {
        cache_dir: cache.path().join("compiled"),
        corpus: Arc::new(Flags),
        config: config.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
    })
    .unwrap()
}

pub fn query(argument: &str) -> ToolInput {
    ToolInput { argument: argument.into(), images: vec![png(56, 56, [9, 9, 9])], question: "What is the capital of this country?".into() }
}

pub fn episode(truth: &str, turns: &[&str]) -> RewardInput {
    RewardInput {
        id: "step=1/group=0/rollout=0".into(),
        question: "What is the capital of this country?".into(),
        ground_truth: truth.into(),
        candidate_answers: vec![],
        turns: turns.iter().map(|turn| turn.to_string()).collect(),
        calls: vec![],
        ending: "answered".into(),
    }
}

/// The same for guests that use the network.
pub fn block_on_net<T>(future: impl Future<Output = T>) -> T {
    // One for the process: a plugin's connections outlive a call.
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()).block_on(future)
}

/// Runs a future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap().block_on(future)
}

//! What a plugin costs, against the reference plugin of its kind in the same run: the work behind `mmhost plugin bench`.

use crate::call::Subject;
use crate::check::{battery, corpus, tool};
use crate::lock::{Lock, Pin, pinned};
use crate::manifest::Kind;
use crate::types::{FilterInput, RewardInput, ToolInput};
use crate::{FilterPlugin, HostOptions, PluginError, PluginHost, Result, RewardPlugin, ToolPlugin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one figure is measured; slow plugins are called at least [`LEAST_ROUNDS`] times nevertheless.
const BUDGET: Duration = Duration::from_millis(1500);
const LEAST_ROUNDS: usize = 10;
const MOST_ROUNDS: usize = 2000;
/// Calls before the first one that counts.
const WARM_UP: usize = 5;
/// Episodes or samples of one call.
const BATCHES: [usize; 3] = [1, 16, 256];

/// The reference plugins, as they stand in this repository.
macro_rules! reference {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../plugins/", $name, "/plugin.toml")),
            include_bytes!(concat!("../../../plugins/", $name, "/", $name, ".wasm")).as_slice(),
        )
    };
}

/// A figure.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Rounds that count.
    pub rounds: usize,
    /// Median in microseconds.
    pub median_us: f64,
    /// 95th percentile in microseconds.
    pub p95_us: f64,
    /// Median of the reference plugin in microseconds.
    pub reference_us: f64,
    /// The plugin's median in terms of the reference's.
    pub ratio: f64,
}

/// What a plugin costs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Bench {
    /// Plugin.
    pub plugin: String,
    /// The plugin that it was measured against.
    pub reference: String,
    /// Milliseconds to compile its component afresh; later starts take it from the cache.
    pub compile_ms: f64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// Measures the plugin in a folder.
///
/// # Errors
/// When it does not load, or a call with an ordinary input fails.
pub async fn bench(folder: &Path) -> Result<Bench> {
    let fail = |error: std::io::Error| PluginError::Other(format!("no temporary folder: {error}"));
    let scratch = tempfile::tempdir().map_err(fail)?;
    let options = || HostOptions { cache_dir: scratch.path().join("cache"), corpus: Arc::new(corpus::Test), config: Default::default() };
    // Runs do not count fuel, so neither does this.
    let host = PluginHost::new(options())?.offline();
    let started = Instant::now();
    let plugin = Subject::only(host.load_dir(folder)?, folder)?;
    let compile_ms = started.elapsed().as_secs_f64() * 1e3;
    let (name, manifest, component) = match plugin.info().kind {
        Kind::SearchTool => reference!("text-search"),
        Kind::Reward => reference!("mmsearch-reward"),
        Kind::DatasetFilter => reference!("sample-filter"),
    };
    let folder = unpack(scratch.path(), name, manifest, component).map_err(fail)?;
    let reference = Subject::only(host.load_dir(&folder)?, &folder)?;

    let mut rows = Vec::new();
    rows.push(row("instantiate", 1, async || plugin.instantiate().await, async || reference.instantiate().await).await?);
    rows.push(row("describe", 1, async || plugin.describe().await, async || reference.describe().await).await?);
    match plugin.info().kind {
        Kind::SearchTool => {
            let (own, other) = (Work::new(&plugin, 1), Work::new(&reference, 1));
            rows.push(row("call", 1, async || own.run().await, async || other.run().await).await?);
        }
        kind => {
            let (function, item) = if kind == Kind::Reward { ("score", "episode") } else { ("filter", "sample") };
            for batch in BATCHES {
                let what = format!("{function}, per {item} of {batch}");
                let (own, other) = (Work::new(&plugin, batch), Work::new(&reference, batch));
                rows.push(row(&what, batch, async || own.run().await, async || other.run().await).await?);
            }
        }
    }
    Ok(Bench { plugin: plugin.info().name.clone(), reference: name.into(), compile_ms, rows })
}

/// Writes a plugin's folder, pinned.
fn unpack(dir: &Path, name: &str, manifest: &str, component: &[u8]) -> std::io::Result<PathBuf> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("plugin.toml"), manifest)?;
    std::fs::write(folder.join(format!("{name}.wasm")), component)?;
    let pin = Pin { component: pinned(component), ..Pin::default() };
    let lock = Lock { version: 1, plugins: [(name.to_string(), pin)].into() };
    lock.write(dir).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(folder)
}

/// Measures two jobs in turn, so that both meet the same noise; a job does `items` pieces of work.
async fn row(what: &str, items: usize, job: impl AsyncFn() -> Result<()>, reference: impl AsyncFn() -> Result<()>) -> Result<Row> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP {
        job().await?;
        reference().await?;
    }
    let begun = Instant::now();
    while own.len() < LEAST_ROUNDS || (begun.elapsed() < BUDGET && own.len() < MOST_ROUNDS) {
        let started = Instant::now();
        job().await?;
        let between = Instant::now();
        reference().await?;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / items as f64;
        own.push(micros(between - started));
        other.push(micros(between.elapsed()));
    }
    let (median_us, reference_us) = (quantile(&mut own, 0.5), quantile(&mut other, 0.5));
    let p95_us = quantile(&mut own, 0.95);
    Ok(Row { what: what.into(), rounds: own.len(), median_us, p95_us, reference_us, ratio: median_us / reference_us })
}

fn quantile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share).round() as usize]
}

impl Subject {
    async fn instantiate(&self) -> Result<()> {
        match self {
            Subject::Tool(tool) => tool.instantiate().await,
            Subject::Reward(reward) => reward.instantiate().await,
            Subject::Filter(filter) => filter.instantiate().await,
        }
    }

    async fn describe(&self) -> Result<()> {
        match self {
            Subject::Tool(tool) => tool.describe().await.map(drop),
            Subject::Reward(reward) => reward.describe().await.map(drop),
            Subject::Filter(filter) => filter.describe().await.map(drop),
        }
    }
}

/// A plugin with ordinary inputs, made before the clock runs.
enum Work<'a> {
    Tool(&'a ToolPlugin, ToolInput),
    Reward(&'a RewardPlugin, Vec<RewardInput>),
    Filter(&'a FilterPlugin, Vec<FilterInput>),
}

impl<'a> Work<'a> {
    /// Work of `items` pieces.
    fn new(plugin: &'a Subject, items: usize) -> Self {
        match plugin {
            Subject::Tool(plugin) => {
                let argument = tool::ordinary(&plugin.spec().call);
                let images = vec![battery::png(56, 56)];
                Work::Tool(plugin, ToolInput { argument, images, question: "What is the capital of Peru?".into() })
            }
            Subject::Reward(plugin) => {
                let pairs = battery::pairs();
                Work::Reward(plugin, pairs.into_iter().flat_map(|(_, right, wrong)| [right, wrong]).cycle().take(items).collect())
            }
            Subject::Filter(plugin) => {
                let sample = battery::sample();
                Work::Filter(plugin, vec![sample; items])
            }
        }
    }

    async fn run(&self) -> Result<()> {
        match self {
            Work::Tool(tool, input) => tool.answer(input).await.map(drop),
            Work::Reward(reward, episodes) => reward.score(episodes).await.map(drop),
            Work::Filter(filter, samples) => filter.filter(samples).await.map(drop),
        }
    }
}

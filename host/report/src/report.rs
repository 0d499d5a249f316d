//! One or several runs made into one page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::Result;
use crate::episodes::{Others, Payload, PayloadOptions, Scan, Selection, select};
use crate::page;
use crate::run::{Difference, Run, State, Summarised, differences};
use crate::scores::{Agreement, Scores};

/// What a page may hold.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Most episodes in the viewer, over all runs.
    pub max_episodes: usize,
    /// Most bytes of packed episodes and images; fewer episodes are shown where they would take more.
    pub max_bytes: usize,
    /// Version of the program that makes the page.
    pub version: String,
    /// When it is made, in milliseconds since 1970.
    pub made_ms: u64,
}

impl ReportOptions {
    /// Episodes that a page holds where nothing else is asked for.
    pub const MAX_EPISODES: usize = 10_000;

    /// [`Self::MAX_EPISODES`] in at most 9 MB.
    pub fn new(version: &str, made_ms: u64) -> Self {
        Self { max_episodes: Self::MAX_EPISODES, max_bytes: 9_000_000, version: version.to_owned(), made_ms }
    }
}

/// A page and what it holds.
#[derive(Debug)]
pub struct Report {
    /// The page: HTML that needs nothing beside itself.
    pub html: String,
    /// Episodes on record, over all runs.
    pub episodes: usize,
    /// Episodes that the viewer holds.
    pub episodes_shown: usize,
    /// What is missing or damaged: run and sentence. The page says the same.
    pub problems: Vec<(String, String)>,
}

/// What the page's script reads first.
#[derive(Serialize)]
pub(crate) struct PageData<'a> {
    pub version: &'a str,
    pub made_ms: u64,
    pub runs: Vec<RunData<'a>>,
    /// In what the runs differ.
    pub differences: &'a [Difference],
    /// Several runs that differ in nothing but their seed.
    pub seeds_only: bool,
    /// Names of the other rewards that scored the runs.
    pub others: &'a [String],
    pub chunks: usize,
    pub image_chunks: usize,
    /// Of a page that is served and goes on: which episodes there are to ask for.
    pub live: Option<LiveData>,
}

/// How far the list of a live page goes.
#[derive(Serialize, Clone, Copy)]
pub(crate) struct LiveData {
    /// Changes with every change.
    pub version: u64,
    /// Changes when the list begins anew.
    pub generation: u64,
    /// Episodes in the list.
    pub listed: usize,
}

#[derive(Serialize)]
pub(crate) struct RunData<'a> {
    name: &'a str,
    path: String,
    state: State,
    locked: bool,
    version: Option<&'a str>,
    seed: Option<&'a str>,
    planned_steps: Option<usize>,
    started_ms: Option<u64>,
    written_ms: Option<u64>,
    plugins: &'a BTreeMap<String, String>,
    config_text: Option<&'a str>,
    checkpoints: Vec<usize>,
    steps: &'a [usize],
    columns: BTreeMap<&'a str, Vec<Option<f64>>>,
    summary: &'a Summarised,
    counted: crate::episodes::Counted,
    agreements: Vec<Agreement>,
    selection: SelectionData,
    problems: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct SelectionData {
    pub episodes: usize,
    pub shown: usize,
    pub training_groups: usize,
    pub training_groups_shown: usize,
    pub questions: usize,
    pub questions_shown: usize,
}

/// What the page is told of a run.
pub(crate) fn run_data<'a>(run: &'a Run, scan: &Scan, scores: &[Scores], selection: SelectionData, found: &[&[String]]) -> RunData<'a> {
    let agreements: Vec<Agreement> = scores.iter().map(|one| one.agreement(scan.lines.iter().map(|line| &line.judged))).collect();
    let stale = scores.iter().zip(&agreements).filter_map(|(scores, agreement)| scores.stale(agreement));
    let problems =
        run.problems.iter().cloned().chain(scan.problems()).chain(found.iter().copied().flatten().cloned()).chain(stale).collect();
    RunData {
        name: &run.name,
        path: run.path.display().to_string(),
        state: run.state,
        locked: run.locked,
        version: run.version.as_deref(),
        seed: run.config.get("seed").map(String::as_str),
        planned_steps: run.planned_steps(),
        started_ms: run.started_ms,
        written_ms: run.written_ms,
        plugins: &run.plugins,
        config_text: run.config_text.as_deref(),
        checkpoints: run.checkpoints.iter().map(|checkpoint| checkpoint.step).collect(),
        steps: &run.steps.step,
        columns: run.steps.columns.iter().map(|(name, values)| (name.as_str(), short(values))).collect(),
        summary: &run.summary,
        counted: scan.tally.counted(),
        agreements,
        selection,
        problems,
    }
}

/// The names of the other rewards, over all runs.
pub(crate) fn other_names(scores: &[Vec<Scores>]) -> Vec<String> {
    let mut names: Vec<String> = scores.iter().flatten().map(|scores| scores.head.reward.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Makes a report on the runs in `paths`.
///
/// # Errors
/// When a path holds no run at all. What is damaged within a run is told in the report instead.
pub fn report(paths: &[PathBuf], options: &ReportOptions) -> Result<Report> {
    let runs = paths.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>>>()?;
    let scans: Vec<Scan> = runs.iter().map(|run| Scan::read(&run.path)).collect();
    let mut found: Vec<Vec<String>> = vec![Vec::new(); runs.len()];
    let scores: Vec<Vec<Scores>> = runs.iter().zip(&mut found).map(|(run, found)| Scores::read_all(&run.path, found)).collect();
    let names = other_names(&scores);
    let (payload, selections) = payload(&runs, &scans, Others { names: &names, scores: &scores }, options)?;

    let all: Vec<&Run> = runs.iter().collect();
    let differences = differences(&all);
    let seeds_only = runs.len() > 1
        && runs.iter().all(|run| !run.config.is_empty())
        && !differences.is_empty()
        && differences.iter().all(|difference| difference.key == "seed");
    let parts = runs.iter().zip(&scans).zip(&scores).zip(selections.iter().zip(&payload.problems).zip(&found));
    let run_data: Vec<RunData> = parts
        .map(|(((run, scan), scores), ((selection, packing), found))| {
            let selection = SelectionData {
                episodes: scan.lines.len(),
                shown: selection.lines.len(),
                training_groups: selection.training_groups,
                training_groups_shown: selection.training_groups_chosen,
                questions: selection.questions,
                questions_shown: selection.questions_chosen,
            };
            run_data(run, scan, scores, selection, &[packing, found])
        })
        .collect();
    let problems = run_data.iter().flat_map(|run| run.problems.iter().map(|problem| (run.name.to_owned(), problem.clone()))).collect();
    let data = PageData {
        version: &options.version,
        made_ms: options.made_ms,
        runs: run_data,
        differences: &differences,
        seeds_only,
        others: &names,
        chunks: payload.chunks.len(),
        image_chunks: payload.images.len(),
        live: None,
    };
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let html = page::html(&title, &serde_json::to_string(&data)?, &payload);
    Ok(Report { html, episodes: scans.iter().map(|scan| scan.lines.len()).sum(), episodes_shown: payload.episodes, problems })
}

/// Selects and packs; where the result is too large, with fewer episodes again.
fn payload(runs: &[Run], scans: &[Scan], others: Others, options: &ReportOptions) -> Result<(Payload, Vec<Selection>)> {
    let mut limit = options.max_episodes / runs.len().max(1);
    // Images may take the larger half: their number hardly depends on that of the episodes.
    let packing = PayloadOptions { max_image_bytes: options.max_bytes * 11 / 20 };
    loop {
        let selections: Vec<Selection> = scans.iter().map(|scan| select(&scan.lines, limit)).collect();
        let parts: Vec<(&Run, &Scan, &Selection)> =
            runs.iter().zip(scans).zip(&selections).map(|((run, scan), selection)| (run, scan, selection)).collect();
        let payload = Payload::pack(&parts, others, &packing)?;
        if payload.bytes() <= options.max_bytes || limit == 0 {
            return Ok((payload, selections));
        }
        let room = options.max_bytes - packing.max_image_bytes;
        let share = (room as f64 / payload.episode_bytes() as f64).min(1.0);
        limit = ((limit as f64 * share * 0.95) as usize).min(limit - 1);
    }
}

/// Six significant digits are more than a curve shows.
fn short(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let shorten = |value: f64| format!("{value:.5e}").parse().unwrap_or(value);
    values.iter().map(|value| value.filter(|v| v.is_finite()).map(shorten)).collect()
}

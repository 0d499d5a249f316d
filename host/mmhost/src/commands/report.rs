//! `mmhost report`: a page of one run or several.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mmhost_report::{Report, ReportOptions};

use crate::cli::ReportArgs;
use crate::failure::{Failure, Outcome, bad_input};
use crate::run_dir::write_atomically;
use crate::ui::Ui;

/// Name of the page within a run directory.
pub const PAGE: &str = "report.html";

/// A page that was written.
pub struct Page {
    /// Where.
    pub path: PathBuf,
    /// What it holds.
    pub report: Report,
}

/// Runs the command.
pub fn run(args: ReportArgs, ui: &Ui) -> Outcome<()> {
    let started = Instant::now();
    let page = write_page(&args.runs, args.out.as_deref(), args.episodes)?;
    for (run, problem) in &page.report.problems {
        ui.say(format!("{run}: {problem}"));
    }
    let (shown, all) = (page.report.episodes_shown, page.report.episodes);
    let size = page.report.html.len() as f64 / 1e6;
    ui.say(format!("{shown} of {all} episodes, {size:.1} MB, {:.1} s", started.elapsed().as_secs_f64()));
    println!("{}", page.path.display());
    Ok(())
}

/// Makes the page of `runs` and writes it whole or not at all.
pub fn write_page(runs: &[PathBuf], out: Option<&Path>, most_episodes: usize) -> Outcome<Page> {
    let made_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let options = ReportOptions { max_episodes: most_episodes, ..ReportOptions::new(env!("CARGO_PKG_VERSION"), made_ms) };
    let report = mmhost_report::report(runs, &options).map_err(blame)?;
    let path = match (out, runs) {
        (Some(out), _) => out.to_path_buf(),
        (None, [run]) => run.join(PAGE),
        (None, _) => PathBuf::from(PAGE),
    };
    if path.is_dir() {
        return Err(bad_input(format!(
            "--out {} is a directory, expected the name of a file, e.g. {}",
            path.display(),
            path.join(PAGE).display()
        )));
    }
    write_atomically(&path, report.html.as_bytes())?;
    Ok(Page { path, report })
}

/// Whose fault it is that a run cannot be shown.
pub fn blame(error: mmhost_report::Error) -> Failure {
    match error {
        mmhost_report::Error::NoRun(_) | mmhost_report::Error::Unreadable { .. } => Failure::Input(error.into()),
        _ => Failure::Internal(error.into()),
    }
}

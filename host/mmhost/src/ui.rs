//! What the program shows while it works: progress bars on a terminal, plain lines elsewhere. Results go to standard output,
//! everything here goes to standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain (not terminal) progress says where it stands.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// Draws on standard error.
#[derive(Clone)]
pub struct Ui {
    bars: Option<MultiProgress>,
    started: Instant,
}

impl Ui {
    /// Bars if standard error is a terminal, lines otherwise.
    pub fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new), started: Instant::now() }
    }

    /// One line of the log, with the seconds since the start.
    pub fn say(&self, line: impl AsRef<str>) {
        let line = format!("[{:>6.1}s] {}", self.started.elapsed().as_secs_f64(), line.as_ref());
        match &self.bars {
            // A closed terminal must not end a run, so a failed write is no error.
            Some(bars) => drop(bars.println(line)),
            None => eprintln!("{line}"),
        }
    }

    /// Shows the progress of `total` steps.
    pub fn progress(&self, label: &str, total: usize) -> Progress {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total as u64));
            let style = ProgressStyle::with_template("{prefix:<22} {bar:32} {pos:>5}/{len} {elapsed_precise} left {eta:>4}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(label.to_string());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Progress { ui: self.clone(), bar, label: label.to_string(), total, done: 0, said: Instant::now() }
    }
}

/// The progress of one phase.
pub struct Progress {
    ui: Ui,
    bar: Option<ProgressBar>,
    label: String,
    total: usize,
    done: usize,
    said: Instant,
}

impl Progress {
    /// Begins at `done` steps (a resumed run).
    pub fn start_at(&mut self, done: usize) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.reset_eta();
        }
    }

    /// One more step, with the figures worth seeing.
    pub fn step(&mut self, message: impl FnOnce() -> String) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(message());
                bar.inc(1);
            }
            None if self.said.elapsed() >= PLAIN_INTERVAL || self.done == self.total => {
                self.ui.say(format!("{} {}/{}  {}", self.label, self.done, self.total, message()));
                self.said = Instant::now();
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

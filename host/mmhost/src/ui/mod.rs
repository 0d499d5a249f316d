//! What the program shows while it works: a view at the foot of the terminal, plain lines where there is none. Results go to standard
//! output, everything here goes to standard error.

mod foot;
mod screen;
mod view;

pub use view::{Health, StepFigures};

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use screen::Screen;

/// How often a plain (not terminal) progress says where it stands.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// Draws on standard error.
#[derive(Clone)]
pub struct Ui {
    screen: Option<Arc<Screen>>,
    started: Instant,
}

impl Ui {
    /// A view if standard error is a terminal that can show one, lines otherwise.
    pub fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let screen = (std::io::stderr().is_terminal() && !dumb).then(|| Screen::open(set("NO_COLOR").is_none()));
        Self { screen, started: Instant::now() }
    }

    /// One line of the log, with the seconds since the start.
    pub fn say(&self, line: impl AsRef<str>) {
        let line = format!("[{:>6.1}s] {}", self.started.elapsed().as_secs_f64(), line.as_ref());
        match &self.screen {
            Some(screen) => screen.say(&line),
            // Where nobody reads it any more, the work goes on.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    /// Shows the progress of `total` steps.
    pub fn progress(&self, label: &str, total: usize) -> Progress {
        let bar = self.screen.as_ref().map(|screen| screen.add(label, total));
        Progress { ui: self.clone(), bar, label: label.to_string(), total, done: 0, said: Instant::now() }
    }

    /// Shows the figures of training steps beside the progress, until the progress ends.
    pub fn figures(&self, figures: StepFigures) {
        if let Some(screen) = &self.screen {
            screen.update(|view| view.add_figures(figures));
        }
    }

    /// Shows how the plugins are.
    pub fn health(&self, plugins: Vec<(String, Health)>) {
        if let Some(screen) = &self.screen {
            screen.update(|view| view.plugins = plugins);
        }
    }
}

/// The progress of one phase.
pub struct Progress {
    ui: Ui,
    bar: Option<usize>,
    label: String,
    total: usize,
    done: usize,
    said: Instant,
}

impl Progress {
    /// Begins at `done` steps (a resumed run).
    pub fn start_at(&mut self, done: usize) {
        self.done = done;
        self.update(|bar| bar.start_at(done));
    }

    /// One more step, with the figures worth seeing.
    pub fn step(&mut self, message: impl FnOnce() -> String) {
        self.done += 1;
        if self.bar.is_some() {
            let message = message();
            self.update(|bar| bar.step(message));
        } else if self.said.elapsed() >= PLAIN_INTERVAL || self.done == self.total {
            self.ui.say(format!("{} {}/{}  {}", self.label, self.done, self.total, message()));
            self.said = Instant::now();
        }
    }

    fn update(&self, change: impl FnOnce(&mut view::Bar)) {
        if let (Some(screen), Some(id)) = (&self.ui.screen, self.bar) {
            screen.update(|view| {
                if let Some(bar) = view.bars.iter_mut().find(|bar| bar.id == id) {
                    change(bar);
                }
            });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let (Some(screen), Some(id)) = (&self.ui.screen, self.bar) {
            screen.update(|view| view.remove(id));
        }
    }
}

//! The log: what plugins and the host have to say, as lines of the screen.
//!
//! `MMHOST_LOG` chooses what is shown, e.g. `plugin=info` or `plugin=debug,mmhost_rollout=debug`; the target `plugin` is what concerns plugins.
//! Without it warnings are shown, and `plugin call` shows what its plugin says at `info` too.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Names the variable that chooses what is shown.
const VARIABLE: &str = "MMHOST_LOG";
/// Most lines in one [`WINDOW`]: thousands of calls may all have the same thing to say.
const MOST_LINES: usize = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Shows the log from now on; `usual` is what the command shows where the variable chooses nothing.
pub fn start(ui: &Ui, usual: &str) -> Outcome<()> {
    let chosen = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = chosen.as_deref().unwrap_or(usual);
    let filter: Targets = filter
        .parse()
        .map_err(|error| Failure::Usage(format!("{VARIABLE} is \"{filter}\", expected targets and levels like plugin=info: {error}")))?;
    let lines = Lines { ui: ui.clone(), window: Mutex::new(Window { since: Instant::now(), shown: 0, hidden: 0 }) };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // A second one, which only tests could bring, changes nothing.
    tracing::subscriber::set_global_default(subscriber).ok();
    Ok(())
}

struct Lines {
    ui: Ui,
    window: Mutex<Window>,
}

struct Window {
    since: Instant,
    shown: usize,
    hidden: usize,
}

impl Window {
    /// Whether a line may be shown now, and how many were hidden in the window before.
    fn admit(&mut self, now: Instant) -> (bool, usize) {
        let mut told = 0;
        if now.duration_since(self.since) >= WINDOW {
            told = self.hidden;
            *self = Window { since: now, shown: 0, hidden: 0 };
        }
        let fits = self.shown < MOST_LINES;
        match fits {
            true => self.shown += 1,
            false => self.hidden += 1,
        }
        (fits, told)
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (fits, hidden) = self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if hidden > 0 {
            self.ui.say(format!("… {hidden} lines of the log were left out; {VARIABLE} chooses what is shown"));
        }
        if fits {
            let mut text = Text(String::new());
            event.record(&mut text);
            let level = event.metadata().level().as_str().to_lowercase();
            self.ui.say(format!("{level}: {}", text.0.trim_start()));
        }
    }
}

/// The message of an event, and its fields behind it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_told_of() {
        let start = Instant::now();
        let mut window = Window { since: start, shown: 0, hidden: 0 };
        let fits = (0..50).filter(|_| window.admit(start).0).count();
        assert_eq!((fits, window.hidden), (MOST_LINES, 30));
        assert_eq!(window.admit(start + WINDOW), (true, 30));
        assert_eq!(window.admit(start + WINDOW), (true, 0));
    }
}

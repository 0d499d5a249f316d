//! Who draws: the view is drawn after every change, at most a few times a second, and once a second while nothing changes.

use std::io::{self, BufWriter, Stderr, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ratatui::layout::{Rect, Size};
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::foot::Foot;
use super::view::{Bar, View};

/// Time between two drawings, at least.
const CALM: Duration = Duration::from_millis(200);
/// How often the clock in the view goes on.
const TICK: Duration = Duration::from_secs(1);
/// Bytes of a frame that are written to the terminal in one piece.
const FRAME: usize = 64 * 1024;

/// The view on standard error.
pub struct Screen {
    shown: Mutex<Shown>,
}

struct Shown {
    view: View,
    terminal: Option<Terminal<Foot<BufWriter<Stderr>>>>,
    /// Size of the whole terminal when the view was drawn.
    size: Size,
    drawn: Option<Instant>,
    colours: bool,
    next_bar: usize,
}

impl Screen {
    /// A view with nothing to show yet.
    pub fn open(colours: bool) -> Arc<Self> {
        let shown = Shown { view: View::default(), terminal: None, size: Size::default(), drawn: None, colours, next_bar: 0 };
        let screen = Arc::new(Self { shown: Mutex::new(shown) });
        leave_before_panics(&screen);
        let weak = Arc::downgrade(&screen);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(screen) = weak.upgrade() else { break };
                screen.lock().draw();
            }
        });
        screen
    }

    /// A line above the view.
    pub fn say(&self, line: &str) {
        let mut shown = self.lock();
        // A closed terminal must not end a run, so a failed write is no error.
        let _ = shown.leave();
        let _ = writeln!(io::stderr(), "{line}");
        shown.draw();
    }

    /// Adds a progress bar; returns its number.
    pub fn add(&self, label: &str, total: usize) -> usize {
        let mut shown = self.lock();
        let id = shown.next_bar;
        shown.next_bar += 1;
        shown.view.bars.push(Bar::new(id, label, total));
        shown.draw();
        id
    }

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        let mut shown = self.lock();
        change(&mut shown.view);
        // What ends is removed at once: results are printed where it stood.
        if shown.view.bars.is_empty() || shown.drawn.is_none_or(|drawn| drawn.elapsed() >= CALM) {
            shown.draw();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn draw(&mut self) {
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        let size = Size::new(columns, rows);
        let area = self.view.area(size);
        // A closed terminal must not end a run, so a failed write is no error.
        let _ = self.draw_in(size, area);
    }

    fn draw_in(&mut self, size: Size, area: Size) -> io::Result<()> {
        let fits = |terminal: &Terminal<Foot<BufWriter<Stderr>>>| terminal.backend().area() == area;
        if size != self.size || !self.terminal.as_ref().is_some_and(fits) {
            self.leave()?;
            self.size = size;
        }
        if area.height == 0 {
            return Ok(());
        }
        let terminal = match &mut self.terminal {
            Some(terminal) => terminal,
            None => {
                let foot = Foot::open(BufWriter::with_capacity(FRAME, io::stderr()), area, self.colours)?;
                let viewport = Viewport::Fixed(Rect::new(0, 0, area.width, area.height));
                self.terminal.insert(Terminal::with_options(foot, TerminalOptions { viewport })?)
            }
        };
        let view = &self.view;
        terminal.draw(|frame| view.render(frame.area(), frame.buffer_mut()))?;
        self.drawn = Some(Instant::now());
        terminal.backend_mut().park()
    }

    fn leave(&mut self) -> io::Result<()> {
        match self.terminal.take() {
            Some(mut terminal) => terminal.backend_mut().leave(),
            None => Ok(()),
        }
    }
}

/// Removes the view before a panic's message is printed, so that neither garbles the other.
fn leave_before_panics(screen: &Arc<Screen>) {
    let weak = Arc::downgrade(screen);
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(screen) = weak.upgrade() {
            // A panic while drawing holds the lock itself; then the message stands below the view.
            let shown = match screen.shown.try_lock() {
                Ok(shown) => Some(shown),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(mut shown) = shown {
                let _ = shown.leave();
            }
        }
        previous(panic);
    }));
}

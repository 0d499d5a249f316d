//! What the view at the foot of the terminal shows: progress, where a step's time goes, small curves over the whole run, and how the
//! plugins are. It fits itself to the room that there is.

use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

/// Widest view: wider terminals stay as they are when they are made a little narrower.
const WIDEST: u16 = 110;
/// Columns from which on curves stand in two columns.
const TWO_COLUMNS: u16 = 72;
/// Columns of a curve's name and of its last figure.
const NAME: u16 = 14;
const FIGURE: u16 = 10;
/// Plugins that are listed at most.
const MOST_PLUGINS: usize = 8;

const FAINT: Style = Style::new().dim();
const STRONG: Style = Style::new().bold();

/// The figures of one training step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepFigures {
    /// Mean reward.
    pub reward: f64,
    /// Mean accuracy.
    pub accuracy: f64,
    /// Share of the questions with a search.
    pub share_searching: f64,
    /// KL to the reference, nats per token.
    pub kl: f64,
    /// Entropy, nats per sampled token.
    pub entropy: f64,
    /// Seconds of generation, tools, reward and learner.
    pub seconds: [f64; 4],
}

/// How a plugin is, since the run began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Milliseconds of a call: the median.
    pub median_ms: f64,
    /// Milliseconds that all but one call in a hundred stay below.
    pub p99_ms: f64,
}

/// The progress of a phase.
pub struct Bar {
    pub id: usize,
    label: String,
    total: usize,
    done: usize,
    /// Steps that were done before the phase began here.
    before: usize,
    begun: Instant,
    message: String,
}

impl Bar {
    pub fn new(id: usize, label: &str, total: usize) -> Self {
        Self { id, label: label.to_owned(), total, done: 0, before: 0, begun: Instant::now(), message: String::new() }
    }

    pub fn start_at(&mut self, done: usize) {
        (self.done, self.before) = (done, done);
    }

    pub fn step(&mut self, message: String) {
        self.done += 1;
        self.message = message;
    }

    fn share(&self) -> f64 {
        if self.total == 0 { 1.0 } else { self.done as f64 / self.total as f64 }
    }

    /// What is left at the pace so far.
    fn left(&self) -> Option<Duration> {
        let made = self.done.checked_sub(self.before).filter(|made| *made > 0)?;
        Some(self.begun.elapsed().mul_f64(self.total.saturating_sub(self.done) as f64 / made as f64))
    }
}

/// Everything that is shown.
#[derive(Default)]
pub struct View {
    pub bars: Vec<Bar>,
    /// By plugin.
    pub plugins: Vec<(String, Health)>,
    steps: Vec<StepFigures>,
}

impl View {
    pub fn add_figures(&mut self, figures: StepFigures) {
        self.steps.push(figures);
    }

    /// The phase is over; the figures of steps go with the last one.
    pub fn remove(&mut self, id: usize) {
        self.bars.retain(|bar| bar.id != id);
        if self.bars.is_empty() {
            self.steps.clear();
        }
    }

    /// The size of the view in a terminal of `size`; no rows where there is nothing to show.
    pub fn area(&self, size: Size) -> Size {
        let width = size.width.saturating_sub(1).min(WIDEST);
        if self.bars.is_empty() || width < 10 || size.height < 3 {
            return Size::new(width, 0);
        }
        // One row above stays for the log, one below for the cursor.
        let room = size.height.saturating_sub(2);
        let rows = self.bars.len() as u16 + self.parts(width).iter().map(|part| part.rows(self, width) + 1).sum::<u16>();
        if rows <= room {
            return Size::new(width, rows);
        }
        // Whole parts are left out, the last first.
        let mut rows = self.bars.len() as u16;
        for part in self.parts(width) {
            let more = part.rows(self, width) + 1;
            if rows + more > room {
                break;
            }
            rows += more;
        }
        Size::new(width, rows.min(room))
    }

    fn parts(&self, width: u16) -> Vec<Part> {
        let mut parts = Vec::new();
        if !self.steps.is_empty() && width >= 30 {
            parts.extend([Part::Time, Part::Curves]);
            if !self.plugins.is_empty() {
                parts.push(Part::Plugins);
            }
        }
        parts
    }

    /// Draws the view into `area`, which [`View::area`] gave.
    pub fn render(&self, area: Rect, buffer: &mut Buffer) {
        let mut y = area.y;
        for bar in self.bars.iter().take(usize::from(area.height)) {
            bar_line(bar, area.width).render(Rect { y, height: 1, ..area }, buffer);
            y += 1;
        }
        for part in self.parts(area.width) {
            let rows = part.rows(self, area.width);
            if y + 1 + rows > area.bottom() {
                break;
            }
            part.render(self, Rect { y: y + 1, height: rows, ..area }, buffer);
            y += 1 + rows;
        }
    }
}

/// What stands below the bars, each part with an empty row above it.
enum Part {
    Time,
    Curves,
    Plugins,
}

impl Part {
    fn rows(&self, view: &View, width: u16) -> u16 {
        match self {
            Part::Time => 1,
            Part::Curves => (CURVES.len() as u16).div_ceil(if width >= TWO_COLUMNS { 2 } else { 1 }),
            Part::Plugins => 1 + view.plugins.len().min(MOST_PLUGINS) as u16,
        }
    }

    fn render(&self, view: &View, area: Rect, buffer: &mut Buffer) {
        match self {
            Part::Time => {
                if let Some(last) = view.steps.last() {
                    time_line(last, area.width).render(area, buffer);
                }
            }
            Part::Curves => curves(&view.steps, area, buffer),
            Part::Plugins => plugins(&view.plugins, area, buffer),
        }
    }
}

fn bar_line(bar: &Bar, width: u16) -> Line<'static> {
    let clock = |time: Duration| {
        let seconds = time.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
    };
    let counts = format!(" {}/{}", bar.done, bar.total);
    let times =
        bar.left().map_or_else(|| clock(bar.begun.elapsed()), |left| format!("{}, {} left", clock(bar.begun.elapsed()), clock(left)));
    let label = format!("{:<6} ", bar.label);
    // Name and counts come first, then the times, the bar itself, and what the phase has to say.
    let mut room = usize::from(width).saturating_sub(label.chars().count() + counts.len());
    let mut spans = vec![Span::styled(label, STRONG)];
    let length = if room >= 50 { 28 } else { room.saturating_sub(24).min(28) };
    if length >= 6 {
        let full = (bar.share() * length as f64).round() as usize;
        spans.push(Span::styled("━".repeat(full.min(length)), Style::new().fg(Color::Cyan)));
        spans.push(Span::styled("─".repeat(length - full.min(length)), FAINT));
        room -= length;
    }
    spans.push(Span::raw(counts));
    if room > times.len() + 2 {
        room -= times.len() + 2;
        spans.push(Span::styled(format!("  {times}"), FAINT));
    }
    if !bar.message.is_empty() && room > bar.message.chars().count() + 2 {
        spans.push(Span::raw(format!("  {}", bar.message)));
    }
    Line::from(spans)
}

/// Where the last step's time went.
fn time_line(step: &StepFigures, width: u16) -> Line<'static> {
    let total: f64 = step.seconds.iter().sum();
    let mut spans = vec![Span::styled("step   ", STRONG), Span::raw(format!("{} s", figure(total)))];
    let mut used = spans.iter().map(Span::width).sum::<usize>();
    for (name, seconds) in ["rollout", "tools", "reward", "learner"].iter().zip(step.seconds) {
        let share = if total > 0.0 { 100.0 * seconds / total } else { 0.0 };
        let text = format!("  {name} {} s {share:.0} %", figure(seconds));
        used += text.chars().count();
        if used > usize::from(width) {
            break;
        }
        spans.push(Span::raw(text));
    }
    Line::from(spans)
}

type Curve = (&'static str, fn(&StepFigures) -> f64);

const CURVES: [Curve; 6] = [
    ("reward", |step| step.reward),
    ("accuracy", |step| step.accuracy),
    ("searching", |step| step.share_searching),
    ("KL", |step| step.kl),
    ("entropy", |step| step.entropy),
    ("seconds", |step| step.seconds.iter().sum()),
];

fn curves(steps: &[StepFigures], area: Rect, buffer: &mut Buffer) {
    let columns = if area.width >= TWO_COLUMNS { 2 } else { 1 };
    let width = (area.width + 1) / columns - 1;
    for (at, (name, of)) in CURVES.iter().enumerate() {
        let (row, column) = (at as u16 / columns, at as u16 % columns);
        let place = Rect { x: area.x + column * (width + 1), y: area.y + row, width, height: 1 };
        if place.y >= area.bottom() {
            break;
        }
        let values: Vec<f64> = steps.iter().map(of).collect();
        let last = values.last().map_or(String::new(), |last| figure(*last));
        Line::from(vec![Span::styled(format!("{name:<13} "), FAINT), Span::raw(format!("{last:>8}"))]).render(place, buffer);
        let head = NAME + FIGURE;
        if place.width > head + 3 {
            let plot = Rect { x: place.x + head, width: place.width - head - 1, ..place };
            let heights = heights(&values, usize::from(plot.width));
            Sparkline::default().data(heights).max(8).style(Style::new().fg(Color::Cyan)).render(plot, buffer);
        }
    }
}

/// The values over the whole run as heights from 1 to 8 in at most `width` columns, the lowest 1 and the highest 8.
fn heights(values: &[f64], width: usize) -> Vec<u64> {
    let columns = values.len().min(width).max(1);
    let mean = |at: usize| {
        let part = &values[at * values.len() / columns..(at + 1) * values.len() / columns];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..columns.min(values.len())).map(mean).collect();
    let finite = || means.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    means
        .iter()
        .map(|value| match (value - low) / (high - low) {
            share if share.is_finite() => 1 + (7.0 * share).round() as u64,
            // All the same, or no number.
            _ if value.is_finite() => 4,
            _ => 0,
        })
        .collect()
}

fn plugins(plugins: &[(String, Health)], area: Rect, buffer: &mut Buffer) {
    let wide = area.width >= 66;
    let row = |name: &str, figures: [String; 4]| {
        let [calls, failed, median, p99] = figures;
        let name: String = name.chars().take(20).collect();
        if wide { format!("{name:<21}{calls:>10}{failed:>9}{median:>12}{p99:>13}") } else { format!("{name:<16.16}{calls:>7}{failed:>7}") }
    };
    let heading = row("plugin", ["calls", "failed", "median ms", "p99 ms"].map(String::from));
    Line::styled(heading, FAINT).render(Rect { height: 1, ..area }, buffer);
    for (at, (name, health)) in plugins.iter().take(MOST_PLUGINS).enumerate() {
        let figures = [health.calls.to_string(), health.failures.to_string(), figure(health.median_ms), figure(health.p99_ms)];
        let style = if health.failures > 0 { Style::new().fg(Color::Yellow) } else { Style::new() };
        Line::styled(row(name, figures), style).render(Rect { y: area.y + 1 + at as u16, height: 1, ..area }, buffer);
    }
}

/// A figure with three digits that count.
fn figure(value: f64) -> String {
    let size = value.abs();
    match () {
        () if !value.is_finite() => "–".into(),
        () if size >= 1000.0 => format!("{value:.0}"),
        () if size >= 100.0 => format!("{value:.0}"),
        () if size >= 10.0 => format!("{value:.1}"),
        () if size >= 1.0 => format!("{value:.2}"),
        () if size == 0.0 => "0".into(),
        () if size >= 1e-3 => format!("{value:.3}"),
        () => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// A run of `steps` steps with two plugins, drawn into a terminal of the given size.
    fn drawn(steps: usize, columns: u16, rows: u16) -> Vec<String> {
        let mut view = View::default();
        let mut bar = Bar::new(0, "GRPO", 280);
        bar.start_at(3);
        bar.step("reward 0.9".into());
        view.bars.push(bar);
        for step in 0..steps {
            let grown = step as f64 / steps as f64;
            view.add_figures(StepFigures {
                reward: grown,
                accuracy: 0.5,
                share_searching: 1.0 - grown,
                kl: f64::NAN,
                entropy: 0.2,
                seconds: [0.25, 0.05, 0.1, 0.6],
            });
        }
        let health = |calls, failures| Health { calls, failures, median_ms: 3.0, p99_ms: 12.5 };
        view.plugins = vec![("image-search".into(), health(20, 0)), ("text-search".into(), health(10, 3))];
        let area = view.area(Size::new(columns, rows));
        assert!(area.width < columns && area.height + 2 <= rows, "{area} in {columns}x{rows}");
        if area.height == 0 {
            return Vec::new();
        }
        let mut terminal = Terminal::new(TestBackend::new(area.width, area.height)).unwrap();
        terminal.draw(|frame| view.render(frame.area(), frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        (0..area.height).map(|y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let lines = drawn(100, 100, 40);
        assert_eq!(lines.len(), 11, "{lines:#?}");
        assert!(lines[0].starts_with("GRPO   ─") && lines[0].contains(" 4/280  0:00") && lines[0].ends_with("reward 0.9"), "{lines:#?}");
        assert_eq!(lines[2], "step   1.00 s  rollout 0.250 s 25 %  tools 0.050 s 5 %  reward 0.100 s 10 %  learner 0.600 s 60 %");
        assert!(lines[4].contains("reward") && lines[4].contains("▁▁▂▂▂▃") && lines[4].contains("▇▇██  accuracy"), "{lines:#?}");
        assert!(lines[5].starts_with("searching") && lines[5].contains("█") && lines[5].contains("KL                   –"), "{lines:#?}");
        assert!(lines[6].starts_with("entropy          0.200  ▄▄▄▄"), "{lines:#?}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines[9]), ["image-search", "20", "0", "3.00", "12.5"]);
        assert_eq!(words(&lines[10]), ["text-search", "10", "3", "3.00", "12.5"]);
    }

    #[test]
    fn little_room_shows_the_most_important_part() {
        let narrow = drawn(100, 40, 40);
        assert!(narrow[0].starts_with("GRPO") && narrow[0].contains("4/280"), "{narrow:#?}");
        assert_eq!(narrow.iter().filter(|line| line.contains('█')).count(), 2, "a curve a row: {narrow:#?}");
        assert!(narrow.iter().any(|line| line.starts_with("text-search")), "{narrow:#?}");
        assert_eq!(drawn(100, 100, 9).len(), 7, "no room for the plugins");
        assert_eq!(drawn(100, 100, 3).len(), 1, "one row");
        assert_eq!(drawn(100, 20, 24).len(), 1, "no room for curves");
        assert!(drawn(100, 20, 24)[0].contains("4/280"));
        assert!(drawn(100, 8, 24).is_empty() && drawn(100, 100, 2).is_empty(), "no room at all");
        assert_eq!(drawn(0, 100, 40).len(), 1, "no step yet");
    }

    #[test]
    fn curves_hold_the_whole_run() {
        assert_eq!(heights(&[0.0, 1.0], 10), [1, 8]);
        assert_eq!(heights(&(0..1000).map(f64::from).collect::<Vec<_>>(), 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(heights(&[3.0; 5], 5), [4; 5]);
        assert_eq!(heights(&[f64::NAN, 1.0, 2.0], 5), [0, 1, 8]);
        assert!(heights(&[], 5).is_empty());
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.91234, 12.345, 123.4, 5e-5, -0.5, f64::NAN].map(figure);
        assert_eq!(shown, ["0", "0.912", "12.3", "123", "5.0e-5", "-0.500", "–"]);
    }
}

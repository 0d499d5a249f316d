//! Runs in a terminal: a list, one in detail, several compared.

use std::fs;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::{Run, State, differences};

/// Bytes of everything in a directory; links are not followed.
pub fn bytes_on_disk(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// One line a run: state, steps, seed, accuracy and searches on demand before and after, size.
pub fn runs_table(runs: &[Run]) -> String {
    let mut table = plain(&["run", "state", "steps", "seed", "accuracy %", "searches/q", "size"]);
    for run in runs {
        table.add_row([
            shown(&run.name),
            run.state.name().to_owned(),
            steps(run),
            run.config.get("seed").map_or("-".into(), |seed| shown(seed)),
            before_and_after(run, "accuracy", |value| format!("{:.1}", 100.0 * value)),
            before_and_after(run, "searches_per_question", |value| format!("{value:.2}")),
            size(bytes_on_disk(&run.path)),
        ]);
    }
    table.to_string()
}

/// Everything about one run that fits a screen.
pub fn run_description(run: &Run) -> String {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name:<14} {value}"));
    say("run", shown(&run.name));
    say("directory", run.path.display().to_string());
    let held = if run.locked && run.state == State::Finished { " (a process holds its lock)" } else { "" };
    say("state", format!("{}{held}", run.state.name()));
    say("steps", steps(run));
    say("program", run.version.as_deref().map_or("unknown".into(), |version| format!("mmhost {}", shown(version))));
    say("seed", run.config.get("seed").map_or("unknown".into(), |seed| shown(seed)));
    let checkpoints: Vec<String> = run.checkpoints.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
    say("checkpoints", if checkpoints.is_empty() { "none".into() } else { format!("step {}", checkpoints.join(", ")) });
    say("size", size(bytes_on_disk(&run.path)));
    if let Some(seconds) = total_seconds(run) {
        say("time", format!("{seconds:.0} s"));
    }
    for (figure, label) in [("accuracy", "accuracy"), ("searches_per_question", "searches/q")] {
        say(label, format!("{} (on-demand, {})", before_and_after(run, figure, |value| format!("{value:.3}")), main_split(run)));
    }
    for column in ["reward", "kl", "entropy"] {
        if let Some(value) = run.steps.last(column) {
            say(column, format!("{value:.4} (last step)"));
        }
    }
    for (name, digest) in &run.plugins {
        say("plugin", format!("{:<18} {digest}", shown(name)));
    }
    for problem in &run.problems {
        say("damage", shown(problem));
    }
    lines.join("\n")
}

/// In what runs differ, and what they reached.
pub fn runs_difference(runs: &[&Run]) -> String {
    let names: Vec<String> = runs.iter().map(|run| shown(&run.name)).collect();
    let heading = |first: &str| std::iter::once(first.to_owned()).chain(names.iter().cloned()).collect::<Vec<_>>();
    let mut reached = plain(&heading("reached").iter().map(String::as_str).collect::<Vec<_>>());
    let mut row = |name: &str, value: &dyn Fn(&Run) -> String| {
        reached.add_row(std::iter::once(name.to_owned()).chain(runs.iter().map(|run| value(run))));
    };
    row("state", &|run| run.state.name().to_owned());
    row("steps", &steps);
    row("accuracy %", &|run| before_and_after(run, "accuracy", |value| format!("{:.1}", 100.0 * value)));
    row("searches/q", &|run| before_and_after(run, "searches_per_question", |value| format!("{value:.2}")));
    row("last reward", &|run| run.steps.last("reward").map_or("-".into(), |reward| format!("{reward:.4}")));
    row("time", &|run| total_seconds(run).map_or("-".into(), |seconds| format!("{seconds:.0} s")));

    let found = differences(runs);
    if found.is_empty() {
        return format!("{reached}\n\nConfigurations, plugins and versions are the same.");
    }
    let mut settings = plain(&heading("setting").iter().map(String::as_str).collect::<Vec<_>>());
    for difference in found {
        let values = difference.values.iter().map(|value| value.as_deref().map_or("not set".into(), short));
        settings.add_row(std::iter::once(shown(&difference.key)).chain(values));
    }
    format!("{reached}\n\n{settings}")
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn steps(run: &Run) -> String {
    match run.planned_steps() {
        Some(planned) => format!("{}/{planned}", run.last_step()),
        None => run.last_step().to_string(),
    }
}

/// The split that the run's figures are told on: its test, or else its first.
fn main_split(run: &Run) -> String {
    let of = |policy: &Option<Value>| {
        let splits = policy.as_ref()?["on_demand"].as_object()?;
        if splits.contains_key("test") { Some("test".to_owned()) } else { splits.keys().next().cloned() }
    };
    of(&run.summary.trained).or_else(|| of(&run.summary.base)).unwrap_or_else(|| "test".into())
}

fn before_and_after(run: &Run, figure: &str, show: impl Fn(f64) -> String) -> String {
    let split = main_split(run);
    let of = |policy: &Option<Value>| policy.as_ref()?["on_demand"][&split][figure]["value"].as_f64().map(&show);
    match (of(&run.summary.base), of(&run.summary.trained)) {
        (Some(base), Some(trained)) => format!("{base} → {trained}"),
        (Some(base), None) => format!("{base} → ?"),
        (None, Some(trained)) => trained,
        (None, None) => "-".into(),
    }
}

fn total_seconds(run: &Run) -> Option<f64> {
    let timing = &run.summary.timing;
    let sum = || (!timing.is_empty()).then(|| timing.values().sum());
    timing.get("total").copied().or_else(sum)
}

/// A value as a cell of a table: digests by their beginning, long ones cut.
fn short(value: &str) -> String {
    const LONGEST: usize = 60;
    if value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return value[..12].to_owned();
    }
    let cut: String = value.chars().take(LONGEST).collect();
    shown(&if cut.len() < value.len() { cut + "…" } else { cut })
}

/// Text from a run, safe for a terminal: control characters are written out.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_command_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(short(&"ab".repeat(32)), "abababababab");
        assert_eq!(short(&"é".repeat(99)).chars().count(), 61);
    }
}

//! What a run shows while it works: a view on a terminal that leaves it as it was, plain lines anywhere else.

mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Mmhost;

/// Whether there is util-linux's `script`, which runs a command on a terminal of its own.
fn has_script() -> bool {
    let found = Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("skipped: there is no `script` (util-linux)");
    }
    found
}

/// Sixty steps, so that the view of a step stands long enough to be drawn.
fn train_args(run: &str) -> Vec<String> {
    ["train", "--plugins", &common::plugins(), "--config", &common::tiny_config(), "--steps", "60", "--run", run].map(String::from).to_vec()
}

/// Trains on a terminal of the given size, after the shell commands in `first`; returns what the terminal received.
fn on_a_terminal(mmhost: &Mmhost, run: &str, size: (u16, u16), first: &str, variables: &[(&str, &str)]) -> Vec<u8> {
    let quoted: Vec<String> = train_args(run).iter().map(|arg| format!("'{arg}'")).collect();
    let program = env!("CARGO_BIN_EXE_mmhost");
    let line = format!("stty rows {} cols {}; {first} '{program}' {}; echo after", size.0, size.1, quoted.join(" "));
    let log = mmhost.path("typescript");
    let mut command = Command::new("script");
    command.args(["-qec", &line, &log.display().to_string()]).current_dir(mmhost.path(".")).env("MMHOST_CACHE", mmhost.path("cache"));
    command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env_remove("NO_COLOR").envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().unwrap();
    let bytes = fs::read(log).unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&bytes));
    // `script` heads and ends its log with lines of its own.
    let from = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let to = bytes.windows(12).rposition(|part| part == b"\nScript done").unwrap_or(bytes.len());
    bytes[from..to].to_vec()
}

fn terminal_of(rows: u16, columns: u16) -> vt100::Parser {
    let cells = |number| std::num::NonZero::new(number).unwrap();
    vt100::Parser::new(cells(rows), cells(columns), 0)
}

/// The lines that are left on a terminal, scrollback included.
fn left_on(bytes: &[u8], (rows, columns): (u16, u16)) -> Vec<String> {
    // A screen so high that nothing scrolls out of it shows the scrollback too; movements are relative, so they mean the same.
    let mut terminal = terminal_of(rows.max(400), columns);
    terminal.process(bytes);
    let screen = terminal.screen();
    assert!(!screen.hide_cursor() && !screen.alternate_screen(), "the terminal is as it was");
    assert_eq!(screen.fgcolor(), vt100::Color::Default);
    assert!(!screen.bold() && !screen.dim());
    screen.rows(0, columns).map(|row| row.trim_end().to_owned()).filter(|row| !row.is_empty()).collect()
}

#[test]
fn a_pipe_gets_plain_lines() {
    let mmhost = Mmhost::new();
    let run = mmhost.path("run").display().to_string();
    let args = train_args(&run);
    let out = mmhost.output(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(out.status.success());
    for (name, bytes) in [("standard output", &out.stdout), ("standard error", &out.stderr)] {
        let strange = bytes.iter().find(|byte| **byte < b' ' && **byte != b'\n');
        assert_eq!(strange, None, "a control character on {name}:\n{}", String::from_utf8_lossy(bytes));
    }
    let log = String::from_utf8(out.stderr).unwrap();
    assert!(log.lines().all(|line| line.starts_with('[') && line.contains("s] ")), "{log}");
    assert!(log.lines().any(|line| line.contains("GRPO 60/60  reward ")), "{log}");
}

#[test]
fn a_terminal_shows_the_view_and_is_left_with_the_log() {
    if !has_script() {
        return;
    }
    let mmhost = Mmhost::new();
    let size = (30, 100);
    let bytes = on_a_terminal(&mmhost, "run", size, "", &[]);
    // At some time the whole view stood on the terminal.
    let mut terminal = terminal_of(size.0, size.1);
    let mut seen = String::new();
    for part in bytes.split_inclusive(|byte| *byte == b'G') {
        terminal.process(part);
        let now = terminal.screen().contents();
        if now.contains("mmsearch-reward") {
            seen = now;
        }
    }
    for expected in
        ["GRPO", "/60", "rollout", "learner", "reward", "accuracy", "searching", "entropy", "▄", "plugin", "image-search", "text-search"]
    {
        assert!(seen.contains(expected), "{expected}:\n{seen}");
    }
    // In the end there is the log, line by line, and the table; nothing of the view.
    let lines = left_on(&bytes, size);
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}:\n{}", lines.join("\n")));
    assert!(at("run directory") < at("building the base model") && at("building the base model") < at("workflow"));
    assert!(at("workflow") < at("everything is in") && at("everything is in") < at("after"));
    assert!(!lines.iter().any(|line| line.contains("━") || line.contains("─") || line.contains("mmsearch-reward")), "{}", lines.join("\n"));
}

#[test]
fn narrow_and_changing_terminals_stay_legible() {
    if !has_script() {
        return;
    }
    let mmhost = Mmhost::new();
    // While it runs the terminal becomes narrow, low, and large again.
    let resizing = "(sleep 0.6; stty cols 44 < /dev/tty; sleep 0.6; stty rows 6 < /dev/tty; sleep 0.6; stty rows 40 cols 120 < /dev/tty) &";
    for (name, size, first) in [("narrow", (24, 38), ""), ("low", (5, 80), ""), ("changing", (30, 100), resizing)] {
        let bytes = on_a_terminal(&mmhost, name, size, first, &[]);
        let lines = left_on(&bytes, (size.0, 160));
        for expected in ["run directory", "everything is in", "after"] {
            assert!(lines.iter().any(|line| line.contains(expected)), "{name}: {expected}\n{}", lines.join("\n"));
        }
        assert!(!lines.iter().any(|line| line.contains("━")), "{name}\n{}", lines.join("\n"));
    }
}

#[test]
fn colours_and_drawing_can_be_declined() {
    if !has_script() {
        return;
    }
    let mmhost = Mmhost::new();
    let plain = String::from_utf8(on_a_terminal(&mmhost, "plain", (30, 100), "", &[("NO_COLOR", "1")])).unwrap();
    assert!(plain.contains("GRPO") && plain.contains('\u{1b}'), "it is drawn");
    let styled = plain.split('\u{1b}').skip(1).find(|rest| rest.trim_start_matches(|c: char| "[0123456789;".contains(c)).starts_with('m'));
    assert_eq!(styled, None, "without a colour");
    let dumb = String::from_utf8(on_a_terminal(&mmhost, "dumb", (30, 100), "", &[("TERM", "dumb")])).unwrap();
    assert!(dumb.contains("GRPO 60/60") && !dumb.contains('\u{1b}'), "{dumb}");
}

#[test]
fn ctrl_c_leaves_a_terminal_to_go_on_with() {
    if !has_script() {
        return;
    }
    let mmhost = Mmhost::new();
    let text = fs::read_to_string(common::tiny_config()).unwrap();
    let config = mmhost.path("long.toml");
    fs::write(&config, text.replace("[train]\nsteps = 6", "[train]\nsteps = 100000")).unwrap();
    let line = format!(
        "stty rows 30 cols 100; trap : INT; '{}' train --plugins '{}' --config '{}' --run run; echo after",
        env!("CARGO_BIN_EXE_mmhost"),
        common::plugins(),
        config.display()
    );
    let log = mmhost.path("typescript");
    // Whoever runs the tests in the background may have had the signal ignored, and children inherit that.
    let mut script = Command::new("env")
        .args(["--default-signal=INT", "script", "-qfec", &line, &log.display().to_string()])
        .current_dir(mmhost.path("."))
        .env("MMHOST_CACHE", mmhost.path("cache"))
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while fs::read_to_string(mmhost.path("run/metrics.jsonl")).unwrap_or_default().lines().count() < 5 {
        assert!(Instant::now() < deadline && script.try_wait().unwrap().is_none(), "no fifth step");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    // It stays open: an end of input right behind the key may overtake it.
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    while script.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "Ctrl-C did not end it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let bytes = fs::read(&log).unwrap();
    let from = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let lines = left_on(&bytes[from..], (30, 100));
    // The last figures stay in sight, whole, and what follows stands below them on a row of its own.
    let at = |text: &str| lines.iter().rposition(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}:\n{}", lines.join("\n")));
    assert!(at("GRPO") < at("mmsearch-reward") && at("mmsearch-reward") < at("after"), "{}", lines.join("\n"));
    assert!(["after", "^Cafter"].contains(&lines[at("after")].as_str()), "{}", lines.join("\n"));
}

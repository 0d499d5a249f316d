//! Looking at runs and removing them: `mmhost report` and `mmhost run`, on directories as `mmhost train` leaves them.

mod common;

use std::fs;
use std::path::Path;

use common::Mmhost;

/// A run directory with figures, finished or not.
fn write_run(run: &Path, seed: u64, finished: bool) {
    fs::create_dir_all(run.join("episodes")).unwrap();
    fs::write(run.join("run.toml"), format!("# mmhost 0.1.0; plugins by SHA-256:\nseed = {seed}\n[train]\nsteps = 2\n")).unwrap();
    fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.5}\n{\"step\":2,\"reward\":0.75}\n").unwrap();
    let policy = |accuracy: f64| {
        let estimate = |value: f64| serde_json::json!({"value": value, "low": value, "high": value});
        let metrics = serde_json::json!({"accuracy": estimate(accuracy), "searches_per_question": estimate(1.0), "n": 4});
        serde_json::json!({"on_demand": {"test": metrics}})
    };
    fs::write(run.join("base.json"), policy(0.25).to_string()).unwrap();
    if finished {
        let summary = serde_json::json!({"base": policy(0.25), "trained": policy(0.875), "timing": {"total": 12.0}, "invariants": {}});
        fs::write(run.join("summary.json"), summary.to_string()).unwrap();
    }
}

#[test]
fn reports_are_written_beside_the_run_or_where_asked() {
    let mmhost = Mmhost::new();
    let (one, other) = (mmhost.path("runs/one"), mmhost.path("runs/other"));
    write_run(&one, 0, true);
    write_run(&other, 1, true);
    let out = mmhost.ok(&["report", "runs/one"]);
    assert_eq!(out.trim(), "runs/one/report.html");
    assert!(fs::read_to_string(one.join("report.html")).unwrap().starts_with("<!doctype html>"));

    assert_eq!(mmhost.ok(&["report", "runs/one", "runs/other", "--out", "both.html"]).trim(), "both.html");
    let both = fs::read_to_string(mmhost.path("both.html")).unwrap();
    assert!(both.contains("<title>one, other") && both.contains("\"seeds_only\":true"));
    assert_eq!(mmhost.ok(&["report", "runs/one", "runs/other"]).trim(), "report.html");

    let message = mmhost.fails(3, &["report", "runs"]);
    assert!(message.contains("runs is not a run directory") && message.contains("run.toml"), "{message}");
    let message = mmhost.fails(3, &["report", "runs/one", "--out", "runs"]);
    assert!(message.contains("runs is a directory"), "{message}");
    mmhost.fails(2, &["report"]);
}

#[test]
fn runs_are_listed_shown_and_compared() {
    let mmhost = Mmhost::new();
    write_run(&mmhost.path("runs/one"), 0, true);
    write_run(&mmhost.path("runs/other"), 1, false);
    fs::create_dir_all(mmhost.path("runs/no-run")).unwrap();
    let list = mmhost.ok(&["run", "list"]);
    let line =
        |name: &str| list.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_else(|| panic!("{name}: {list}"));
    assert!(line("one").contains("finished") && line("one").contains("25.0 → 87.5"), "{list}");
    assert!(line("other").contains("stopped") && line("other").contains("2/2"), "{list}");
    assert!(!list.contains("no-run"), "{list}");

    let show = mmhost.ok(&["run", "show", "runs/one"]);
    assert!(show.contains("mmhost 0.1.0") && show.contains("0.250 → 0.875"), "{show}");
    let diff = mmhost.ok(&["run", "diff", "runs/one", "runs/other"]);
    assert!(diff.lines().any(|line| line.split_whitespace().eq(["seed", "0", "1"])), "{diff}");
    assert!(!diff.contains("train.steps"), "what is the same is not told: {diff}");
    mmhost.fails(2, &["run", "diff", "runs/one"]);
    let message = mmhost.fails(3, &["run", "list", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn pruning_asks_and_spares_what_is_finished_or_written_to() {
    let mmhost = Mmhost::new();
    let path = |name: &str| mmhost.path(&format!("runs/{name}"));
    write_run(&path("finished"), 0, true);
    write_run(&path("stopped"), 1, false);
    write_run(&path("running"), 2, false);
    let lock = fs::File::create(path("running").join(".lock")).unwrap();
    lock.lock().unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("stopped", path("latest")).unwrap();

    let message = mmhost.fails(2, &["run", "prune"]);
    assert!(message.contains("nothing was removed") && message.contains("--yes"), "{message}");
    assert!(path("stopped").exists());

    let out = mmhost.ok(&["run", "prune", "--yes"]);
    assert!(out.contains("stays: runs/running") && out.contains("runs/stopped: stopped"), "{out}");
    assert!(!path("stopped").exists() && path("running").exists() && path("finished").exists());
    assert!(!path("latest").is_symlink(), "it pointed to what is gone");

    assert!(mmhost.ok(&["run", "prune", "--yes", "runs/running"]).contains("nothing to remove"));
    assert!(path("running").exists(), "named or not, it is written to");
    drop(lock);
    mmhost.ok(&["run", "prune", "--yes", "runs/finished", "runs/running"]);
    assert!(!path("finished").exists() && !path("running").exists());
    // Something that looks a little like a run, but is none.
    fs::create_dir_all(path("notes/episodes")).unwrap();
    let message = mmhost.fails(3, &["run", "prune", "--yes", "runs/notes"]);
    assert!(message.contains("neither run.toml nor .lock") && path("notes").exists(), "{message}");
    let message = mmhost.fails(3, &["run", "prune", "--yes", "runs"]);
    assert!(message.contains("is not a run directory") && mmhost.path("runs").exists(), "{message}");
}

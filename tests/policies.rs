//! What a run lays down for its plugins, from outside: a budget that stops it in time, and a reward that must not fail.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Mmhost, copy_plugins, json, tiny_config};

/// The tiny configuration with something added.
fn config(mmhost: &Mmhost, name: &str, more: &str) -> String {
    let file = mmhost.path(name);
    fs::write(&file, format!("{}\n{more}\n", fs::read_to_string(tiny_config()).unwrap())).unwrap();
    file.display().to_string()
}

/// Calls of all plugins together, as the run's ledger counts them.
fn calls(run: &Path) -> u64 {
    json(&run.join("ledger.json")).as_object().unwrap().values().map(|entry| entry["calls"].as_u64().unwrap()).sum()
}

#[test]
fn a_run_stops_before_it_overspends_and_goes_on_with_more() {
    let mmhost = Mmhost::new();
    let plugins = common::plugins();
    let train = |config: &str, run: &str| -> Vec<String> {
        ["train", "--plugins", &plugins, "--config", config, "--run", run].map(str::to_owned).to_vec()
    };
    let strs = |args: &[String]| args.iter().map(|a| Box::leak(a.clone().into_boxed_str()) as &str).collect::<Vec<_>>();
    let free = mmhost.path("free");
    mmhost.ok(&strs(&train(&config(&mmhost, "free.toml", ""), "free")));
    let needed = calls(&free);
    let ledger = json(&free.join("ledger.json"));
    for plugin in ["image-search", "text-search", "mmsearch-reward", "sample-filter"] {
        let entry = &ledger[plugin];
        assert!(entry["calls"].as_u64().unwrap() > 0 && entry["latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{plugin}: {entry}");
    }
    assert!(ledger["image-search"]["peak_memory_bytes"].as_u64().unwrap() >= 65536, "{}", ledger["image-search"]);

    let shown = mmhost.ok(&["run", "show", "free"]);
    assert!(shown.lines().any(|line| line.starts_with("mmsearch-reward ")) && shown.contains("p99 ms"), "{shown}");

    let budget = needed - 3;
    let limited = config(&mmhost, "limited.toml", &format!("[plugins.budget]\ncalls = {budget}"));
    let message = mmhost.fails(3, &strs(&train(&limited, "limited")));
    assert!(message.contains(&format!("[plugins.budget] calls = {budget}")), "{message}");
    let run: PathBuf = mmhost.path("limited");
    assert_eq!(calls(&run), budget, "what the budget allows, and no call more");
    assert!(!run.join("summary.json").exists());

    // The operator allows more, and the run goes on; what it had spent is not forgotten.
    let text = fs::read_to_string(run.join("run.toml")).unwrap();
    fs::write(run.join("run.toml"), text.replace(&format!("calls = {budget}"), "calls = 1000000")).unwrap();
    mmhost.ok(&["train", "--plugins", &plugins, "--run", "limited", "--resume"]);
    assert!(run.join("summary.json").exists() && calls(&run) >= needed, "{} of {needed}", calls(&run));
}

#[test]
fn what_the_guide_lays_down_can_be_laid_down() {
    let mmhost = Mmhost::new();
    let guide = fs::read_to_string(common::root().join("docs/operating.md")).unwrap();
    let blocks: Vec<&str> = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let tables = blocks.iter().filter(|block| block.starts_with("[plugins."));
    let mut seen = 0;
    for block in tables {
        let file = config(&mmhost, &format!("guide-{seen}.toml"), block);
        // Also where it is not granted; a key that is none fails to parse.
        let out = mmhost.output(&["plugin", "list", &common::plugins(), "--config", &file]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!said.contains("not a valid configuration"), "{block}{said}");
        seen += 1;
    }
    assert!(seen >= 2, "{seen} blocks");
}

#[test]
fn a_reward_that_fails_masks_or_stops_as_laid_down() {
    let mmhost = Mmhost::new();
    let folder = mmhost.path("plugins");
    copy_plugins(&folder);
    // So little fuel that a batch of episodes cannot be scored.
    let manifest = folder.join("mmsearch-reward/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text =
        if text.contains("[limits]") { text.replace("[limits]", "[limits]\nfuel = 60000") } else { text + "\n[limits]\nfuel = 60000\n" };
    fs::write(&manifest, text).unwrap();
    let plugins = folder.display().to_string();
    let stop = config(&mmhost, "stop.toml", "[plugins.policy.mmsearch-reward]\non_failure = \"stop\"");
    let message = mmhost.fails(3, &["train", "--plugins", &plugins, "--config", &stop, "--run", "stop"]);
    assert!(message.contains("[plugins.policy.mmsearch-reward] on_failure = \"stop\"") && message.contains("fuel"), "{message}");

    let wrong = config(&mmhost, "wrong.toml", "[plugins.policy.mmsearch-reward]\non_failure = \"keep\"");
    let message = mmhost.fails(3, &["train", "--plugins", &plugins, "--config", &wrong, "--run", "wrong"]);
    assert!(message.contains("expected \"mask\" or \"drop-group\" or \"stop\" for a reward"), "{message}");
}

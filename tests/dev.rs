//! `train --dev`: a plugin that is changed while the run goes on is taken up, a bad one refused.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use common::{Mmhost, copy_plugins, json, tiny_config};
use mmhost_plugins::lock::{Lock, digest};

/// Waits until something holds, while the run goes on.
fn until(what: &str, run: &mut Child, said: &Path, holds: impl Fn(&str) -> bool) {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(said).unwrap_or_default();
        if holds(&text) {
            return;
        }
        assert!(run.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(120), "{what}\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Puts another component into a plugin's place, as a build does: the bytes first, then their pin.
fn put(plugins: &Path, name: &str, component: &[u8]) {
    fs::write(plugins.join(name).join(format!("{name}.wasm")), component).unwrap();
    let mut lock = Lock::read(plugins).unwrap();
    lock.plugins.get_mut(name).unwrap().component = format!("sha256:{}", digest(component));
    lock.write(plugins).unwrap();
}

#[test]
fn changed_plugins_are_swapped_in_between_steps_and_bad_ones_refused() {
    let mmhost = Mmhost::new();
    let (plugins, run, said) = (mmhost.path("plugins"), mmhost.path("run"), mmhost.path("said"));
    copy_plugins(&plugins);
    let args = ["train", "--plugins", "plugins", "--config", &tiny_config(), "--run", "run", "--dev", "--steps", "100000"];
    let mut child =
        mmhost.command(&args).stderr(File::create(&said).unwrap()).stdout(File::create(mmhost.path("out")).unwrap()).spawn().unwrap();
    let metrics = run.join("metrics.jsonl");
    until("steps are made", &mut child, &said, |_| fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() >= 2));

    let name = "mmsearch-reward";
    let good = fs::read(plugins.join(name).join(format!("{name}.wasm"))).unwrap();
    put(&plugins, name, b"no component");
    until("the bad one is refused", &mut child, &said, |text| {
        text.contains("mmsearch-reward has changed, but is not swapped in; the old one stays")
    });

    // The same with a custom section at its end: another component that does the same.
    let changed = [&good[..], &[0, 5, 4], b"note"].concat();
    put(&plugins, name, &changed);
    until("the good one is taken up", &mut child, &said, |text| text.contains("mmsearch-reward is swapped in; step "));
    let new = digest(&changed);
    let in_checkpoint = || {
        let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap().flatten().map(|entry| entry.path().join("plugins.json"));
        checkpoints.filter(|file| file.is_file()).any(|file| json(&file)[name]["digest"] == new.as_str())
    };
    until("a checkpoint tells of it", &mut child, &said, |_| in_checkpoint());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(json(&run.join("plugins.json"))[name]["digest"], new.as_str(), "the run began with the old one");
}

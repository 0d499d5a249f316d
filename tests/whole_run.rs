//! The main job from outside, on a model small enough for a test: train, kill, resume, evaluate, score again.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Mmhost, json};

/// Trains the tiny model into `run` and returns the summary.
fn train(mmhost: &Mmhost, run: &Path) -> serde_json::Value {
    let out =
        mmhost.ok(&["train", "--plugins", &common::plugins(), "--config", &common::tiny_config(), "--run", &run.display().to_string()]);
    assert!(out.contains("on-demand") && out.contains("RAG") && out.contains("held out"), "the table:\n{out}");
    json(&run.join("summary.json"))
}

#[test]
fn a_run_ends_in_a_summary_and_a_killed_run_resumes_to_the_same_one() {
    let mmhost = Mmhost::new();
    let (whole, broken) = (mmhost.path("whole"), mmhost.path("broken"));
    let expected = train(&mmhost, &whole);

    // The summary has every figure that it promises.
    for policy in ["base", "trained"] {
        for workflow in ["direct", "rag", "on_demand", "on_demand_sampled"] {
            for split in ["test", "held_out"] {
                let metrics = &expected[policy][workflow][split];
                for field in ["accuracy", "searches_per_question", "share_searching", "calls_over_allowed", "format"] {
                    let e = &metrics[field];
                    let (value, low, high) = (e["value"].as_f64(), e["low"].as_f64(), e["high"].as_f64());
                    assert!(low <= value && value <= high && value.is_some(), "{policy}.{workflow}.{split}.{field}: {e}");
                }
                assert!(metrics["n"].as_u64() > Some(0));
            }
            let class = &expected[policy][workflow]["test"]["image_required"];
            assert!(class["image_search_ratio"]["value"].is_number() && class["text_search_ratio"]["value"].is_number(), "{class}");
        }
        assert_eq!(expected[policy]["rag"]["test"]["searches_per_question"]["value"], 2.0, "RAG searches exactly twice");
        assert_eq!(expected[policy]["direct"]["test"]["searches_per_question"]["value"], 0.0, "direct never searches");
    }
    for phase in ["base_model", "base_evaluation", "rollout", "reward", "learner", "trained_evaluation", "total"] {
        assert!(expected["timing"][phase].as_f64() > Some(0.0), "timing.{phase}: {}", expected["timing"]);
    }
    assert!(expected["peak_memory_bytes"].as_u64() > Some(1 << 20));
    assert!(expected["invariants"]["logprob_diff_max"].as_f64() <= Some(1e-4), "{}", expected["invariants"]);

    // A second run killed in the middle of GRPO.
    let args = ["train", "--plugins", &common::plugins(), "--config", &common::tiny_config(), "--run", &broken.display().to_string()];
    let mut child = mmhost.spawn(&args);
    let deadline = Instant::now() + Duration::from_secs(300);
    while fs::read_to_string(broken.join("metrics.jsonl")).unwrap_or_default().lines().count() < 3 {
        assert!(Instant::now() < deadline, "no third step within five minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!broken.join("summary.json").exists(), "the kill came too late to test anything");
    mmhost.ok(&["train", "--plugins", &common::plugins(), "--run", &broken.display().to_string(), "--resume"]);

    let resumed = json(&broken.join("summary.json"));
    assert_eq!(resumed["base"], expected["base"]);
    assert_eq!(resumed["trained"], expected["trained"]);
    let steps = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let rewards = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).map(|v| (v["step"].clone(), v["reward"].clone(), v["loss"].clone()))
        };
        for line in text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
            let seconds = ["rollout_seconds", "tool_seconds", "reward_seconds", "learner_seconds"].map(|field| line[field].as_f64());
            assert!(seconds.iter().all(|seconds| *seconds >= Some(0.0)) && line["entropy"].as_f64() >= Some(0.0), "{line}");
        }
        text.lines().map(|line| rewards(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(steps(&broken), steps(&whole), "every step once, with the same figures");
    let weights = |run: &Path| fs::read(run.join("checkpoints/step-000006/model.safetensors")).unwrap();
    assert!(weights(&broken) == weights(&whole), "the same weights, bit for bit");

    // The page of each run tells the same figures, and every recorded episode is counted.
    for run in [&whole, &broken] {
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        let data = page.split_once("id=\"report-data\">").unwrap().1.split_once("</script>").unwrap().0;
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["runs"][0]["state"], "finished");
        assert_eq!(data["runs"][0]["summary"]["trained"], expected["trained"]);
        assert_eq!(data["runs"][0]["problems"], serde_json::json!([]));
        assert!(data["runs"][0]["selection"]["episodes"].as_u64() > Some(100), "{}", data["runs"][0]["selection"]);
    }

    another_reward_judges_the_same_run(&mmhost, &whole);
}

fn another_reward_judges_the_same_run(mmhost: &Mmhost, run: &Path) {
    let run_text = run.display().to_string();
    // Its own reward changes nothing: scoring is deterministic.
    let file = mmhost.path("same.json");
    mmhost.ok(&[
        "score",
        "--episodes",
        &run_text,
        "--reward",
        "mmsearch-reward",
        "--plugins",
        &common::plugins(),
        "--json",
        &file.display().to_string(),
    ]);
    let same = json(&file);
    assert_eq!(same["changed"], 0, "{same}");
    assert!(same["episodes"].as_u64() > Some(50), "{same}");
    // Another one gives another figure on the same episodes.
    let file = mmhost.path("f1.json");
    let out = mmhost.ok(&[
        "score",
        "--episodes",
        &run_text,
        "--reward",
        "f1-reward",
        "--plugins",
        &common::plugins(),
        "--json",
        &file.display().to_string(),
    ]);
    assert!(out.contains("f1-reward on"), "{out}");
    assert_eq!(json(&file)["episodes"], same["episodes"]);

    // Kept in the run, it stands in its page beside the stored reward.
    mmhost.ok(&["score", "--episodes", &run_text, "--reward", "f1-reward", "--plugins", &common::plugins(), "--keep"]);
    mmhost.ok(&["report", &run_text]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    let data = page.split_once("id=\"report-data\">").unwrap().1.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let agreement = &data["runs"][0]["agreements"][0];
    assert_eq!((&data["others"][0], &agreement["reward"]), (&"f1-reward".into(), &"f1-reward".into()));
    assert_eq!((&agreement["both"], &agreement["stale"]), (&same["episodes"], &0.into()), "{agreement}");
    assert_eq!(data["runs"][0]["problems"], serde_json::json!([]));
    mmhost.fails(2, &["score", "--episodes", "a-file.jsonl", "--reward", "f1-reward", "--plugins", &common::plugins(), "--keep"]);

    let model = run.join("checkpoints/step-000006").display().to_string();
    let file = mmhost.path("eval.json");
    let args = ["eval", "--model", &model, "--data", "atlas", "--workflow", "rag", "--plugins", &common::plugins(), "--limit", "12"];
    mmhost.ok(&[&args[..], &["--reward", "f1-reward", "--json", &file.display().to_string()]].concat());
    let eval = json(&file);
    assert_eq!(eval["reward"], "f1-reward");
    assert_eq!(eval["metrics"]["n"], 12);
    assert_eq!(eval["metrics"]["searches_per_question"]["value"], 2.0);
}

#[test]
fn a_run_directory_has_one_writer_and_one_run() {
    let mmhost = Mmhost::new();
    let run = mmhost.path("run");
    fs::create_dir_all(&run).unwrap();
    let lock = fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    let run_text = run.display().to_string();
    let args = ["train", "--plugins", &common::plugins(), "--config", &common::tiny_config(), "--run", &run_text];
    let message = mmhost.fails(3, &args);
    assert!(message.contains("another mmhost process"), "{message}");
    drop(lock);

    fs::write(run.join("run.toml"), "kept = true\n").unwrap();
    let message = mmhost.fails(3, &args);
    assert!(message.contains("already holds a run") && message.contains("--resume"), "{message}");
    assert_eq!(fs::read_to_string(run.join("run.toml")).unwrap(), "kept = true\n", "nothing is lost");

    let message = mmhost.fails(3, &["train", "--resume", "--run", &mmhost.path("nothing").display().to_string()]);
    assert!(message.contains("is not a run directory"), "{message}");
}

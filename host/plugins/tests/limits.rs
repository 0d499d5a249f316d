//! Guests that misbehave: each breach becomes its own error, and the next call is unharmed.

mod common;
#[path = "common/guest.rs"]
mod guest;

use common::{block_on, episode, host, query};
use guest::{Folder, REWARD, TOOL, component};
use mmhost_plugins::{MAX_CONCURRENT_CALLS, PluginError, ResultPart, ToolPlugin, Verdict};
use serde_json::json;
use std::time::{Duration, Instant};

const LIMITS: &str = "[limits]\ndeadline_ms = 200\nmemory_mib = 8\noutput_bytes = 4096\nlog_lines = 5\n";

fn bad_tool() -> (Folder, ToolPlugin) {
    let folder = Folder::new("search-tool", LIMITS, &component("search-tool", "0.1.0", TOOL));
    let tool = host(&[]).load_dir(folder.path()).unwrap().tools.remove(0);
    (folder, tool)
}

async fn assert_fine(tool: &ToolPlugin) {
    let (parts, _) = tool.call(&query("o")).await.unwrap();
    assert!(matches!(&parts[..], [ResultPart::Text(text)] if text == "fine"), "{parts:?}");
}

#[test]
fn each_breach_has_its_error_and_spares_the_next_call() {
    let (_folder, tool) = bad_tool();
    assert_eq!((tool.spec().name.as_str(), tool.spec().max_calls), ("guest", 1));
    block_on(async {
        assert_fine(&tool).await;
        for (what, kind, word) in [
            ("t", "trap", "unreachable"),
            ("w", "trap", "its last words: fine"),
            ("r", "trap", "call stack exhausted"),
            ("p", "trap", "out of bounds"),
            ("u", "trap", "utf-8"),
            ("l", "deadline", "200 ms"),
            ("m", "memory", "8 MiB"),
            ("b", "resources", "table elements"),
            ("h", "resources", "handles"),
            ("a", "output", "5000 bytes, at most 4096"),
            ("A", "output", "more than 4096"),
            ("i", "contract", "undecodable image"),
        ] {
            let started = Instant::now();
            let error = tool.call(&query(what)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{what}: {error}");
            assert!(error.to_string().to_lowercase().contains(&word.to_lowercase()), "{what}: {error}");
            assert!(started.elapsed() < Duration::from_millis(1500), "{what}: {:?}", started.elapsed());
            assert_fine(&tool).await;
        }
    });
}

#[test]
fn a_flood_of_log_lines_is_dropped() {
    let (_folder, tool) = bad_tool();
    block_on(async { tool.call(&query("f")).await }).unwrap();
}

#[test]
fn misbehaving_neighbours_do_not_matter() {
    let (_folder, tool) = bad_tool();
    block_on(async {
        let calls = (0..60).map(|index| {
            let tool = tool.clone();
            // More loops than there are threads: guests let each other run.
            let what = ["o", "l", "t", "m", "a", "r"][index % 6];
            tokio::spawn(async move { (what, tool.call(&query(what)).await.map(|_| ())) })
        });
        for done in futures::future::join_all(calls).await {
            let (what, result) = done.unwrap();
            assert_eq!(
                result.as_ref().err().map(PluginError::kind),
                match what {
                    "o" => None,
                    "l" => Some("deadline"),
                    "m" => Some("memory"),
                    "a" => Some("output"),
                    _ => Some("trap"),
                }
            );
        }
    });
}

#[test]
fn calls_beyond_the_pool_wait() {
    let plugins = host(&[("text-search", json!({"corpus": "pause"}))]);
    let folder = reference_over("pause", 2000);
    let tool = plugins.load_dir(folder.path()).unwrap().tools.remove(0);
    let num_calls = 2 * MAX_CONCURRENT_CALLS + 10;
    let started = Instant::now();
    block_on(async {
        let calls = (0..num_calls).map(|_| {
            let tool = tool.clone();
            tokio::spawn(async move { tool.call(&query("Chad")).await })
        });
        for done in futures::future::join_all(calls).await {
            done.unwrap().unwrap();
        }
    });
    let elapsed = started.elapsed();
    // Three rounds of 100 ms each; one after the other they would take fourteen seconds.
    assert!((Duration::from_millis(290)..Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn a_slow_host_service_runs_into_the_deadline() {
    let folder = reference_over("slow", 150);
    let tool = host(&[("text-search", json!({"corpus": "slow"}))]).load_dir(folder.path()).unwrap().tools.remove(0);
    let started = Instant::now();
    // The corpus sleeps on a thread of its own, whose end a runtime would wait for when it is dropped.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = runtime.block_on(tool.call(&query("Chad"))).unwrap_err();
    runtime.shutdown_background();
    assert!(matches!(error, PluginError::Deadline { limit_ms: 150, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
}

#[test]
fn a_failing_host_service_is_an_error_of_the_tool() {
    let folder = reference_over("broken", 1000);
    let tool = host(&[("text-search", json!({"corpus": "broken"}))]).load_dir(folder.path()).unwrap().tools.remove(0);
    let error = block_on(tool.call(&query("Chad"))).unwrap_err();
    assert!(error.to_string().contains("the index is gone"), "{error}");
}

/// The reference text search over another corpus and with another deadline.
fn reference_over(corpus: &str, deadline_ms: u64) -> Folder {
    let source = common::reference().join("text-search");
    let manifest = std::fs::read_to_string(source.join("plugin.toml")).unwrap();
    let manifest = manifest
        .replace("name = \"text-search\"\nversion", "name = \"text-search\"\ncomponent = \"guest.wasm\"\nversion")
        .replace("corpora = [\"default\"]", &format!("corpora = [\"{corpus}\"]"))
        .replace("deadline_ms = 5000", &format!("deadline_ms = {deadline_ms}"));
    let folder = Folder::with_manifest(&manifest, &std::fs::read(source.join("text-search.wasm")).unwrap());
    let mut lock = mmhost_plugins::lock::Lock::read(folder.path()).unwrap();
    let pin = lock.plugins["guest"].clone();
    lock.plugins.insert("text-search".into(), pin);
    lock.write(folder.path()).unwrap();
    folder
}

#[test]
fn a_reward_that_breaks_the_contract_scores_nobody() {
    let score = |count: &str, bits: u64| {
        let text = REWARD.replace("COUNT", count).replace("BITS", &bits.to_string());
        let folder = Folder::new("reward", "", &component("reward", "0.1.0", &text));
        let reward = host(&[]).load_dir(folder.path()).unwrap().rewards.remove(0);
        assert_eq!((reward.spec().lowest, reward.spec().highest), (0.0, 1.0));
        block_on(async { reward.score(&[episode("a", &["b"]), episode("c", &["d"])]).await.map(|(v, _)| v) })
    };
    let half = Verdict::Scored { total: 0.5, components: vec![] };
    assert_eq!(score("2", 0.5f64.to_bits()).unwrap(), [half.clone(), half]);
    for bits in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(f64::to_bits) {
        let verdicts = score("2", bits).unwrap();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Abstained(_))), "{verdicts:?}");
    }
    for count in ["0", "1", "3"] {
        let error = score(count, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("plugin guest: broke the contract: found {count} verdicts, expected 2, one for each episode").replace("found ", "")
        );
    }
}

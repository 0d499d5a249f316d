//! What a run lays down for its plugins: repetition, circuit breaker, budget, fuel, places; and what the ledger says of it.

mod common;
#[path = "common/guest.rs"]
mod guest;
#[path = "common/server.rs"]
mod server;

use common::{block_on, block_on_net, host, png, query, reference};
use guest::{Folder, TOOL, component};
use mmhost_plugins::ledger::{Entry, Ledger, Policy, RunBudget};
use mmhost_plugins::{Decision, FilterInput, Grant, PluginError, PluginHost, Plugins};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMITS: &str = "[limits]\ndeadline_ms = 200\nmemory_mib = 8\n";

fn tool_folder(rest: &str) -> Folder {
    Folder::new("search-tool", rest, &component("search-tool", "0.1.0", TOOL))
}

fn laid_down(host: PluginHost, policy: &str, budget: &str) -> Result<PluginHost, PluginError> {
    let policy: Policy = toml::from_str(policy).unwrap();
    host.with_policies([("guest".to_string(), policy)].into(), toml::from_str::<RunBudget>(budget).unwrap())
}

fn load(folder: &Folder, policy: &str, budget: &str) -> (Plugins, Arc<Ledger>) {
    let host = laid_down(host(&[]), policy, budget).unwrap();
    (host.load_dir(folder.path()).unwrap(), host.ledger())
}

fn entry(ledger: &Ledger) -> Entry {
    ledger.entries().remove("guest").unwrap_or_default()
}

#[test]
fn what_would_wait_for_ever_is_refused() {
    let folder = tool_folder(LIMITS);
    for (policy, word) in [
        ("retries = 11".to_string(), "field `retries`: found 11, expected at most 10"),
        (
            format!("breaker = {{ failures = 1, pause_s = {} }}", i64::MAX),
            "field `breaker.pause_s`: found 9223372036854775807, expected at most 86400",
        ),
    ] {
        let error = laid_down(host(&[]), &policy, "").unwrap().load_dir(folder.path()).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_failed_call_is_repeated_as_often_as_laid_down_and_counted() {
    let folder = tool_folder(LIMITS);
    let (mut plugins, ledger) = load(&folder, "retries = 2\nprice_per_call = 0.25", "");
    let tool = plugins.tools.remove(0);
    assert_eq!(entry(&ledger), Entry::default(), "describing itself is no call of a run");
    block_on(async {
        assert_eq!(tool.call(&query("t")).await.unwrap_err().kind(), "trap");
        assert!(entry(&ledger).peak_memory_bytes >= 2 << 16, "a call that fails needs memory too");
        tool.call(&query("o")).await.unwrap();
        assert_eq!(tool.call(&query("m")).await.unwrap_err().kind(), "memory");
    });
    let entry = entry(&ledger);
    assert_eq!((entry.calls, entry.retries, entry.money), (7, 4, 1.75), "{entry:?}");
    assert_eq!(entry.failures, [("trap".to_string(), 3), ("memory".to_string(), 3)].into());
    let latency = &entry.latency_ms;
    assert!(0.0 < latency.p50 && latency.p50 <= latency.p95 && latency.p95 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");
    let calls: u64 = latency.counts.split(' ').map(|step| step.split_once(':').unwrap().1.parse::<u64>().unwrap()).sum();
    assert_eq!(calls, 7);
    assert!(entry.seconds > 0.0, "{entry:?}");
    ledger.check().unwrap();

    // A resumed run goes on from there.
    let (_, resumed) = load(&folder, "", "");
    resumed.resume(serde_json::from_value(serde_json::to_value(ledger.entries()).unwrap()).unwrap());
    assert_eq!(resumed.entries(), ledger.entries());
}

#[test]
fn the_breaker_spares_a_plugin_that_keeps_failing_and_then_tries_it() {
    let folder = tool_folder(LIMITS);
    let (mut plugins, ledger) = load(&folder, "breaker = { failures = 2, pause_s = 1 }", "");
    let tool = plugins.tools.remove(0);
    block_on(async {
        for what in ["t", "o", "t", "t"] {
            let _ = tool.call(&query(what)).await;
        }
        let error = tool.call(&query("o")).await.unwrap_err();
        assert!(matches!(error, PluginError::Spared { failures: 2, pause_s: 1, .. }), "{error}");
        assert!(error.to_string().contains("[plugins.policy.guest] breaker"), "{error}");
        tokio::time::sleep(Duration::from_millis(1050)).await;
        tool.call(&query("o")).await.expect("one call is tried, and closes the breaker");
        tool.call(&query("o")).await.unwrap();
    });
    assert_eq!((entry(&ledger).calls, entry(&ledger).spared), (6, 1));
}

#[test]
fn a_spent_budget_makes_no_more_calls_and_stops_the_run() {
    let folder = tool_folder(LIMITS);
    for (budget, field) in [("calls = 2", "calls = 2"), ("money = 0.6", "money = 0.6")] {
        let (mut plugins, ledger) = load(&folder, "price_per_call = 0.25", budget);
        let tool = plugins.tools.remove(0);
        block_on(async {
            tool.call(&query("o")).await.unwrap();
            tool.call(&query("o")).await.unwrap();
            ledger.check().unwrap();
            for _ in 0..2 {
                let error = tool.call(&query("o")).await.unwrap_err();
                assert!(error.to_string().contains(&format!("`[plugins.budget] {field}`")), "{error}");
            }
        });
        assert!(matches!(ledger.check(), Err(PluginError::BudgetSpent { .. })));
        assert_eq!((entry(&ledger).calls, entry(&ledger).money), (2, 0.5), "never overspent");
    }
}

#[test]
fn requests_cost_and_are_never_sent_beyond_the_budget() {
    let server = server::Server::start();
    let hosts = format!("hosts = [\"http://127.0.0.1:{}\"]", server.port);
    let probe = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let folder = Folder::new("search-tool", &format!("[ask]\n{hosts}"), &probe);
    let grant: Grant = toml::from_str(&hosts).unwrap();
    let host = laid_down(host(&[]), "price_per_request = 2.0", "requests = 2").unwrap().with_grants([("guest".to_string(), grant)].into());
    let tool = host.load_dir(folder.path()).unwrap().tools.remove(0);
    let url = format!("http://127.0.0.1:{}/ok", server.port);
    let order = json!({"method": "GET", "url": url, "headers": [], "body": "", "times": 1}).to_string();
    for n in 1..=3 {
        assert_eq!(block_on_net(tool.call(&query(&order))).is_ok(), n <= 2, "{n}");
    }
    assert_eq!(server.requests().len(), 2);
    let entry = entry(&host.ledger());
    assert_eq!((entry.requests, entry.money), (2, 4.0));
    assert!(entry.http_bytes >= 8, "{entry:?}");
    assert!(matches!(host.ledger().check(), Err(PluginError::BudgetSpent { field: "requests", .. })));
}

#[test]
fn a_failure_stops_the_run_where_the_policy_says_so() {
    let folder = tool_folder(LIMITS);
    let (mut plugins, ledger) = load(&folder, "on_failure = \"stop\"", "");
    let tool = plugins.tools.remove(0);
    assert!(block_on(tool.call(&query("t"))).is_err());
    let why = ledger.check().unwrap_err().to_string();
    assert!(why.contains("[plugins.policy.guest] on_failure = \"stop\"") && why.contains("unreachable"), "{why}");
}

#[test]
fn a_policy_that_does_not_suit_is_refused_before_anything_runs() {
    let folder = tool_folder("");
    for (policy, word) in [
        ("on_failure = \"mask\"", "field `on_failure`: found \"mask\", expected \"tell\" or \"stop\" for a search-tool"),
        ("price_per_call = -1.0", "price_per_call"),
        ("breaker = { failures = 0, pause_s = 1 }", "breaker.failures"),
    ] {
        let error = laid_down(host(&[]), policy, "").unwrap().load_dir(folder.path()).err().unwrap().to_string();
        assert!(error.contains(word) && error.contains("[plugins.policy.guest]"), "{error}");
    }
    assert!(laid_down(host(&[]), "", "money = -2.0").err().unwrap().to_string().contains("[plugins.budget]"));
    let misspelt = host(&[]).with_policies([("gest".to_string(), Policy::default())].into(), RunBudget::default()).unwrap();
    assert!(misspelt.load_dir(folder.path()).err().unwrap().to_string().contains("did you mean `guest`"));
}

#[test]
fn samples_of_a_failed_filter_follow_the_policy() {
    let source = reference().join("sample-filter");
    let manifest = std::fs::read_to_string(source.join("plugin.toml")).unwrap();
    let manifest = manifest.replace("name = \"sample-filter\"", "name = \"guest\"\ncomponent = \"guest.wasm\"");
    let component = std::fs::read(source.join("sample-filter.wasm")).unwrap();
    let input = FilterInput {
        id: "a".into(),
        question: "What?".into(),
        ground_truth: "Yes".into(),
        candidate_answers: Vec::new(),
        data_source: String::new(),
        images: vec![png(28, 28, [1, 2, 3])],
    };
    let decide = |policy: &str| {
        let folder = Folder::with_manifest(&manifest.replace("[limits]", "[limits]\nfuel = 30000"), &component);
        let (mut plugins, _) = load(&folder, policy, "");
        let filter = plugins.filters.remove(0);
        let samples = vec![input.clone(); 200];
        block_on(async { filter.filter(&samples).await.map(|(decisions, _)| decisions) })
    };
    assert_eq!(decide("").unwrap_err().kind(), "fuel");
    assert_eq!(decide("on_failure = \"keep\"").unwrap(), vec![Decision::Keep(Vec::new()); 200]);
    let dropped = decide("on_failure = \"drop\"").unwrap();
    assert!(dropped.iter().all(|d| matches!(d, Decision::Drop(why) if why.starts_with("the filter failed: "))), "{:?}", dropped[0]);
}

#[test]
fn fuel_ends_a_call_at_the_same_place_each_time() {
    let folder = tool_folder("[limits]\nfuel = 100000\n");
    let (mut plugins, ledger) = load(&folder, "", "");
    let tool = plugins.tools.remove(0);
    block_on(async {
        let used: Vec<_> = [tool.call(&query("o")).await, tool.call(&query("o")).await].map(|r| r.unwrap().1.fuel).into();
        assert!(used[0].is_some_and(|fuel| fuel > 0 && fuel < 100_000) && used[0] == used[1], "{used:?}");
        assert_eq!(entry(&ledger).fuel, 2 * used[0].unwrap());
        let started = Instant::now();
        let error = tool.call(&query("l")).await.unwrap_err();
        assert!(matches!(error, PluginError::Fuel { limit: 100_000, .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2), "well before the deadline of ten seconds");
    });
}

#[test]
fn a_plugin_has_as_many_calls_at_once_as_its_limits_say() {
    let source = reference().join("text-search");
    let manifest = std::fs::read_to_string(source.join("plugin.toml")).unwrap();
    let manifest = manifest
        .replace("name = \"text-search\"", "name = \"guest\"\ncomponent = \"guest.wasm\"")
        .replace("corpora = [\"default\"]", "corpora = [\"pause\"]")
        .replace("[limits]", "[limits]\nconcurrent_calls = 1");
    let folder = Folder::with_manifest(&manifest, &std::fs::read(source.join("text-search.wasm")).unwrap());
    let tool = host(&[("guest", json!({"corpus": "pause"}))]).load_dir(folder.path()).unwrap().tools.remove(0);
    let started = Instant::now();
    block_on(async {
        let calls = (0..4).map(|_| {
            let tool = tool.clone();
            tokio::spawn(async move { tool.call(&query("Chad")).await })
        });
        for done in futures::future::join_all(calls).await {
            done.unwrap().unwrap();
        }
    });
    // Each sleeps for 100 ms in its corpus.
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
}

//! One call from JSON to JSON, with its cost.

mod common;

use common::{Flags, block_on, host, png, reference};
use mmhost_plugins::call::{Function, Subject};
use mmhost_plugins::{CallCost, HostOptions, PluginHost, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

fn metered(plugin: &str) -> Subject {
    let cache = tempfile::tempdir().unwrap();
    let options = HostOptions { cache_dir: cache.path().join("compiled"), corpus: Arc::new(Flags), config: Default::default() };
    let folder = reference().join(plugin);
    Subject::only(PluginHost::metered(options).unwrap().load_dir(&folder).unwrap(), &folder).unwrap()
}

fn run(plugin: &Subject, function: Function, input: Value) -> Result<(Value, CallCost)> {
    block_on(plugin.run(function, &input, Path::new("")))
}

#[test]
fn each_kind_takes_and_gives_json() {
    let text = metered("text-search");
    let (found, cost) = run(&text, Function::Call, json!({"argument": "Chad"})).unwrap();
    assert_eq!(found, json!({"parts": [{"text": "1. The capital of Chad is N'Djamena."}]}));
    assert!(cost.fuel.unwrap() > 1000 && cost.memory_bytes > 0 && cost.elapsed_ms > 0.0, "{cost:?}");
    let (error, _) = run(&text, Function::Call, json!({"argument": ""})).unwrap();
    assert_eq!(error, json!({"error": {"kind": "bad-argument", "message": "the query is empty"}}));
    assert_eq!(run(&text, Function::Describe, Value::Null).unwrap().0["call"], json!({"tag": "text_search"}));

    let reward = metered("mmsearch-reward");
    let episode = json!({"ground_truth": "Lima", "turns": ["<reason>x</reason><answer>Lima</answer>"]});
    let (one, _) = run(&reward, Function::Score, episode.clone()).unwrap();
    assert_eq!(one["verdicts"][0]["total"], 1.0);
    let (two, _) = run(&reward, Function::Score, json!([episode, {"turns": ["x"]}])).unwrap();
    assert_eq!(two["verdicts"][1], json!({"abstained": "the sample has no reference answer"}));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flag.png"), &png(30, 20, [1, 2, 3]).bytes).unwrap();
    let sample = json!({"question": "Which?", "ground_truth": "Chad", "images": ["flag.png"]});
    let filter = metered("sample-filter");
    let (kept, _) = block_on(filter.run(Function::Filter, &sample, folder.path())).unwrap();
    assert_eq!(kept, json!({"decisions": [{"keep": ["single-image"]}]}));
    let (parts, _) = block_on(metered("image-search").run(Function::Call, &json!({"images": ["flag.png"]}), folder.path())).unwrap();
    let image = &parts["parts"][1]["image"];
    assert_eq!((&image["width"], &image["height"], &image["media_type"]), (&json!(28), &json!(28), &json!("image/png")));
}

#[test]
fn what_is_no_input_is_told_by_field() {
    let text = metered("text-search");
    for (function, input, words) in [
        (Function::Call, json!({"argumnet": "x"}), ["argumnet", "expected one of"]),
        (Function::Call, json!({"argument": 1}), ["`argument`", "found 1"]),
        (Function::Call, json!({"images": ["none.png"]}), ["`images`", "none.png"]),
        (Function::Call, json!("x"), ["found \"x\"", "expected an object"]),
        (Function::Score, json!([]), ["`score`", "it has `describe` and `call`"]),
    ] {
        let error = run(&text, function, input.clone()).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{input}: {error}");
    }
    let error = run(&metered("mmsearch-reward"), Function::Score, json!([{}, {"turns": 1}])).unwrap_err().to_string();
    assert!(error.contains("entry 2"), "{error}");
}

/// Counting fuel slows every guest, so runs do without; and what is compiled for the one must not be taken for the other.
#[test]
fn only_a_metered_host_counts_fuel() {
    let folder = reference().join("text-search");
    let plain = Subject::only(host(&[]).load_dir(&folder).unwrap(), &folder).unwrap();
    let (_, cost) = run(&plain, Function::Call, json!({"argument": "Chad"})).unwrap();
    assert_eq!(cost.fuel, None);
    let fuel = |argument: &str| run(&metered("text-search"), Function::Call, json!({"argument": argument})).unwrap().1.fuel.unwrap();
    assert_eq!(fuel("Chad"), fuel("Chad"));
    assert!(fuel(&"Chad ".repeat(20)) > fuel("Chad"));
    let cache = tempfile::tempdir().unwrap();
    let options = || HostOptions { cache_dir: cache.path().join("compiled"), corpus: Arc::new(Flags), config: Default::default() };
    PluginHost::new(options()).unwrap().load_dir(&folder).unwrap();
    PluginHost::metered(options()).unwrap().load_dir(&folder).unwrap();
    assert_eq!(std::fs::read_dir(cache.path().join("compiled")).unwrap().count(), 2);
}

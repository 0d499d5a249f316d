//! A reward that asks a language model: over the network with a key, or a model in the host's memory; tried by hand, and in a whole run.

mod common;
#[path = "../host/plugins/tests/common/server.rs"]
mod server;

use std::fs;

use common::{Mmhost, json, plugins, root};
use serde_json::{Value, json};
use server::Server;

const KEY: &str = "sesame-0123456789";

/// The tiny run with the judge for its reward, and what stands behind it.
fn config(mmhost: &Mmhost, name: &str, source: &str) -> String {
    let tiny = fs::read_to_string(common::tiny_config()).unwrap();
    let tiny = tiny.replace("reward = \"mmsearch-reward\"", "reward = \"judge-reward\"");
    assert!(tiny.contains("judge-reward"));
    let file = mmhost.path(name);
    fs::write(&file, format!("{tiny}\n[plugins.grants.judge-reward.models.judge]\n{source}\n")).unwrap();
    file.display().to_string()
}

fn verdicts(mmhost: &Mmhost, config: &str) -> Value {
    let input = mmhost.path("episodes.json");
    let episode = |answer: &str| json!({"ground_truth": "Lima", "turns": [format!("<reason>sure</reason><answer>{answer}</answer>")]});
    fs::write(&input, Value::from(vec![episode("Lima"), episode("City of Kings"), episode("Quito")]).to_string()).unwrap();
    let (judge, input) = (root().join("plugins/judge-reward").display().to_string(), input.display().to_string());
    let printed = mmhost.ok(&["plugin", "call", &judge, "score", "--input", &input, "--config", config]);
    assert!(!printed.contains(KEY), "{printed}");
    serde_json::from_str::<Value>(&printed).unwrap()["result"]["verdicts"].clone()
}

#[test]
fn an_endpoint_judges_and_gets_the_key() {
    let (mmhost, server) = (Mmhost::new(), Server::start());
    fs::write(mmhost.path("key"), KEY).unwrap();
    // The file of the key lies beside the configuration that names it.
    let source = format!("url = \"http://localhost:{}/v1\"\nmodel = \"any\"\nkey_file = \"key\"", server.port);
    let verdicts = verdicts(&mmhost, &config(&mmhost, "endpoint.toml", &source));
    let accuracies: Vec<f64> = (0..3).map(|i| verdicts[i]["components"]["accuracy"].as_f64().unwrap()).collect();
    assert_eq!(accuracies, [1.0, 1.0, 0.0], "{verdicts}");
    let requests = server.requests();
    assert!(requests.len() == 2 && requests.iter().all(|request| request.contains(&format!("Bearer {KEY}"))), "{requests:?}");

    let listed = mmhost.ok(&["plugin", "list", &plugins(), "--config", &mmhost.path("endpoint.toml").display().to_string()]);
    let line = listed.lines().find(|line| line.starts_with("judge-reward")).unwrap();
    assert!(line.contains("model judge"), "{line}");
}

#[test]
fn a_run_is_judged_by_a_model_in_memory() {
    let mmhost = Mmhost::new();
    let model = mmhost.path("judge-model").display().to_string();
    mmhost.ok(&["model", "init", "--out", &model, "--config", &common::tiny_config()]);
    let config = config(&mmhost, "local.toml", "path = \"judge-model\"");
    // Its weights are drawn at random: whatever it says, it is neither yes nor no, and nothing is made of that.
    let verdicts = verdicts(&mmhost, &config);
    assert_eq!(verdicts[0]["components"]["accuracy"], 1.0, "{verdicts}");
    assert!(verdicts[1]["abstained"].as_str().unwrap().contains("the judge said neither yes nor no"), "{verdicts}");

    let run = mmhost.path("run");
    mmhost.ok(&["train", "--plugins", &plugins(), "--config", &config, "--run", &run.display().to_string()]);
    let record = json(&run.join("plugins.json"));
    let judge = &record["judge-reward"];
    assert_eq!(judge["contract"], "0.2.0");
    assert!(judge["grants"]["models"]["judge"].as_str().unwrap().ends_with("judge-model"), "{judge}");
    assert!(json(&run.join("ledger.json"))["judge-reward"]["calls"].as_u64().unwrap() > 0);
}

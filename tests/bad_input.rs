//! Bad input from outside: one clear message, the right exit code, nothing lost.

mod common;

use std::fs;

use common::Mmhost;

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let mmhost = Mmhost::new();
    mmhost.fails(2, &["train", "--resume", "--seed", "3"]);
    mmhost.fails(2, &["eval", "--model", "x", "--data", "atlas", "--workflow", "sideways"]);
}

#[test]
fn configurations_are_checked_before_anything_is_made() {
    let mmhost = Mmhost::new();
    let tiny = fs::read_to_string(common::tiny_config()).unwrap();
    let config = mmhost.path("config.toml");
    let run = mmhost.path("run");
    let args = ["train", "--plugins", &common::plugins(), "--config", &config.display().to_string(), "--run", &run.display().to_string()];
    for (from, to, expected) in [
        ("checkpoint_every", "checkpoint_evry", "checkpoint_evry"),
        ("rollouts = ", "rollouts = 1 # ", "rollout.rollouts is 1, expected at least 2"),
        ("tools = [\"image-search\", \"text-search\"]", "tools = [\"imagesearch\"]", "has no tool \"imagesearch\"; it has"),
        ("reward = \"mmsearch-reward\"", "reward = \"sample-filter\"", "has no reward \"sample-filter\"; it has"),
    ] {
        assert!(tiny.contains(from), "{from}");
        fs::write(&config, tiny.replacen(from, to, 1)).unwrap();
        let message = mmhost.fails(3, &args);
        assert!(message.contains(expected), "{to}: {message}");
    }
    fs::write(&config, &tiny[..tiny.len() / 2]).unwrap();
    let message = mmhost.fails(3, &args);
    assert!(message.contains("config.toml"), "{message}");
    assert!(!run.exists(), "nothing is left of runs that came to nothing");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("mine.txt"), "").unwrap();
    mmhost.fails(3, &args);
    assert!(run.join("mine.txt").exists());
}

#[test]
fn damaged_models_are_refused_by_name() {
    let mmhost = Mmhost::new();
    let model = mmhost.path("model");
    let model_text = model.display().to_string();
    mmhost.ok(&["model", "init", "--out", &model_text, "--config", &common::tiny_config()]);
    mmhost.ok(&["model", "inspect", &model_text]);

    let weights = model.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let message = mmhost.fails(3, &["model", "inspect", &model_text]);
    assert!(message.contains("model.safetensors"), "{message}");
    fs::remove_file(&weights).unwrap();
    let message =
        mmhost.fails(3, &["eval", "--model", &model_text, "--data", "atlas", "--workflow", "direct", "--plugins", &common::plugins()]);
    assert!(message.contains("model.safetensors"), "{message}");
    fs::write(&weights, &whole).unwrap();

    let config = model.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("num_hidden_layers"));
    fs::write(&config, text.replace("num_hidden_layers", "num_hiden_layers")).unwrap();
    let message = mmhost.fails(3, &["model", "inspect", &model_text]);
    assert!(message.contains("config.json") && message.contains("num_hidden_layers"), "{message}");
}

#[test]
fn damaged_data_is_refused_by_name() {
    let mmhost = Mmhost::new();
    let atlas = mmhost.path("atlas");
    mmhost.ok(&["data", "atlas", "--out", &atlas.display().to_string()]);
    let test = atlas.join("test.parquet");
    let out = mmhost.ok(&["data", "inspect", &test.display().to_string()]);
    assert!(out.contains("rows"), "{out}");
    let bytes = fs::read(&test).unwrap();
    fs::write(&test, &bytes[..bytes.len() / 2]).unwrap();
    let message = mmhost.fails(3, &["data", "inspect", &test.display().to_string()]);
    assert!(message.contains("test.parquet"), "{message}");
    let message = mmhost.fails(3, &["data", "inspect", &atlas.join("nothing.parquet").display().to_string()]);
    assert!(message.contains("nothing.parquet"), "{message}");
}

#[test]
fn a_tampered_plugin_is_refused() {
    let mmhost = Mmhost::new();
    let plugins = mmhost.path("plugins");
    common::copy_plugins(&plugins);
    let list = ["plugin", "list", &plugins.display().to_string()];
    let out = mmhost.ok(&list);
    for name in ["image-search", "text-search", "mmsearch-reward", "f1-reward", "sample-filter"] {
        assert!(out.contains(name), "{out}");
    }
    mmhost.ok(&["plugin", "inspect", &plugins.join("text-search").display().to_string()]);
    let component = plugins.join("f1-reward/f1-reward.wasm");
    let mut bytes = fs::read(&component).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&component, bytes).unwrap();
    let run = mmhost.path("run").display().to_string();
    let args = ["train", "--plugins", &plugins.display().to_string(), "--config", &common::tiny_config(), "--run", &run];
    let message = mmhost.fails(3, &args);
    assert!(message.contains("f1-reward") && message.contains("digest"), "{message}");
}

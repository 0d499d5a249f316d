//! What a run demands of its plugins (`--locked`, trusted keys), and what it remembers of them.

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;

use common::{Mmhost, json, root};
use registry::Registry;

const USED: [&str; 4] = ["image-search", "text-search", "mmsearch-reward", "sample-filter"];

/// A signed copy of a reference plugin, by its name in the scratch folder.
fn signed(mmhost: &Mmhost, plugin: &str) -> String {
    let folder = mmhost.path("signed").join(plugin);
    fs::create_dir_all(&folder).unwrap();
    for file in [format!("{plugin}.wasm"), "plugin.toml".into()] {
        fs::copy(root().join("plugins").join(plugin).join(&file), folder.join(&file)).unwrap();
    }
    let folder = format!("signed/{plugin}");
    mmhost.ok(&["plugin", "sign", &folder, "--key", "mine.key"]);
    folder
}

#[test]
fn a_locked_run_of_signed_plugins_remembers_them_and_refuses_others() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    fs::write(mmhost.path("mine.key"), pair.sk.to_box(None).unwrap().to_string()).unwrap();
    let key = pair.pk.to_base64();
    let mut artifact = String::new();
    for plugin in USED {
        let folder = signed(&mmhost, plugin);
        let said = mmhost.ok(&["plugin", "publish", &folder, &format!("oci://{}/me/{plugin}:1", registry.host())]);
        artifact = said.lines().find_map(|line| line.strip_prefix("artifact")).unwrap().trim().to_string();
        mmhost.ok(&["plugin", "add", &artifact, "--key", &key]);
    }
    let tiny = fs::read_to_string(common::tiny_config()).unwrap();
    let trusting = |key: &str| tiny.replacen("[plugins]\n", &format!("[plugins]\ntrusted_keys = [\"{key}\"]\n"), 1);
    assert_ne!(trusting(&key), tiny);
    fs::write(mmhost.path("trusting.toml"), trusting(&key)).unwrap();
    mmhost.ok(&["train", "--locked", "--config", "trusting.toml", "--run", "run"]);

    // The run, every checkpoint, an evaluation and a scoring know what they were made with.
    let run = mmhost.path("run");
    let of_run = json(&run.join("plugins.json"));
    assert_eq!(of_run.as_object().unwrap().keys().collect::<Vec<_>>(), ["image-search", "mmsearch-reward", "sample-filter", "text-search"]);
    let filter = &of_run["sample-filter"];
    assert_eq!((filter["source"].as_str(), filter["signed_by"].as_str()), (Some(artifact.as_str()), Some(key.as_str())));
    let text = &of_run["text-search"];
    assert_eq!((&text["version"], &text["contract"], &text["kind"]), (&"0.1.0".into(), &"0.2.0".into(), &"search-tool".into()));
    assert_eq!(
        text["grants"],
        serde_json::json!({"corpora": ["default"], "hosts": [], "methods": ["GET", "HEAD"], "models": {}, "networks": [], "secrets": []})
    );
    assert_eq!(text["config"]["call"], "text_search");
    assert_eq!(text["limits"]["deadline_ms"], 5000);
    let run_toml = fs::read_to_string(run.join("run.toml")).unwrap();
    assert!(run_toml.contains(text["digest"].as_str().unwrap()) && run_toml.contains(&key), "{run_toml}");
    let checkpoints: Vec<_> = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(checkpoints.len() > 1);
    for checkpoint in &checkpoints {
        assert_eq!(json(&checkpoint.join("plugins.json")), of_run, "{}", checkpoint.display());
    }
    // Whoever goes on with other plugins is told.
    let last = checkpoints.iter().max().unwrap().join("progress.json");
    let digest = text["digest"].as_str().unwrap();
    fs::write(&last, fs::read_to_string(&last).unwrap().replace(digest, &"0".repeat(64))).unwrap();
    let out = mmhost.output(&["train", "--resume", "--locked", "--run", "run"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && said.contains("text-search is not what it was") && said.contains(digest), "{said}");
    let model = checkpoints[0].display().to_string();
    mmhost.ok(&["eval", "--locked", "--model", &model, "--data", "atlas", "--workflow", "direct", "--limit", "4", "--json", "eval.json"]);
    assert_eq!(json(&mmhost.path("eval.json"))["plugins"], of_run);
    let score = |more: &[&str]| {
        let args = ["score", "--episodes", "run", "--reward", "mmsearch-reward", "--json", "score.json"];
        mmhost.output(&[&args[..], more].concat())
    };
    let passes = |more: &[&str]| {
        let out = score(more);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let refused = |more: &[&str], words: &[&str]| {
        let out = score(more);
        let message = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(3), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    };
    passes(&["--locked"]);
    assert_eq!(json(&mmhost.path("score.json"))["plugin"], of_run["mmsearch-reward"]);

    // Each kind of drift; without --locked and keys, only the component's is one.
    fs::write(mmhost.path("any.toml"), &tiny).unwrap();
    let (any, trusting_too) = (["--config", "any.toml"], ["--config", "any.toml", "--locked"]);
    let file = |name: &str| mmhost.path("plugins/text-search").join(name);
    let change = |name: &str, content: Option<&[u8]>, check: &dyn Fn()| {
        let before = fs::read(file(name)).unwrap();
        match content {
            Some(content) => fs::write(file(name), content).unwrap(),
            None => fs::remove_file(file(name)).unwrap(),
        }
        check();
        fs::write(file(name), before).unwrap();
    };
    let manifest = fs::read_to_string(file("plugin.toml")).unwrap().replace("deadline_ms = 5000", "deadline_ms = 50000");
    change("plugin.toml", Some(manifest.as_bytes()), &|| {
        passes(&any);
        refused(&trusting_too, &["plugins.lock", "field `plugins.text-search.manifest`", "plugin.toml", "found sha256:", "restore it"]);
        refused(&[], &["text-search.wasm.minisig", "the manifest was changed after signing"]);
    });
    change("text-search.wasm.minisig", None, &|| {
        passes(&any);
        refused(&trusting_too, &["text-search.wasm.minisig", "no such file", &key]);
        refused(&[], &["text-search.wasm.minisig", "no such file", &key]);
    });
    let component = [fs::read(file("text-search.wasm")).unwrap(), b"\0\x02\x01x".to_vec()].concat();
    change("text-search.wasm", Some(&component), &|| refused(&any, &["text-search.wasm", "wrong digest", "plugins.lock"]));
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
    fs::write(mmhost.path("others.toml"), trusting(&other)).unwrap();
    refused(&["--config", "others.toml"], &["signature by another key", &other]);
    fs::write(mmhost.path("nonsense.toml"), trusting("RWnonsense")).unwrap();
    refused(&["--config", "nonsense.toml"], &["trusted_keys", "RWnonsense", "56 characters"]);

    // A plugin that the run does not use may be anything that loads; an unpinned one does not.
    mmhost.ok(&["plugin", "add", &root().join("plugins/calculator").display().to_string()]);
    passes(&["--locked"]);
    let lock = mmhost.path("plugins/plugins.lock");
    let pins = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, pins.replace("[plugins.text-search]", "[plugins.text-serch]")).unwrap();
    refused(&trusting_too, &["text-search", "does not pin it", "plugins.lock"]);
    // Sources, where the pin has a digest of them.
    let component = pins.split("[plugins.text-search]\n").nth(1).unwrap().lines().next().unwrap();
    let sources = format!("{component}\nsources = \"sha256:{}\"", "0".repeat(64));
    fs::write(&lock, pins.replace(component, &sources)).unwrap();
    passes(&any);
    refused(&trusting_too, &["field `plugins.text-search.sources`", "plugins/text-search", "mmhost plugin build plugins/text-search"]);
}

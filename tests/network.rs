//! A whole run whose text search asks a server over the network with a secret: the secret stays out of everything that is written, and
//! the run replays byte for byte when the server is gone.

mod common;
#[path = "../host/plugins/tests/common/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Mmhost, root};
use server::Server;

const SECRET: &str = "sesame-0123456789";

/// The reference plugins that the run needs, with web-search pointed at the server.
fn plugins(mmhost: &Mmhost, server: &Server) -> String {
    let folder = mmhost.path("plugins");
    for name in ["image-search", "web-search", "mmsearch-reward", "sample-filter"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        for file in [format!("{name}.wasm"), "plugin.toml".into()] {
            fs::copy(root().join("plugins").join(name).join(&file), folder.join(name).join(&file)).unwrap();
        }
    }
    fs::copy(root().join("plugins/plugins.lock"), folder.join("plugins.lock")).unwrap();
    let manifest = folder.join("web-search/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let host = format!("http://127.0.0.1:{}", server.port);
    let pointed = text
        .replace("hosts = [\"serpapi.com\", \"r.jina.ai\"]", &format!("hosts = [\"{host}\"]"))
        .replace("https://serpapi.com/search.json", &format!("{host}/search"))
        .replace("reader = \"https://r.jina.ai/{url}\"", "reader = \"\"");
    fs::write(manifest, pointed).unwrap();
    folder.display().to_string()
}

fn config(mmhost: &Mmhost, server: &Server) -> String {
    let tiny = fs::read_to_string(common::tiny_config()).unwrap();
    let secret = mmhost.path("secret");
    fs::write(&secret, SECRET).unwrap();
    let hosts = format!("hosts = [\"http://127.0.0.1:{}\"]", server.port);
    let grants = format!("[plugins.grants.web-search]\n{hosts}\nsecrets.SEARCH_KEY = {{ file = \"{}\", {hosts} }}\n", secret.display());
    let text = tiny.replace("\"text-search\"]", "\"web-search\"]").replace("[plugins.config.text-search]", "[plugins.config.web-search]");
    let file = mmhost.path("config.toml");
    fs::write(&file, format!("{text}\n{grants}")).unwrap();
    file.display().to_string()
}

/// Every file below `dir`, recordings unpacked.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let bytes = if path.extension().is_some_and(|e| e == "zst") { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
        found.push((path, bytes));
    }
    found.sort();
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_run_over_the_network_keeps_its_secret_and_replays_without_the_network() {
    let mmhost = Mmhost::new();
    let server = Server::start();
    let (plugins, config) = (plugins(&mmhost, &server), config(&mmhost, &server));
    let args =
        |run: &str| -> Vec<String> { ["train", "--plugins", &plugins, "--config", &config, "--run", run].map(str::to_owned).to_vec() };
    let run = |name: &str, more: &[&str]| {
        let path = mmhost.path(name);
        let mut all = args(&path.display().to_string());
        all.extend(more.iter().map(|s| s.to_string()));
        let out = mmhost.output(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let said = [out.stdout, out.stderr].concat();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&said));
        assert!(!holds(&said, SECRET), "the secret is printed");
        path
    };
    let recorded = run("recorded", &["--record"]);
    let asked = server.requests().len();
    assert!(asked > 0 && server.requests().iter().all(|request| request.contains(SECRET)), "{:?}", server.requests().first());

    // The secret was sent, and is nowhere else: not in what the run wrote, nor in the cache.
    for (path, bytes) in contents(&recorded).into_iter().chain(contents(&mmhost.path("cache"))) {
        assert!(!holds(&bytes, SECRET), "{}", path.display());
    }

    let from = recorded.display().to_string();
    let replayed = run("replayed", &["--replay=strict", "--replay-from", &from]);
    assert_eq!(server.requests().len(), asked, "a replay asks nothing");
    let episodes =
        |run: &Path| contents(&run.join("episodes")).into_iter().map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes));
    assert!(episodes(&recorded).eq(episodes(&replayed)), "the same episodes, byte for byte");

    // An evaluation records too, beside its episodes.
    let (model, out) = (recorded.join("checkpoints/step-000006"), mmhost.path("out"));
    let eval = |more: &[&str]| {
        let (model, out) = (model.display().to_string(), out.display().to_string());
        let args = ["eval", "--model", &model, "--data", "atlas", "--workflow", "rag", "--plugins", &plugins, "--limit", "8"];
        mmhost.ok(&[&args[..], &["--episodes", &out], more].concat())
    };
    let before = server.requests().len();
    let figures = eval(&["--record"]);
    let asked = server.requests().len();
    assert!(asked > before && out.join("replay/calls.jsonl").is_file());
    assert_eq!(eval(&["--replay=strict", "--replay-from", &out.display().to_string()]), figures);
    assert_eq!(server.requests().len(), asked);
    let message = mmhost.fails(2, &["eval", "--model", "x", "--data", "atlas", "--workflow", "rag", "--plugins", &plugins, "--replay"]);
    assert!(message.contains("--replay-from"), "{message}");

    // Without what one call answered, a strict replay stops and names the call.
    let calls = recorded.join("replay/calls.jsonl");
    let text = fs::read_to_string(&calls).unwrap();
    let lost = text.lines().position(|line| line.contains("\"door\":\"tool\"")).unwrap();
    let kept: String = text.lines().enumerate().filter(|(n, _)| *n != lost).map(|(_, line)| format!("{line}\n")).collect();
    fs::write(&calls, kept).unwrap();
    let mut all = args(&mmhost.path("short").display().to_string());
    all.extend(["--replay=strict", "--replay-from", &from].map(str::to_owned));
    let message = mmhost.fails(3, &all.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(message.contains("has no answer to") && message.contains("replay"), "{message}");
}

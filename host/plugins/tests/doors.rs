//! Recording and replaying what lies behind the doors: HTTP exchanges and searches in corpora.

mod common;
#[path = "common/guest.rs"]
mod guest;
#[path = "common/server.rs"]
mod server;

use common::{Flags, block_on_net as block_on, query, reference};
use guest::Folder;
use mmhost_plugins::tape::{Door, Tape, TapeCounts, TapeMode};
use mmhost_plugins::{CorpusHit, CorpusService, Grant, HostOptions, ImageBytes, PluginHost, ResultPart, ToolInput, ToolPlugin};
use serde_json::json;
use server::Server;
use std::path::Path;
use std::sync::Arc;

fn host(cache: &Path, corpus: Arc<dyn CorpusService>, tape: Arc<Tape>) -> PluginHost {
    let options = HostOptions { cache_dir: cache.join("compiled"), corpus, config: Default::default() };
    PluginHost::new(options).unwrap().with_tape(Some(tape))
}

fn said(tool: &ToolPlugin, input: &ToolInput) -> Result<Vec<String>, String> {
    let (parts, _) = block_on(tool.call(input)).map_err(|error| error.to_string())?;
    let part = |part| match part {
        ResultPart::Text(text) => text,
        ResultPart::Image(image) => format!("{} {:?}", image.media_type, image.bytes),
    };
    Ok(parts.into_iter().map(part).collect())
}

#[test]
fn exchanges_are_answered_from_the_recording_refusals_too() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start();
    let hosts = format!("hosts = [\"http://127.0.0.1:{}\"]", server.port);
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, "sesame-0123456789").unwrap();
    let grant: Grant = toml::from_str(&format!("{hosts}\nsecrets.KEY = {{ file = \"{}\", {hosts} }}", secret.display())).unwrap();
    let probe = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let folder = Folder::new("search-tool", &format!("[limits]\nhttp_requests = 1\n[ask]\n{hosts}\nsecrets = [\"KEY\"]"), &probe);
    let order = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", server.port);
        query(&json!({"method": "GET", "url": url, "headers": [["x-key", "__secret.KEY__"]], "body": "", "times": 1}).to_string())
    };
    let open = |mode| Tape::open(&scratch.path().join("replay"), mode).unwrap();
    let load = |tape: &Arc<Tape>| {
        let host = host(scratch.path(), Arc::new(Flags), tape.clone()).with_grants([("guest".to_string(), grant.clone())].into());
        host.load_dir(folder.path()).unwrap().tools.remove(0)
    };

    let tape = open(TapeMode::Record);
    let tool = load(&tape);
    let asked = [order("/echo?a=1"), order("/none"), order("/redirect?/ok")];
    let live: Vec<_> = asked.iter().map(|input| said(&tool, input)).collect();
    assert!(live[0].as_ref().unwrap()[0].contains("GET /echo?a=1") && live[1].as_ref().unwrap()[0].starts_with("404"), "{live:?}");
    // A redirect is a second request, and one is allowed.
    assert!(live[2].is_err(), "{live:?}");
    assert_eq!(said(&tool, &asked[0]), live[0], "asked once while it is recorded");
    let sent = server.requests().len();
    assert_eq!(sent, 3);
    assert_eq!(tape.counts()[&Door::Http], TapeCounts { hits: 1, misses: 3, failures: 2 });

    let tape = open(TapeMode::Strict);
    let tool = load(&tape);
    let replayed: Vec<_> = asked.iter().map(|input| said(&tool, input)).collect();
    assert_eq!(replayed, live);
    tape.check().unwrap();
    assert!(said(&tool, &order("/other")).is_err());
    let fault = tape.check().unwrap_err().to_string();
    assert!(fault.contains("no answer to http of guest: GET http://127.0.0.1") && fault.contains("/other"), "{fault}");
    assert_eq!(server.requests().len(), sent, "a replay sends nothing");
    let calls = std::fs::read_to_string(scratch.path().join("replay/calls.jsonl")).unwrap();
    assert!(calls.contains("\"door\":\"http\"") && !calls.contains("sesame"), "{calls}");
}

/// A corpus that is gone.
struct Gone;

impl CorpusService for Gone {
    fn search_text(&self, _: &str, _: &str, _: usize) -> Result<Vec<CorpusHit>, String> {
        Err("gone".into())
    }
    fn search_image(&self, _: &str, _: &ImageBytes, _: usize) -> Result<Vec<CorpusHit>, String> {
        Err("gone".into())
    }
}

#[test]
fn searches_in_corpora_are_answered_from_the_recording() {
    let scratch = tempfile::tempdir().unwrap();
    let tools = |corpus: Arc<dyn CorpusService>, mode| {
        let tape = Tape::open(&scratch.path().join("replay"), mode).unwrap();
        let host = host(scratch.path(), corpus, tape.clone());
        let load = |name: &str| host.load_dir(&reference().join(name)).unwrap().tools.remove(0);
        (load("text-search"), load("image-search"), tape)
    };
    let (text, image, tape) = tools(Arc::new(Flags), TapeMode::Record);
    let live = [said(&text, &query("Chad")).unwrap(), said(&image, &query("")).unwrap()];
    assert!(live[0][0].contains("N'Djamena") && live[1].iter().any(|part| part.starts_with("image/")), "{live:?}");
    assert_eq!(tape.counts()[&Door::Corpus].misses, 2);
    let (text, image, tape) = tools(Arc::new(Gone), TapeMode::Strict);
    assert_eq!([said(&text, &query("Chad")).unwrap(), said(&image, &query("")).unwrap()], live);
    tape.check().unwrap();
    // Without the recording it would fail.
    let (text, _, _) = tools(Arc::new(Gone), TapeMode::Replay);
    assert!(said(&text, &query("Mali")).unwrap_err().contains("gone"));
}

//! The network door from a guest's side: what is granted works, and what is not is refused with the line to add.

mod common;
#[path = "common/guest.rs"]
mod guest;
#[path = "common/server.rs"]
mod server;

use common::{block_on_net as block_on, host, query, reference};
use guest::Folder;
use mmhost_plugins::{Grant, PluginError, ResultPart, ToolPlugin};
use serde_json::json;
use server::{Names, Server};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The committed probe with another manifest.
fn probe(rest_of_manifest: &str, grant: &str) -> (Folder, ToolPlugin) {
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let folder = Folder::new("search-tool", rest_of_manifest, &component);
    let tool = load(&folder, grant).unwrap();
    (folder, tool)
}

fn load(folder: &Folder, grant: &str) -> Result<ToolPlugin, PluginError> {
    let grant: Grant = toml::from_str(grant).unwrap();
    let host = host(&[]).with_grants([("guest".to_string(), grant)].into()).with_lookup(Arc::new(Names::default()));
    host.load_dir(folder.path()).map(|mut plugins| plugins.tools.remove(0))
}

fn order(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> mmhost_plugins::ToolInput {
    query(&json!({"method": method, "url": url, "headers": headers, "body": body, "times": 1}).to_string())
}

fn text(tool: &ToolPlugin, input: &mmhost_plugins::ToolInput) -> Result<String, String> {
    match block_on(tool.call(input)) {
        Ok((parts, _)) => match &parts[..] {
            [ResultPart::Text(text)] => Ok(text.clone()),
            other => panic!("{other:?}"),
        },
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn requests_are_sent_whole_and_answers_come_back_whole() {
    let server = Server::start();
    let hosts = format!("hosts = [\"http://api.example:{0}\", \"http://*.pages.example:{0}\"]\nmethods = [\"GET\", \"POST\"]", server.port);
    let (_folder, tool) = probe(&format!("[ask]\n{hosts}"), &format!("{hosts}\nnetworks = [\"127.0.0.0/8\"]"));
    let url = format!("http://api.example:{}/echo?a=b%20c", server.port);
    let said = text(&tool, &order("POST", &url, &[("x-one", "1")], "a body")).unwrap();
    for part in ["200\n", "POST /echo?a=b%20c HTTP/1.1", "x-one: 1", "a body", "host: api.example:", "user-agent: mmhost/"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let url = format!("http://A.b.Pages.example.:{}/ok", server.port);
    assert!(text(&tool, &order("GET", &url, &[], "")).unwrap().ends_with("\n\nfine"));
    assert!(text(&tool, &order("GET", &url.replace("/ok", "/none"), &[], "")).unwrap().starts_with("404"));
}

#[test]
fn redirects_are_followed_where_granted() {
    let server = Server::start();
    let hosts = format!("hosts = [\"http://api.example:{0}\", \"http://other.example:{0}\"]", server.port);
    let (_folder, tool) = probe(&format!("[ask]\n{hosts}"), &format!("{hosts}\nnetworks = [\"127.0.0.1/32\"]"));
    let to = format!("http://other.example:{}/echo", server.port);
    let said =
        text(&tool, &order("GET", &format!("http://api.example:{}/redirect?{to}", server.port), &[("authorization", "Bearer x")], ""));
    let said = said.unwrap();
    // What authorises at one host is no business of another.
    assert!(said.contains("GET /echo") && !said.contains("Bearer"), "{said}");
    let around = format!("http://api.example:{}/redirect?/redirect?/redirect?/redirect?/redirect?/redirect?/redirect", server.port);
    assert!(text(&tool, &order("GET", &around, &[], "")).unwrap_err().contains("more than 5 times"));
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let server = Server::start();
    let hosts = format!("hosts = [\"http://api.example:{}\"]\nmethods = [\"GET\", \"HEAD\", \"POST\"]", server.port);
    let (_folder, tool) = probe(&format!("[ask]\n{hosts}"), &format!("{hosts}\nnetworks = [\"127.0.0.1/32\"]"));
    let url = |path: &str| format!("http://api.example:{}{path}", server.port);
    let started = Instant::now();
    assert!(text(&tool, &order("GET", &url("/busy?1"), &[], "")).unwrap().ends_with("fine"));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    // A date that has passed, a pause that is too long, and a request that may not be repeated.
    let started = Instant::now();
    let date = "/busy?Wed,%2021%20Oct%202015%2007:28:00%20GMT";
    assert!(text(&tool, &order("GET", &url(date), &[], "")).unwrap().ends_with("fine"));
    assert!(text(&tool, &order("GET", &url("/busy?3600"), &[], "")).unwrap().starts_with("503"));
    assert!(text(&tool, &order("POST", &url("/busy?0"), &[], "")).unwrap().starts_with("503"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn requests_keep_the_pace_of_the_grant() {
    let server = Server::start();
    let hosts = format!("hosts = [\"http://api.example:{}\"]", server.port);
    let grant = format!("{hosts}\nnetworks = [\"127.0.0.1/32\"]\nrequests_per_second = 10");
    let (_folder, tool) = probe(&format!("[ask]\n{hosts}"), &grant);
    let url = format!("http://api.example:{}/ok", server.port);
    let order = json!({"method": "GET", "url": url, "headers": [], "body": "", "times": 6}).to_string();
    let started = Instant::now();
    text(&tool, &query(&order)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
}

#[test]
fn what_is_not_granted_says_what_to_add() {
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let folder = Folder::new("search-tool", "[ask]\nhosts = [\"a.org\"]\nmethods = [\"POST\"]\nsecrets = [\"KEY\"]", &component);
    for (grant, words) in [
        ("", ["the host `a.org`", "`hosts = [\"a.org\"]` under [plugins.grants.guest]"]),
        ("hosts = [\"*.org.org\"]", ["the host `a.org`", "hosts = "]),
        ("hosts = [\"a.org\"]", ["the method `POST`", "`methods = [\"POST\"]` under [plugins.grants.guest]"]),
        ("hosts = [\"a.org\"]\nmethods = [\"POST\"]", ["the secret `KEY`", "under [plugins.grants.guest.secrets.KEY]"]),
        (
            "hosts = [\"a.org\"]\nmethods = [\"POST\"]\nsecrets.KEY = { env = \"MMHOST_TEST_UNSET\", hosts = [\"a.org\"] }",
            ["MMHOST_TEST_UNSET is not set", "KEY"],
        ),
        (
            "hosts = [\"a.org\"]\nmethods = [\"POST\"]\nsecrets.KEY = { file = \"/dev/null\", hosts = [\"a.org\"] }",
            ["/dev/null has 0 bytes", "at least 8"],
        ),
        ("hosts = [\"a.org\"]\nmethods = [\"POST\"]\nsecrets.KEY = { hosts = [\"a.org\"] }", ["either `env", "KEY"]),
        (
            "hosts = [\"a.org\"]\nmethods = [\"POST\"]\nmax_in_flight = 0\nsecrets.KEY = { env = \"X\", hosts = [\"a.org\"] }",
            ["[plugins.grants.guest]: field `max_in_flight`: found 0", "at least 1"],
        ),
        (
            "hosts = [\"a.org\"]\nmethods = [\"POST\"]\nrequests_per_second = 0\nsecrets.KEY = { env = \"X\", hosts = [\"a.org\"] }",
            ["field `requests_per_second`: found 0", "remove the field"],
        ),
    ] {
        let error = load(&folder, grant).err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{grant}\n{error}");
    }
    // Not named by the grants at all, it is left out, for the run may not need it.
    let plugins = host(&[]).load_dir(folder.path()).unwrap();
    assert!(plugins.tools.is_empty() && plugins.set_aside["guest"].to_string().contains("a.org"));
    // A component with network whose manifest asks for none.
    let folder = Folder::new("search-tool", "", &component);
    let error = host(&[]).load_dir(folder.path()).err().unwrap().to_string();
    assert!(error.contains("/http@") && error.contains("`hosts = [\"api.example.org\"]` under `[ask]`"), "{error}");
}

/// For languages whose tools cannot import `wasi:http`.
#[test]
fn the_contract_s_own_door_is_the_same_door() {
    let server = Server::start();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sesame-0123456789").unwrap();
    let hosts = format!("hosts = [\"http://api.example:{}\"]\nmethods = [\"GET\", \"POST\"]", server.port);
    let secret = format!("secrets.KEY = {{ file = \"{}\", hosts = [\"http://api.example:{}\"] }}", key.path().display(), server.port);
    let (_folder, tool) = probe(
        &format!("[limits]\nhttp_requests = 3\n[ask]\n{hosts}\nsecrets = [\"KEY\"]"),
        &format!("{hosts}\nnetworks = [\"127.0.0.0/8\"]\n{secret}"),
    );
    let url = |path: &str| format!("http://api.example:{}{path}", server.port);
    let own = |method: &str, url: &str, headers: &[(&str, &str)], body: &str, times: u32| {
        let order = json!({"method": method, "url": url, "headers": headers, "body": body, "times": times, "own_door": true});
        text(&tool, &query(&order.to_string()))
    };
    let headers = [("x-one", "1"), ("authorization", "Bearer __secret.KEY__")];
    let said = own("POST", &url("/echo?a=b"), &headers, "a body", 1).unwrap();
    for part in ["200\n", "POST /echo?a=b HTTP/1.1", "x-one: 1", "host: api.example:", "Bearer __secret.KEY__", "a body"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(server.requests()[0].contains("Bearer sesame-0123456789") && !said.contains("sesame"));
    assert!(own("GET", &url("/none"), &[], "", 1).unwrap().starts_with("404"));

    let sent = server.requests().len();
    for (method, to, words) in [
        ("GET", format!("http://other.example:{}/ok", server.port), "not granted"),
        ("GET", "http://169.254.169.254/".into(), "not granted"),
        ("DELETE", url("/ok"), "not granted"),
        ("GET", "file:///etc/passwd".into(), "not granted"),
        ("G T", url("/ok"), "malformed: the method `G T`"),
    ] {
        let error = own(method, &to, &[], "", 1).unwrap_err();
        assert!(error.contains(words), "{method} {to}: {error}");
    }
    for name in ["a b", "Host", "content-length", "Transfer-Encoding", "connection", "upgrade", "proxy-authorization"] {
        let error = own("POST", &url("/ok"), &[(name, "chunked")], "x", 1).unwrap_err();
        assert!(error.contains(&format!("malformed: the header `{name}`")), "{error}");
    }
    assert_eq!(server.requests().len(), sent);
    let error = own("GET", &url("/ok"), &[], "", 4).unwrap_err();
    assert!(error.contains("over a limit: more than 3 requests"), "{error}");
}

/// The reference web search against a service of its own.
#[test]
fn web_search_reads_the_pages_that_it_finds() {
    let server = Server::start();
    let manifest = std::fs::read_to_string(reference().join("web-search/plugin.toml")).unwrap();
    let hosts = format!("hosts = [\"http://search.example:{0}\", \"http://read.example:{0}\"]", server.port);
    let manifest = manifest
        .replace("name = \"web-search\"\nversion", "name = \"guest\"\nversion")
        .replace("hosts = [\"serpapi.com\", \"r.jina.ai\"]", &hosts)
        .replace("https://serpapi.com/search.json", &format!("http://search.example:{}/search", server.port))
        .replace("https://r.jina.ai/{url}", &format!("http://read.example:{}/read?{{url}}", server.port));
    let folder = Folder::with_manifest(&manifest, &std::fs::read(reference().join("web-search/web-search.wasm")).unwrap());
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sesame-0123\n").unwrap();
    let secret =
        format!("secrets.SEARCH_KEY = {{ file = \"{}\", hosts = [\"http://search.example:{}\"] }}", key.path().display(), server.port);
    let tool = load(&folder, &format!("{hosts}\nnetworks = [\"127.0.0.0/8\"]\n{secret}")).unwrap();
    assert_eq!(text(&tool, &query("capital of Chad & more")).unwrap(), "1. Chad: N'Djamena is the capital of Chad.");
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /search?engine=google&q=capital%20of%20Chad%20%26%20more&num=3&api_key=sesame-0123 "),
        "{}",
        requests[0]
    );
    assert!(requests[1].starts_with("GET /read?http://pages.example/chad "), "{}", requests[1]);
    assert!(text(&tool, &query(" ")).unwrap_err().contains("the query is empty"));
}

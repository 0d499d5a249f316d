//! The author's way: new, build, check, call, bench, train; and docs/plugins.md, every command of it. What a language's own tools do is
//! skipped, with a message, where they are not there.

mod common;
#[path = "common/registry.rs"]
mod registry;
#[path = "../host/plugins/tests/common/server.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::Mmhost;
use server::Server;

/// Whether the guide's commands that fetch tools are run too; CI says so.
fn may_fetch() -> bool {
    std::env::var("MMHOST_FETCH_TOOLS").is_ok_and(|value| !value.is_empty())
}

/// Builds a plugin, or says that its tools are missing.
fn builds(mmhost: &Mmhost, folder: &str) -> bool {
    let out = mmhost.output(&["plugin", "build", folder]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() {
        return true;
    }
    assert_eq!(out.status.code(), Some(3), "{said}");
    let absent = ["was not found", "is not installed", "failed to download", "failed to get"];
    assert!(absent.iter().any(|word| said.contains(word)), "{said}");
    assert!(said.contains('`'), "no command that mends it: {said}");
    println!("skipped: {said}");
    false
}

#[test]
fn new_folders_of_every_kind_and_language_build_and_pass() {
    let mmhost = Mmhost::new();
    for lang in ["rust", "c", "javascript", "python"] {
        for kind in ["tool", "reward", "filter"] {
            let name = format!("{lang}-{kind}");
            let made = mmhost.ok(&["plugin", "new", &name, "--kind", kind, "--lang", lang, "--dir", "mine"]);
            let folder = format!("mine/{name}");
            assert!(made.contains(&format!("mmhost plugin check {folder}")), "{made}");
            let readme = fs::read_to_string(mmhost.path(&folder).join("README.md")).unwrap();
            assert!(readme.contains(&name) && !readme.contains("{{") && readme.lines().count() <= 12, "{readme}");
            let again = mmhost.fails(3, &["plugin", "new", &name, "--kind", kind, "--lang", lang, "--dir", "mine"]);
            assert!(again.contains("exists already"), "{again}");
            if !builds(&mmhost, &folder) {
                // The tools are the language's, not the kind's.
                break;
            }
            let found = mmhost.ok(&["plugin", "check", &folder]);
            assert!(found.contains("0 errors, 0 warnings"), "{found}");
        }
    }
    let refused = mmhost.fails(3, &["plugin", "new", "My Plugin", "--kind", "tool", "--lang", "c"]);
    assert!(refused.contains("My Plugin") && refused.contains("lower-case"), "{refused}");
}

#[test]
fn a_new_reward_is_trained_with() {
    let mmhost = Mmhost::new();
    let plugins = mmhost.path("plugins");
    common::copy_plugins(&plugins);
    mmhost.ok(&["plugin", "new", "mine", "--kind", "reward", "--lang", "rust"]);
    if !builds(&mmhost, "plugins/mine") {
        return;
    }
    let config = fs::read_to_string(common::tiny_config()).unwrap();
    let (from, to) = ("reward = \"mmsearch-reward\"", "reward = \"mine\"");
    assert!(config.contains(from));
    fs::write(mmhost.path("run.toml"), format!("{}\n[plugins.config.mine]\nsearch_penalty = 0.2\n", config.replacen(from, to, 1))).unwrap();
    mmhost.ok(&["train", "--plugins", "plugins", "--config", "run.toml", "--run", "run"]);
    let record = fs::read_to_string(mmhost.path("run/run.toml")).unwrap();
    assert!(record.contains("mine"), "{record}");
    // The plugin's schema is kept to before anything starts.
    fs::write(mmhost.path("run.toml"), format!("{}\n[plugins.config.mine]\nsearch_penalty = 2.0\n", config.replacen(from, to, 1))).unwrap();
    let refused = mmhost.fails(3, &["train", "--plugins", "plugins", "--config", "run.toml", "--run", "other"]);
    assert!(refused.contains("plugin mine") && refused.contains("key `search_penalty`: found 2"), "{refused}");
}

#[test]
fn a_call_and_a_bench_print_what_they_found() {
    let mmhost = Mmhost::new();
    let plugin = common::root().join("plugins/text-search").display().to_string();
    fs::write(mmhost.path("input.json"), r#"{"argument": "capital of Peru"}"#).unwrap();
    let json = |text: String| -> serde_json::Value { serde_json::from_str(&text).unwrap() };
    let called = json(mmhost.ok(&["plugin", "call", &plugin, "call", "--input", "input.json"]));
    assert!(called["result"]["parts"][0]["text"].as_str().unwrap().contains("Lima"), "{called}");
    assert!(called["cost"]["fuel"].as_u64().unwrap() > 0 && called["cost"]["memory_bytes"].as_u64().unwrap() > 0, "{called}");
    fs::write(mmhost.path("input.json"), r#"{"images": ["gone.png"]}"#).unwrap();
    let refused = mmhost.fails(3, &["plugin", "call", &plugin, "call", "--input", "input.json"]);
    assert!(refused.contains("gone.png") && refused.contains("`images`"), "{refused}");
    mmhost.fails(2, &["plugin", "call", &plugin, "call"]);
    let bench = json(mmhost.ok(&["plugin", "bench", &plugin, "--json"]));
    let rows = bench["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    // The plugin is its own reference here; instantiation is the figure that a busy machine disturbs least.
    assert!((0.2..5.0).contains(&rows[0]["ratio"].as_f64().unwrap()), "{bench}");
    let quantiles = |row: &serde_json::Value| (row["median_us"].as_f64().unwrap(), row["p95_us"].as_f64().unwrap());
    assert!(rows.iter().map(quantiles).all(|(median, p95)| median > 0.0 && median <= p95), "{bench}");
    let checked = json(mmhost.ok(&["plugin", "check", &plugin, "--json"]));
    assert_eq!(checked["findings"], serde_json::json!([]));
}

#[test]
fn the_published_schemas_are_fresh_and_fit_the_files_of_this_repository() {
    let mmhost = Mmhost::new();
    for file in ["plugin", "run"] {
        let path = common::root().join(format!("docs/schemas/{file}.schema.json"));
        let printed = mmhost.ok(&["schema", file]);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), printed, "run `mmhost schema {file} > docs/schemas/{file}.schema.json`");
    }
    let validator = |file: &str| {
        let schema = common::json(&common::root().join(format!("docs/schemas/{file}.schema.json")));
        jsonschema::validator_for(&schema).unwrap()
    };
    let toml = |path: &Path| -> serde_json::Value { toml::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let run = validator("run");
    let atlas = toml(&common::root().join("configs/atlas.toml"));
    assert_eq!(run.iter_errors(&atlas).map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    let mut wrong = atlas.clone();
    wrong["grpo"]["clipp"] = 1.into();
    assert!(!run.is_valid(&wrong));
    let plugin = validator("plugin");
    for entry in fs::read_dir(common::root().join("plugins")).unwrap() {
        let manifest = entry.unwrap().path().join("plugin.toml");
        if manifest.exists() {
            let errors: Vec<String> = plugin.iter_errors(&toml(&manifest)).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", manifest.display());
        }
    }
}

/// Every command of the guide's `sh` blocks, in order, in a folder of its own.
#[test]
fn the_guide_can_be_followed() {
    let guide = fs::read_to_string(common::root().join("docs/plugins.md")).unwrap();
    let mmhost = Mmhost::new();
    let registry = registry::Registry::start();
    let guide = guide.replace("localhost:5000", &registry.host());
    let mut missing: Vec<String> = Vec::new();
    let mut commands = 0;
    for block in guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            commands += 1;
            // `list` complains of plugins that were not built, as it should.
            let lists = line.starts_with("mmhost plugin list") && !missing.is_empty();
            if lists || missing.iter().any(|folder| line.contains(folder)) {
                println!("skipped: {line}");
                continue;
            }
            if line == "minisign -G -W -p me.pub -s me.key" {
                // It asks at a terminal, where it is there at all.
                let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
                fs::write(mmhost.path("me.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
                fs::write(mmhost.path("me.key"), pair.sk.to_box(None).unwrap().to_string()).unwrap();
            } else if !line.contains("mmhost ") {
                match may_fetch() {
                    true => assert!(mmhost.shell(line).success(), "{line}"),
                    false => println!("skipped: {line}"),
                }
            } else if let Some(folder) = line.strip_prefix("mmhost plugin build ") {
                if !builds(&mmhost, folder) {
                    missing.push(folder.to_string());
                }
            } else {
                assert!(mmhost.shell(line).success(), "{line}");
            }
        }
    }
    assert!(commands > 20, "{commands}");
}

/// The reference plugins whose components are too large to keep.
#[test]
fn the_python_and_javascript_plugins_build_and_pass() {
    let mmhost = Mmhost::new();
    for lang in ["python/entity-lookup", "javascript/unit-convert"] {
        common::copy_sources(&common::root().join("plugins").join(lang), &mmhost.path(lang));
        if builds(&mmhost, lang) {
            let found = mmhost.ok(&["plugin", "check", lang]);
            assert!(found.contains("0 errors, 0 warnings"), "{found}");
        }
    }
}

/// What interpreters do not bring along themselves: requests, and a word on what went wrong.
#[test]
fn python_and_javascript_reach_the_network_and_tell_what_fails() {
    let (mmhost, server) = (Mmhost::new(), Server::start());
    let host = format!("http://localhost:{}", server.port);
    let sources = [
        (
            "python",
            "src/plugin.py",
            r#"
from wit_world.exports.tool import CallForm_Tag, CallInput, Description, Part, Part_Text
from wit_world.imports import http

class Tool:
    def describe(self) -> Description:
        return Description("net", "a page", CallForm_Tag("net"), 1, "Go on.", False)

    def call(self, input: CallInput) -> list[Part]:
        if input.argument == "break":
            return [no_such_name]
        answer = http.send(http.Request("GET", "HOST/" + input.argument, [http.Header("x-one", "1")], b""))
        return [Part_Text(f"{answer.status} {answer.body.decode()}")]
"#,
            "NameError: name 'no_such_name' is not defined",
        ),
        (
            "javascript",
            "src/plugin.js",
            r#"
import { send } from "mmhost:plugin/http@0.2.0";

const text = (bytes) => decodeURIComponent(Array.from(bytes, (byte) => "%" + byte.toString(16).padStart(2, "0")).join(""));

export const tool = {
  describe() {
    return { name: "net", description: "a page", call: { tag: "tag", val: "net" }, maxCalls: 1, instruction: "Go on.", needsImage: false };
  },
  call(input) {
    if (input.argument === "break") return noSuchName;
    const headers = [{ name: "x-one", value: "1" }];
    const answer = send({ method: "GET", url: "HOST/" + input.argument, headers, body: new Uint8Array() });
    return [{ tag: "text", val: `${answer.status} ${text(answer.body)}` }];
  },
};
"#,
            "noSuchName is not defined",
        ),
    ];
    for (lang, file, source, fault) in sources {
        let name = format!("{lang}-net");
        mmhost.ok(&["plugin", "new", &name, "--kind", "tool", "--lang", lang]);
        let folder = mmhost.path(&format!("plugins/{name}"));
        fs::write(folder.join(file), source.replace("HOST", &host)).unwrap();
        let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
        let asking =
            manifest.lines().map(|line| if line.starts_with("corpora = ") { format!("hosts = [\"{host}\"]") } else { line.into() });
        fs::write(folder.join("plugin.toml"), asking.collect::<Vec<_>>().join("\n")).unwrap();
        let plugin = format!("plugins/{name}");
        if !builds(&mmhost, &plugin) {
            continue;
        }
        let config = mmhost.path("net.toml");
        let tiny = fs::read_to_string(common::tiny_config()).unwrap();
        let grant = format!("[plugins.grants.{name}]\nhosts = [\"{host}\"]\nnetworks = [\"127.0.0.0/8\", \"::1/128\"]");
        fs::write(&config, format!("{tiny}\n{grant}\n")).unwrap();
        let config = config.display().to_string();
        let call = |argument: &str| {
            let input = mmhost.path("input.json");
            fs::write(&input, serde_json::json!({"argument": argument}).to_string()).unwrap();
            mmhost.output(&["plugin", "call", &plugin, "call", "--input", &input.display().to_string(), "--config", &config])
        };
        let said = String::from_utf8(call("echo").stdout).unwrap();
        assert!(said.contains("200 GET /echo") && said.contains("x-one: 1"), "{lang}: {said}");
        let failed = call("break");
        assert_eq!(failed.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&failed.stderr).contains(fault), "{lang}: {}", String::from_utf8_lossy(&failed.stderr));
    }
}

/// A shell's view of the program: on the search path as `mmhost`.
trait Shell {
    fn shell(&self, line: &str) -> std::process::ExitStatus;
}

impl Shell for Mmhost {
    fn shell(&self, line: &str) -> std::process::ExitStatus {
        let program = Path::new(env!("CARGO_BIN_EXE_mmhost")).parent().unwrap();
        let path =
            std::env::join_paths([program.to_path_buf()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", path.unwrap());
        self.at_home(&mut command);
        command.stdout(std::process::Stdio::null()).status().unwrap()
    }
}

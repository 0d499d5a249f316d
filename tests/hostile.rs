//! Hostile plugins: one folder of `tests/hostile/` for each attack, with the guest and what must become of it. The host lives, a
//! neighbour's calls go on, and memory comes back.
//!
//! `attack.toml` says what the attack is about and what is expected. The guest is `guest.wat`, put into the frame of its kind; or
//! `component.wat`, a whole component; or one of the committed components of `host/plugins/tests/guests`, told what to do by
//! `argument`. PORT stands for the port of a server on this machine, SECRET for a file that holds a secret.

#[path = "../host/plugins/tests/common/mod.rs"]
mod common;
#[path = "../host/plugins/tests/common/guest.rs"]
mod guest;
#[path = "../host/plugins/tests/common/logged.rs"]
mod logged;
#[path = "../host/plugins/tests/common/server.rs"]
mod server;

use common::{block_on_net as block_on, episode, host, query, reference};
use guest::{Folder, component};
use logged::Logged;
use mmhost_plugins::tape::{Tape, TapeMode};
use mmhost_plugins::{Grants, Plugins, ResultPart, ToolPlugin, Verdict};
use serde::Deserialize;
use server::{Names, Server};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a secret looks like; it must turn up nowhere but at the server that it is for.
const SECRET: &str = "sesame/0123456789";
/// Limits of a guest that says nothing else.
const LIMITS: &str = "[limits]\ndeadline_ms = 200\nmemory_mib = 8\noutput_bytes = 4096\nlog_lines = 5\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    about: String,
    #[serde(default = "search_tool")]
    kind: String,
    guest: Option<String>,
    #[serde(default)]
    argument: String,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    grant: String,
    #[serde(default = "two_pages")]
    memory: String,
    /// Another plugin, which has made the same call before, in the same recording.
    victim: Option<Victim>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Victim {
    manifest: String,
    grant: String,
}

fn search_tool() -> String {
    "search-tool".into()
}

fn two_pages() -> String {
    "2".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// The plugin is not loaded, and the message says this.
    load: Option<String>,
    /// The call fails with an error of this kind, ...
    error: Option<String>,
    /// ... whose message says one of these, separated by `|`.
    says: Option<String>,
    /// The call succeeds, and the text contains this.
    text: Option<String>,
    /// Every verdict is an abstention that says this.
    abstains: Option<String>,
    /// The log says this.
    log: Option<String>,
    /// No more lines than these reach the log.
    most_log_lines: Option<usize>,
    /// Names that must not have been looked up.
    #[serde(default)]
    unasked: Vec<String>,
    /// The call is made twice and must answer the same.
    #[serde(default)]
    twice: bool,
}

struct Case {
    name: String,
    folder: PathBuf,
    attack: Attack,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile");
    let entries = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let case = |folder: PathBuf| {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("attack.toml")).unwrap_or_else(|error| panic!("{name}/attack.toml: {error}"));
        let attack: Attack = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}/attack.toml: {error}"));
        Case { name, folder, attack }
    };
    let mut cases: Vec<Case> = entries.map(case).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// What the attacks share.
struct World {
    server: Server,
    secret: tempfile::NamedTempFile,
    neighbour: ToolPlugin,
}

impl World {
    fn new() -> Self {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), SECRET).unwrap();
        let neighbour = host(&[]).load_dir(&reference().join("text-search")).unwrap().tools.remove(0);
        World { server: Server::start(), secret, neighbour }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("PORT", &self.server.port.to_string()).replace("SECRET", &self.secret.path().display().to_string())
    }

    async fn neighbour_is_fine(&self) {
        let (parts, _) = self.neighbour.call(&query("Chad")).await.unwrap();
        assert!(matches!(&parts[..], [ResultPart::Text(text)] if text.contains("N'Djamena")), "{parts:?}");
    }

    /// Plays one attack and returns what became of it.
    fn play(&self, case: &Case) -> String {
        let (attack, expect, name) = (&case.attack, &case.attack.expect, &case.name);
        let names = Arc::new(Names::default());
        let logged = Logged::start();
        let started = Instant::now();
        let folder = self.folder(case, "guest", &attack.manifest);
        let recording = tempfile::tempdir().unwrap();
        let tape = attack.victim.as_ref().map(|_| Tape::open(recording.path(), TapeMode::Record).unwrap());
        let load = |folder: &Folder, name: &str, grant: &str| {
            let grants = if grant.is_empty() { Grants::new() } else { [(name.into(), toml::from_str(&self.fill(grant)).unwrap())].into() };
            host(&[]).with_grants(grants).with_lookup(names.clone()).with_tape(tape.clone()).load_dir(folder.path())
        };
        if let Some(Victim { manifest, grant }) = &attack.victim {
            let folder = self.folder(case, "victim", manifest);
            let tool = load(&folder, "victim", grant).unwrap().tools.remove(0);
            block_on(tool.call(&query(&self.fill(&attack.argument)))).unwrap_or_else(|error| panic!("{name}: the victim: {error}"));
        }
        let loaded = load(&folder, "guest", &attack.grant);
        let outcome = match (&expect.load, loaded) {
            (Some(says), Err(error)) => {
                let message = error.to_string();
                assert!(message.to_lowercase().contains(&says.to_lowercase()), "{name}: {message}");
                format!("not loaded: {message}")
            }
            (Some(_), Ok(_)) => panic!("{name}: was loaded"),
            (None, Err(error)) => panic!("{name}: {error}"),
            (None, Ok(plugins)) => block_on(async {
                let (outcome, ()) = tokio::join!(self.call(case, &plugins), self.neighbour_is_fine());
                outcome
            }),
        };
        assert!(started.elapsed() < Duration::from_secs(10), "{name}: {:?}", started.elapsed());
        block_on(self.neighbour_is_fine());
        let log = logged.lines();
        if let Some(says) = &expect.log {
            assert!(log.iter().any(|line| line.contains(says.as_str())), "{name}: {log:?}");
        }
        if let Some(most) = expect.most_log_lines {
            assert!(log.len() <= most, "{name}: {} lines", log.len());
        }
        for line in &log {
            assert!(!line.chars().any(char::is_control), "{name}: {line:?}");
        }
        for host in &expect.unasked {
            assert_eq!(names.asked(host), 0, "{name}: {host} was looked up");
        }
        for text in log.iter().chain([&outcome]) {
            assert!(!text.contains(SECRET) && !text.contains("sesame"), "{name}: {text}");
        }
        outcome
    }

    fn folder(&self, case: &Case, plugin: &str, manifest: &str) -> Folder {
        let attack = &case.attack;
        let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let bytes = match &attack.guest {
            Some(guest) => {
                let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/guests/{guest}/{guest}.wasm"));
                let file = if own.is_file() { own } else { reference().join(guest).join(format!("{guest}.wasm")) };
                std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            }
            None if case.folder.join("component.wat").is_file() => wat::parse_str(read(case.folder.join("component.wat"))).unwrap(),
            None => {
                let frame = if attack.kind == "reward" { "frame-reward.wat" } else { "frame-tool.wat" };
                let frame = read(case.folder.join("..").join(frame));
                // The first mentions stand in the frame's comment.
                let (comment, frame) = frame.split_at(frame.find("(module").unwrap());
                assert!(comment.contains("ATTACK"));
                let module = frame.replace("ATTACK", &read(case.folder.join("guest.wat"))).replace("MEMORY", &attack.memory);
                component(&attack.kind, "0.1.0", &module)
            }
        };
        let manifest = self.fill(manifest);
        let limits = if manifest.contains("[limits]") { "" } else { LIMITS };
        Folder::named(plugin, &attack.kind, &format!("{manifest}\n{limits}"), &bytes)
    }

    async fn call(&self, case: &Case, plugins: &Plugins) -> String {
        let (expect, name) = (&case.attack.expect, &case.name);
        if let Some(reward) = plugins.rewards.first() {
            let outcome = reward.score(&[episode("a", &["b"]), episode("c", &["d"])]).await;
            return match outcome {
                Ok((verdicts, _)) => {
                    let says = expect.abstains.as_deref().unwrap_or_else(|| panic!("{name}: {verdicts:?}"));
                    let abstains = |verdict: &Verdict| matches!(verdict, Verdict::Abstained(reason) if reason.contains(says));
                    assert!(verdicts.len() == 2 && verdicts.iter().all(abstains), "{name}: {verdicts:?}");
                    format!("abstained: {says}")
                }
                Err(error) => self.failed(case, &error),
            };
        }
        let tool = &plugins.tools[0];
        let input = query(&self.fill(&case.attack.argument));
        let mut answers = Vec::new();
        for _ in 0..if expect.twice { 2 } else { 1 } {
            match tool.call(&input).await {
                Ok((parts, _)) => {
                    let texts = parts.iter().map(|part| match part {
                        ResultPart::Text(text) => text.as_str(),
                        ResultPart::Image(_) => "(image)",
                    });
                    answers.push(texts.collect::<String>());
                }
                Err(error) => return self.failed(case, &error),
            }
        }
        let wanted = expect.text.as_deref().unwrap_or_else(|| panic!("{name}: answered {answers:?}"));
        assert!(answers.iter().all(|answer| answer.contains(wanted) && *answer == answers[0]), "{name}: {answers:?}");
        answers.swap_remove(0)
    }

    fn failed(&self, case: &Case, error: &mmhost_plugins::PluginError) -> String {
        let (expect, name) = (&case.attack.expect, &case.name);
        let message = error.to_string();
        assert_eq!(Some(error.kind()), expect.error.as_deref(), "{name}: {message}");
        let says = expect.says.as_deref().unwrap_or_else(|| panic!("{name}: says nothing"));
        let lower = message.to_lowercase();
        assert!(says.to_lowercase().split('|').any(|says| lower.contains(says)), "{name}: {message}");
        message
    }
}

/// Bytes of this process in memory (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[test]
fn hostile_plugins_are_contained_and_memory_comes_back() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} attacks", cases.len());
    let world = World::new();
    // The first round shows what comes of every attack; it and the second fill caches, pools and the allocator's arenas.
    let mut failed = Vec::new();
    for case in &cases {
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| world.play(case))) else {
            failed.push(&case.name);
            continue;
        };
        let line: String = outcome.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
        println!("{:<26} {:<70} {line}", case.name, case.attack.about);
    }
    assert!(failed.is_empty(), "not as expected: {failed:?}");
    let round = || cases.iter().for_each(|case| drop(world.play(case)));
    round();
    let before = resident();
    round();
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("{} attacks, thrice each; memory {} KiB before the third round, {} KiB after it", cases.len(), before >> 10, after >> 10);
        assert!(after as f64 <= before as f64 * 1.05, "{before} bytes before, {after} after");
    }
}

/// Every secret that was sent went to the server that it is for, and only by the parts of a request that may carry it.
#[test]
fn hostile_plugins_get_no_secret_out() {
    let world = World::new();
    for case in cases().iter().filter(|case| case.name.contains("-secret-")) {
        let before = world.server.requests().len();
        world.play(case);
        // A model's endpoint stands on this machine.
        let addressee = if case.name.starts_with("llm-") { "host: localhost:" } else { "host: api.example:" };
        for request in &world.server.requests()[before..] {
            let encoded = "sesame%2F0123456789";
            if request.contains(SECRET) || request.contains(encoded) {
                assert!(request.contains(addressee), "{}: {request}", case.name);
                let path = request.split_whitespace().nth(1).unwrap().split('?').next().unwrap();
                let (_, body) = request.split_once("\r\n\r\n").unwrap();
                assert!(!path.contains("sesame") && !body.contains("sesame"), "{}: {request}", case.name);
            }
        }
    }
}

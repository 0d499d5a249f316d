//! What is fuzzed, and what must hold. Run for minutes by cargo-fuzz (README.md), and for a moment by
//! `cargo test` (tests/fuzz.rs) on variations of the seeds.

use mmhost_plugins::lock::{LOCK, Lock};
use mmhost_plugins::manifest::{MANIFEST, Manifest};
use mmhost_plugins::tape::{Ask, Door, Tape, TapeMode};
use mmhost_plugins::{CEILING, CallForm, HostRule, ToolSpec};
use mmhost_rollout::{Protocol, ProtocolOptions, TurnEnding, Workflow};
use std::path::Path;
use std::sync::LazyLock;
use url::{Host, Url};

/// What takes the fuzzer's bytes; it panics where something does not hold.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 5] =
    [("manifest", manifest), ("lock", lock), ("protocol", protocol), ("recording", recording), ("url_policy", url_policy)];

/// A manifest is refused or sane: within the ceilings, with a configuration that its own schema admits.
pub fn manifest(data: &[u8]) {
    in_folder(|dir| {
        std::fs::write(dir.join(MANIFEST), data).expect("a scratch file");
        let Ok(manifest) = Manifest::read(dir) else { return };
        assert!(!manifest.name.is_empty() && !manifest.name.contains(['/', '\\', '.']), "{:?}", manifest.name);
        for ((field, value), (_, most)) in manifest.limits.fields().into_iter().zip(CEILING.fields()) {
            assert!(value <= most, "limits.{field} = {value}");
        }
        let component = manifest.component_path(dir);
        assert!(component.starts_with(dir) && component.parent() == Some(dir), "{}", component.display());
        let _ = manifest.configuration(None);
    });
}

/// A lock file is refused, or written again as it was read.
pub fn lock(data: &[u8]) {
    in_folder(|dir| {
        std::fs::write(dir.join(LOCK), data).expect("a scratch file");
        let Ok(lock) = Lock::read(dir) else { return };
        lock.write(dir).expect("what was read can be written");
        assert_eq!(Lock::read(dir).expect("what was written can be read"), lock);
    });
}

/// A turn is malformed, or has exactly one ending, at its end, which the workflow offers.
pub fn protocol(data: &[u8]) {
    static PROTOCOL: LazyLock<Protocol> = LazyLock::new(|| {
        let tool = |name: &str, call| ToolSpec {
            name: name.into(),
            description: "Searches.".into(),
            call,
            max_calls: 1,
            instruction: "Go on.".into(),
            needs_image: false,
        };
        let tools = vec![
            tool("image-search", CallForm::Literal("<search><img></search>".into())),
            tool("text-search", CallForm::Tag("text_search".into())),
            tool("calculator", CallForm::Json("{\"type\": \"object\"}".into())),
        ];
        Protocol::new(ProtocolOptions::default(), tools).expect("these tools fit together")
    });
    let turn = String::from_utf8_lossy(data);
    for workflow in [Workflow::Direct, Workflow::OnDemand, Workflow::Rag] {
        let Ok(ending) = PROTOCOL.parse(workflow, &turn) else { continue };
        assert_eq!(PROTOCOL.parse(workflow, &format!("{turn} \n")), Ok(ending.clone()), "space after the ending means nothing");
        assert!(PROTOCOL.parse(workflow, &format!("{turn}.")).is_err(), "something follows the ending");
        assert!(PROTOCOL.parse(workflow, &format!("{turn}{turn}")).is_err(), "two endings");
        match ending {
            TurnEnding::Answer(answer) => assert_eq!(answer.trim(), answer),
            TurnEnding::Call { .. } => assert_ne!(workflow, Workflow::Direct, "no tools are offered"),
        }
    }
}

/// A damaged recording is refused or answers less; it never answers with something else, and is never read outside of its folder.
pub fn recording(data: &[u8]) {
    in_folder(|dir| {
        std::fs::write(dir.join("calls.jsonl"), data).expect("a scratch file");
        let ask = || Ask::new(Door::Tool, "text-search", "what".into(), &[b"what"]);
        let Ok(tape) = Tape::open(dir, TapeMode::Strict) else { return };
        let answer = block_on(tape.answer(ask(), |_: &String| false, async { unreachable!("strict") }));
        assert!(answer.is_err() && tape.check().is_err(), "there is no answer in the folder");
        // To go on with it mends its end, and then it answers what it keeps.
        let tape = Tape::open(dir, TapeMode::Record).expect("it was read before");
        let live = async { "that".to_owned() };
        assert_eq!(block_on(tape.answer(ask(), |_| false, live)), Ok("that".to_owned()));
        tape.check().expect("it was kept");
        let tape = Tape::open(dir, TapeMode::Record).expect("it was written");
        let known = block_on(tape.answer(ask(), |_: &String| false, async { "other".to_owned() }));
        assert_eq!(known, Ok("that".to_owned()));
    });
}

/// A rule (the first line) lets through only URLs (the second) of its scheme, port and host, however they are written.
pub fn url_policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (rule, url) = text.split_once('\n').unwrap_or((&text, "https://example.org/"));
    let Ok(rule) = rule.parse::<HostRule>() else { return };
    let written = rule.to_string();
    assert_eq!(written.parse().as_ref(), Ok(&rule), "{written}");
    assert!(rule.covers(&rule));
    let Ok(url) = Url::parse(url) else { return };
    if !rule.allows(&url) {
        return;
    }
    // Held against the rule once more, as text.
    let (scheme, rest) = written.split_once("://").unwrap_or(("https", &written));
    assert_eq!(url.scheme(), scheme);
    let plain = Url::parse(&format!("{scheme}://{}", rest.trim_start_matches("*."))).expect("a rule is a URL without its star");
    assert_eq!(url.port_or_known_default(), plain.port_or_known_default(), "{written} {url}");
    let name = |host: Option<Host<&str>>| host.map(|host| host.to_string().trim_end_matches('.').to_owned()).unwrap_or_default();
    let (host, granted) = (name(url.host()), name(plain.host()));
    match rest.starts_with("*.") {
        false => assert_eq!(host, granted),
        true => assert!(host.ends_with(&format!(".{granted}")), "{written} {url}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// A folder that is gone afterwards, in memory where the system has such a place.
fn in_folder(run: impl FnOnce(&Path)) {
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.expect("a scratch folder");
    run(dir.path());
}

//! Recording and replaying tool calls.

mod common;

use common::{FakeTool, image_spec};
use mmhost_plugins::tape::{Door, Tape, TapeCounts, TapeMode};
use mmhost_plugins::{ImageBytes, PluginError, ResultPart, ToolError, ToolInput};
use mmhost_rollout::{About, Played, Tool, taped};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn input(argument: &str) -> ToolInput {
    let image = ImageBytes { media_type: "image/png".into(), bytes: vec![1, 2, 3].into() };
    ToolInput { argument: argument.into(), question: "Where?".into(), images: vec![image] }
}

/// Answers with the number of the call; `busy` fails twice first.
fn counting() -> Arc<FakeTool> {
    let busy = AtomicUsize::new(0);
    let calls = AtomicUsize::new(0);
    let tool = FakeTool::new(image_spec(), move |input| {
        if input.argument == "busy" && busy.fetch_add(1, Ordering::SeqCst) < 2 {
            let error = ToolError::Unavailable("try later".into());
            return Err(PluginError::Tool { plugin: "fake".into(), error });
        }
        let n = calls.fetch_add(1, Ordering::SeqCst);
        let image = ImageBytes { media_type: "image/png".into(), bytes: vec![n as u8, 0, 255].into() };
        Ok(vec![ResultPart::Text(format!("{} {n}", input.argument)), ResultPart::Image(image)])
    });
    Arc::new(tool)
}

async fn play(tool: &Arc<dyn Tool>, arguments: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for argument in arguments {
        let Played { result, elapsed_ms } = tool.play(&input(argument)).await;
        all.push(format!("{result:?} {elapsed_ms}"));
    }
    all
}

const CALLS: [&str; 6] = ["a", "b", "busy", "busy", "busy", "b"];

async fn record(dir: &Path) -> Vec<String> {
    let tape = Tape::open(dir, TapeMode::Record).unwrap();
    let fake = counting();
    let played = play(&taped(&tape, fake.clone()), &CALLS).await;
    // The second `b` was on record.
    assert_eq!(fake.calls.load(Ordering::SeqCst), 5);
    assert_eq!(tape.counts()[&Door::Tool], TapeCounts { hits: 1, misses: 5, failures: 2 });
    tape.check().unwrap();
    played
}

#[tokio::test]
async fn a_replay_gives_back_what_was_recorded_without_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = record(dir.path()).await;
    assert!(recorded[2].contains("try later") && recorded[4].contains("busy 2"), "{recorded:?}");
    for mode in [TapeMode::Replay, TapeMode::Strict] {
        let tape = Tape::open(dir.path(), mode).unwrap();
        let fake = counting();
        assert_eq!(play(&taped(&tape, fake.clone()), &CALLS).await, recorded);
        assert_eq!(fake.calls.load(Ordering::SeqCst), 0);
        assert_eq!(tape.counts()[&Door::Tool], TapeCounts { hits: 6, misses: 0, failures: 2 });
        tape.check().unwrap();
    }
}

#[tokio::test]
async fn a_recording_goes_on_where_it_was_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path()).await;
    let calls = dir.path().join("calls.jsonl");
    let text = fs::read_to_string(&calls).unwrap();
    fs::write(&calls, format!("{text}{{\"call\": \"ab")).unwrap();
    let tape = Tape::open(dir.path(), TapeMode::Record).unwrap();
    let fake = counting();
    play(&taped(&tape, fake.clone()), &["a", "busy", "c"]).await;
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1);
    let lines = fs::read_to_string(&calls).unwrap();
    assert!(lines.starts_with(&text) && lines.lines().count() == 6, "{lines}");
}

#[tokio::test]
async fn what_is_not_on_record_is_asked_or_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path()).await;
    let tape = Tape::open(dir.path(), TapeMode::Replay).unwrap();
    assert!(play(&taped(&tape, counting()), &["new"]).await[0].contains("new 0"));
    tape.check().unwrap();
    let tape = Tape::open(dir.path(), TapeMode::Strict).unwrap();
    let fake = counting();
    let played = play(&taped(&tape, fake.clone()), &["new"]).await;
    assert!(played[0].contains("not on record") && fake.calls.load(Ordering::SeqCst) == 0);
    let error = tape.check().unwrap_err().to_string();
    for word in ["image-search", "\"new\"", "\"Where?\"", &dir.path().display().to_string()] {
        assert!(error.contains(word), "{error}");
    }
}

/// Another component, another configuration, another question or image is another call.
#[tokio::test]
async fn only_an_equal_call_is_answered() {
    struct Other(Arc<FakeTool>, &'static str, &'static str);
    #[async_trait::async_trait]
    impl Tool for Other {
        fn about(&self) -> About<'_> {
            About { digest: self.1, configuration: self.2, ..self.0.about() }
        }
        async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, mmhost_plugins::CallCost), PluginError> {
            self.0.call(input).await
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let tape = Tape::open(dir.path(), TapeMode::Record).unwrap();
    let fake = counting();
    let calls = || fake.calls.load(Ordering::SeqCst);
    let tool = |digest, config| taped(&tape, Arc::new(Other(fake.clone(), digest, config)));
    tool("d", "{}").play(&input("a")).await;
    tool("d", "{}").play(&input("a")).await;
    assert_eq!(calls(), 1);
    tool("e", "{}").play(&input("a")).await;
    tool("d", "{\"k\":1}").play(&input("a")).await;
    tool("d", "{}").play(&ToolInput { question: "Who?".into(), ..input("a") }).await;
    tool("d", "{}").play(&ToolInput { images: vec![], ..input("a") }).await;
    assert_eq!(calls(), 5);
}

#[tokio::test]
async fn damaged_recordings_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Tape::open(&dir.path().join("none"), TapeMode::Replay).err().unwrap().to_string();
    assert!(missing.contains("none") && missing.contains("calls.jsonl"), "{missing}");
    record(dir.path()).await;
    // Every answer changed: each is a miss.
    for folder in fs::read_dir(dir.path().join("answers")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            fs::write(file.unwrap().path(), "no answer").unwrap();
        }
    }
    let tape = Tape::open(dir.path(), TapeMode::Strict).unwrap();
    play(&taped(&tape, counting()), &["a"]).await;
    assert!(tape.check().is_err());
    let calls = dir.path().join("calls.jsonl");
    let text = fs::read_to_string(&calls).unwrap();
    fs::write(&calls, text.replacen("\"call\"", "\"cell\"", 1)).unwrap();
    let error = Tape::open(dir.path(), TapeMode::Replay).err().unwrap().to_string();
    assert!(error.contains("calls.jsonl: line 1"), "{error}");
}

//! Trackers of a whole run: event files that hold every step once, also after a kill, and a key that nothing ever writes.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header;
use common::Mmhost;
use prost::Message;
use serde_json::{Value, json};

const KEY: &str = "a-key-that-nobody-may-see-42";

/// The part of TensorFlow's `Event` that is read here, declared as its readers do.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The event files of a run, in the order in which they are read.
fn event_files(run: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(run).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.display().to_string().contains("events.out.tfevents.")).collect();
    files.sort();
    files
}

/// The scalars by tag and step as TensorBoard reads them: a restart purges what it does again.
fn scalars(run: &Path) -> BTreeMap<String, BTreeMap<i64, f32>> {
    let masked = |data: &[u8]| crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8);
    let mut scalars: BTreeMap<String, BTreeMap<i64, f32>> = BTreeMap::new();
    for file in event_files(run) {
        let bytes = fs::read(&file).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut number) = (0, 0);
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!((word(at + 8), word(at + 12 + length)), (masked(&bytes[at..at + 8]), masked(data)), "{} at {at}", file.display());
            let event = Event::decode(data).unwrap();
            assert_eq!(event.file_version.is_some(), number == 0, "the version stands first");
            if event.session_log.is_some_and(|log| log.status == 1) {
                scalars.values_mut().for_each(|steps| steps.retain(|step, _| *step < event.step));
            }
            for scalar in event.summary.into_iter().flat_map(|summary| summary.value) {
                let before = scalars.entry(scalar.tag.clone()).or_default().insert(event.step, scalar.simple_value.unwrap());
                assert_eq!(before, None, "{} twice at step {}", scalar.tag, event.step);
            }
            (at, number) = (at + 16 + length, number + 1);
        }
    }
    scalars
}

fn check_event_files(run: &Path) {
    let scalars = scalars(run);
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut columns = 0;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let step = line["step"].as_i64().unwrap();
        let mut check = |tag: String, value: f64| {
            columns += 1;
            assert_eq!(scalars[&tag][&step], value as f32, "{tag} at step {step}");
        };
        for (field, value) in line.as_object().unwrap() {
            match value {
                Value::Number(number) if field != "step" => check(format!("train/{field}"), number.as_f64().unwrap()),
                Value::Object(inner) => {
                    inner.iter().for_each(|(key, value)| check(format!("train/{field}/{key}"), value.as_f64().unwrap()))
                }
                _ => {}
            }
        }
    }
    assert!(columns > 6 * 20, "{columns}");
    assert_eq!(scalars["train/reward"].keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let summary = common::json(&run.join("summary.json"));
    for (who, step) in [("base", 0), ("trained", 6)] {
        let accuracy = summary[who]["rag"]["test"]["accuracy"]["value"].as_f64().unwrap();
        assert_eq!(scalars[&format!("{who}/rag/test/accuracy")], BTreeMap::from([(step, accuracy as f32)]));
    }
}

#[test]
fn event_files_hold_every_step_once_also_after_a_kill() {
    let mmhost = Mmhost::new();
    let (whole, broken) = (mmhost.path("whole"), mmhost.path("broken"));
    let args = |run: &Path| {
        ["train", "--plugins", &common::plugins(), "--config", &common::tiny_config(), "--run", &run.display().to_string()]
            .map(String::from)
    };
    mmhost.ok(&args(&whole).each_ref().map(String::as_str));
    check_event_files(&whole);
    assert_eq!(event_files(&whole).len(), 1);

    let mut child = mmhost.spawn(&args(&broken).each_ref().map(String::as_str));
    let deadline = Instant::now() + Duration::from_secs(300);
    // The third step has no checkpoint: it is done again.
    while fs::read_to_string(broken.join("metrics.jsonl")).unwrap_or_default().lines().count() < 3 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no third step");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    mmhost.ok(&["train", "--plugins", &common::plugins(), "--run", &broken.display().to_string(), "--resume"]);
    assert_eq!(event_files(&broken).len(), 2);
    check_event_files(&broken);
}

/// What the server was asked: path, authorization, body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

async fn answer(State(asked): State<Asked>, request: Request) -> String {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get(header::AUTHORIZATION).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 24).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    asked.lock().unwrap().push((path, authorization, body));
    // One answer that serves an MLflow and a W&B client.
    json!({
        "experiment": {"experiment_id": "1"}, "run": {"info": {"run_id": "r1"}},
        "data": {"upsertBucket": {"bucket": {"historyLineCount": 0, "project": {"name": "p", "entity": {"name": "e"}}}}},
    })
    .to_string()
}

fn holds(path: &Path, text: &[u8]) -> Option<PathBuf> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flatten().find_map(|entry| holds(&entry.path(), text));
    }
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).any(|part| part == text).then(|| path.to_owned())
}

#[test]
fn servers_are_told_everything_and_the_key_is_written_nowhere() {
    let mmhost = Mmhost::new();
    let asked = Asked::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(answer).with_state(asked.clone());
    runtime.spawn(async move { axum::serve(listener, app).await });

    let text = fs::read_to_string(common::tiny_config()).unwrap();
    let track = format!(
        "\n[track.mlflow]\nurl = \"{url}\"\nexperiment = \"atlas\"\ntoken_env = \"TEST_TRACK_KEY\"\n\n[track.wandb]\nurl = \"{url}\"\nproject = \
         \"p\"\nkey_env = \"TEST_TRACK_KEY\"\n"
    );
    fs::write(mmhost.path("config.toml"), text + &track).unwrap();
    let args = ["train", "--plugins", &common::plugins(), "--config", "config.toml", "--run", "run"];
    let out = mmhost.command(&args).env("TEST_TRACK_KEY", KEY).output().unwrap();
    let log = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{log}");
    let asked = asked.lock().unwrap().clone();
    let of = |path: &str| asked.iter().filter(|(asked, ..)| asked.ends_with(path)).collect::<Vec<_>>();
    assert!(asked.iter().all(|(_, authorization, _)| authorization.starts_with("Bearer ") || authorization.starts_with("Basic ")));
    let metrics: Vec<&Value> = of("log-batch").iter().filter_map(|(_, _, body)| body["metrics"].as_array()).flatten().collect();
    let reward: Vec<u64> = metrics.iter().filter(|m| m["key"] == "train/reward").map(|m| m["step"].as_u64().unwrap()).collect();
    assert_eq!(reward, [1, 2, 3, 4, 5, 6]);
    assert!(metrics.iter().any(|m| m["key"] == "trained/on_demand/test/accuracy" && m["step"] == 6));
    assert_eq!(of("runs/update").last().unwrap().2["status"], "FINISHED");
    assert_eq!(of("file_stream").last().unwrap().2["exitcode"], 0);
    // Neither what it wrote nor what it said holds the key, plain or as it is sent.
    let sent = asked.iter().find_map(|(_, authorization, _)| authorization.strip_prefix("Basic ")).unwrap();
    for secret in [KEY, sent] {
        assert_eq!(holds(&mmhost.path("."), secret.as_bytes()), None);
    }
    assert!(!log.contains(KEY) && !String::from_utf8_lossy(&out.stdout).contains(KEY));

    // A configuration that holds a key where its variable's name belongs is refused, and not repeated.
    let wrong = fs::read_to_string(mmhost.path("config.toml")).unwrap().replace("TEST_TRACK_KEY", KEY);
    fs::write(mmhost.path("wrong.toml"), wrong).unwrap();
    let message = mmhost.fails(3, &["train", "--plugins", &common::plugins(), "--config", "wrong.toml", "--run", "other"]);
    assert!(message.contains("track.wandb.key_env is no name") && !message.contains(KEY), "{message}");
}

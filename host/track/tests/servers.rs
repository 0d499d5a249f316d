//! Trackers against servers of the test's own: what is asked in which order, and what happens when a server is down, slow, broken,
//! overloaded, or refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mmhost_track::{Ended, MlflowOptions, Pace, RunInfo, TrackOptions, Tracker, WandbOptions};
use serde_json::{Value, json};

const KEY: &str = "the-secret-key-0123456789";

/// One request as it came.
#[derive(Debug, Clone)]
struct Asked {
    what: String,
    authorization: String,
    body: Value,
}

type Script = dyn Fn(&str, &Value, usize) -> Response + Send + Sync;

/// A server that writes down what it is asked and answers as its script says.
#[derive(Clone)]
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Script>,
}

impl Server {
    async fn start(script: impl Fn(&str, &Value, usize) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, asked: Arc::default(), script: Arc::new(script) };
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.what).collect()
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let what = format!("{} {}", parts.method, parts.uri.path());
    let authorization = parts.headers.get(header::AUTHORIZATION).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let number = {
        let mut asked = server.asked.lock().unwrap();
        asked.push(Asked { what: what.clone(), authorization, body: body.clone() });
        asked.len()
    };
    (server.script)(&what, &body, number)
}

fn ok(value: Value) -> Response {
    value.to_string().into_response()
}

/// An MLflow server as far as a run needs it; the experiment does not exist.
fn mlflow(what: &str, _: &Value, _: usize) -> Response {
    match what.rsplit_once("/mlflow/").unwrap().1 {
        "experiments/get-by-name" => {
            (StatusCode::NOT_FOUND, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}).to_string()).into_response()
        }
        "experiments/create" => ok(json!({"experiment_id": "7"})),
        "runs/create" => ok(json!({"run": {"info": {"run_id": "abc"}}})),
        "runs/log-batch" | "runs/update" | "runs/get" => ok(json!({})),
        other => panic!("{other}"),
    }
}

/// A W&B server as far as a run needs it.
fn wandb(what: &str, _: &Value, _: usize) -> Response {
    match what {
        "POST /graphql" => ok(json!({"data": {"upsertBucket": {"bucket": {
            "name": "x", "historyLineCount": 0, "project": {"name": "proj", "entity": {"name": "team"}}}, "inserted": true}}})),
        path if path.ends_with("/file_stream") => ok(json!({"exitcode": null, "limits": {}})),
        other => panic!("{other}"),
    }
}

fn pace() -> Pace {
    Pace {
        queue: 64,
        timeout: Duration::from_millis(400),
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        grace: Duration::from_secs(2),
    }
}

/// A tracker of one server, and what it says.
struct Tracked {
    dir: tempfile::TempDir,
    said: Arc<Mutex<Vec<String>>>,
    options: TrackOptions,
    pace: Pace,
}

impl Tracked {
    fn new(options: TrackOptions, pace: Pace) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), said: Arc::default(), options, pace }
    }

    fn mlflow(url: &str) -> Self {
        let mlflow = MlflowOptions { url: url.into(), experiment: "atlas, ä/b".into(), token_env: Some("TOKEN".into()) };
        Self::new(TrackOptions { tensorboard: false, wandb: None, mlflow: Some(mlflow) }, pace())
    }

    fn wandb(url: &str) -> Self {
        let wandb = WandbOptions { url: url.into(), project: "proj".into(), entity: None, key_env: "KEY".into() };
        Self::new(TrackOptions { tensorboard: false, wandb: Some(wandb), mlflow: None }, pace())
    }

    fn start(&self, resumed_after: Option<usize>) -> Tracker {
        let params = BTreeMap::from([("seed".to_owned(), "3".to_owned()), ("plugins.tools".to_owned(), "x".repeat(900))]);
        let info = RunInfo { dir: self.dir.path().to_owned(), name: "a run".into(), params, resumed_after };
        let said = self.said.clone();
        let key = |name: &str| ["KEY", "TOKEN"].contains(&name).then(|| KEY.to_owned());
        Tracker::start(&self.options, &info, &self.pace, key, Arc::new(move |line| said.lock().unwrap().push(line.to_owned())))
    }

    /// A run of `steps` steps.
    async fn run(&self, steps: std::ops::RangeInclusive<usize>) {
        let mut tracker = self.start(None);
        add(&mut tracker, steps);
        tracker.finish(Ended::Finished).await;
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

fn add(tracker: &mut Tracker, steps: std::ops::RangeInclusive<usize>) {
    for step in steps {
        tracker.add(step, vec![("train/reward".into(), step as f64 / 2.0), ("train/kl".into(), f64::NAN)]);
    }
}

/// Every byte below `dir`.
fn holds_key(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() { holds_key(&path) } else { String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(KEY) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflow_gets_experiment_run_parameters_metrics_and_end_in_order() {
    let server = Server::start(mlflow).await;
    let tracked = Tracked::mlflow(&server.url);
    let mut tracker = tracked.start(None);
    tracker.add(0, vec![("base/on_demand/test/accuracy".into(), 0.25)]);
    add(&mut tracker, 1..=3);
    tracker.add(3, vec![("trained/on_demand/test/accuracy".into(), 0.75)]);
    tracker.finish(Ended::Finished).await;
    let asked = server.asked();
    let paths = server.paths();
    let api = "/api/2.0/mlflow";
    let opening = ["GET experiments/get-by-name", "POST experiments/create", "POST runs/create", "POST runs/log-batch"];
    let opening = opening.map(|what| what.replacen(' ', &format!(" {api}/"), 1));
    assert_eq!(paths[..4], opening);
    assert_eq!(paths.last().unwrap(), &format!("POST {api}/runs/update"));
    assert!(asked.iter().all(|asked| asked.authorization == format!("Bearer {KEY}")));
    assert_eq!(asked[1].body, json!({"name": "atlas, ä/b"}));
    assert_eq!((&asked[2].body["experiment_id"], &asked[2].body["run_name"]), (&json!("7"), &json!("a run")));
    assert_eq!(asked[3].body["params"][0]["value"].as_str().unwrap().len(), 500, "cut to what every server takes");
    let metrics: Vec<&Value> = asked.iter().filter_map(|asked| asked.body["metrics"].as_array()).flatten().collect();
    let short: Vec<_> =
        metrics.iter().map(|m| (m["key"].as_str().unwrap(), m["step"].as_u64().unwrap(), m["value"].as_f64().unwrap())).collect();
    let expected = [
        ("base/on_demand/test/accuracy", 0, 0.25),
        ("train/reward", 1, 0.5),
        ("train/reward", 2, 1.0),
        ("train/reward", 3, 1.5),
        ("trained/on_demand/test/accuracy", 3, 0.75),
    ];
    assert_eq!(short, expected);
    assert!(metrics.iter().all(|m| m["timestamp"].as_u64() > Some(1_600_000_000_000)));
    assert_eq!(asked.last().unwrap().body["status"], "FINISHED");
    assert_eq!(tracked.said(), "", "nothing to complain of");
    assert!(!holds_key(tracked.dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_goes_on_with_the_same_run_and_sends_nothing_twice() {
    let server = Server::start(mlflow).await;
    let tracked = Tracked::mlflow(&server.url);
    tracked.run(1..=5).await;
    let before = server.asked().len();
    // Killed after step 5, resumed after the checkpoint of step 4.
    let mut tracker = tracked.start(Some(4));
    for step in 1..=4 {
        tracker.replay(step, vec![("train/reward".into(), 0.0)]);
    }
    add(&mut tracker, 5..=7);
    tracker.finish(Ended::Failed).await;
    let asked = &server.asked()[before..];
    assert!(!asked.iter().any(|asked| asked.what.contains("create")), "{asked:?}");
    assert_eq!(asked[0].body["status"], "RUNNING");
    let steps: Vec<u64> =
        asked.iter().filter_map(|asked| asked.body["metrics"].as_array()).flatten().map(|m| m["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [6, 7]);
    assert_eq!(asked.last().unwrap().body["status"], "FAILED");

    // The process was killed before it knew that a batch had arrived: the server is asked, and counts.
    let knows_more = |what: &str, body: &Value, number: usize| match what.ends_with("runs/get") {
        true => ok(json!({"run": {"data": {"metrics": [{"key": "train/reward", "step": 6}, {"key": "train/kl", "step": "8"}]}}})),
        false => mlflow(what, body, number),
    };
    let server = Server::start(knows_more).await;
    let tracked = Tracked::mlflow(&server.url);
    tracked.run(1..=5).await;
    let mut tracker = tracked.start(Some(5));
    add(&mut tracker, 6..=10);
    tracker.finish(Ended::Finished).await;
    let steps: Vec<u64> = server
        .asked()
        .iter()
        .filter_map(|asked| asked.body["metrics"].as_array().cloned())
        .flatten()
        .map(|m| m["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 9, 10]);

    let server = Server::start(wandb).await;
    let tracked = Tracked::wandb(&server.url);
    tracked.run(1..=5).await;
    let first = server.asked();
    let mut tracker = tracked.start(Some(4));
    add(&mut tracker, 5..=6);
    tracker.finish(Ended::Finished).await;
    let second = &server.asked()[first.len()..];
    assert_eq!(second[0].body["variables"]["name"], first[0].body["variables"]["name"], "the same run there");
    let history = &second[1].body["files"]["wandb-history.jsonl"];
    assert_eq!((&history["offset"], history["content"].as_array().unwrap().len()), (&json!(5), 1));

    let knows_more = |what: &str, body: &Value, number: usize| match what {
        "POST /graphql" if number > 1 => ok(json!({"data": {"upsertBucket": {"bucket": {
            "historyLineCount": 7, "project": {"name": "proj", "entity": {"name": "team"}}}}}})),
        _ => wandb(what, body, number),
    };
    let server = Server::start(knows_more).await;
    let tracked = Tracked::wandb(&server.url);
    tracked.run(1..=5).await;
    let before = server.asked().len();
    let mut tracker = tracked.start(Some(5));
    add(&mut tracker, 6..=9);
    tracker.finish(Ended::Finished).await;
    let mut sent = Vec::new();
    for asked in &server.asked()[before..] {
        let history = &asked.body["files"]["wandb-history.jsonl"];
        for (at, line) in history["content"].as_array().into_iter().flatten().enumerate() {
            let line: Value = serde_json::from_str(line.as_str().unwrap()).unwrap();
            sent.push((history["offset"].as_u64().unwrap() + at as u64, line["_step"].as_u64().unwrap()));
        }
    }
    assert_eq!(sent, [(7, 8), (8, 9)], "the server had lines 5 and 6, of steps 6 and 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn wandb_gets_the_run_lines_of_history_a_summary_and_the_end() {
    let server = Server::start(wandb).await;
    let tracked = Tracked::wandb(&server.url);
    tracked.run(1..=3).await;
    let asked = server.asked();
    assert_eq!(asked[0].what, "POST /graphql");
    // "api:" and the key in base 64.
    assert!(asked.iter().all(|asked| asked.authorization == "Basic YXBpOnRoZS1zZWNyZXQta2V5LTAxMjM0NTY3ODk="), "{asked:?}");
    let variables = &asked[0].body["variables"];
    assert_eq!((&variables["project"], &variables["displayName"], &variables["entity"]), (&json!("proj"), &json!("a run"), &Value::Null));
    let config: Value = serde_json::from_str(variables["config"].as_str().unwrap()).unwrap();
    assert_eq!(config["seed"]["value"], "3");
    assert!(asked[0].body["query"].as_str().unwrap().contains("upsertBucket(input:"));
    let run = variables["name"].as_str().unwrap();
    let streams = &asked[1..];
    assert!(streams.iter().all(|asked| asked.what == format!("POST /files/team/proj/{run}/file_stream")), "{streams:?}");
    let (mut lines, mut offset) = (Vec::new(), 0);
    for stream in &streams[..streams.len() - 1] {
        let history = &stream.body["files"]["wandb-history.jsonl"];
        assert_eq!(history["offset"], json!(offset), "each batch where the last one ended");
        let content = history["content"].as_array().unwrap();
        offset += content.len();
        lines.extend(content.iter().map(|line| serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap()));
    }
    let steps: Vec<_> = lines.iter().map(|line| (line["_step"].as_u64().unwrap(), line["train/reward"].as_f64().unwrap())).collect();
    assert_eq!(steps, [(1, 0.5), (2, 1.0), (3, 1.5)]);
    assert!(lines.iter().all(|line| line["_timestamp"].is_number() && line["_runtime"].is_number() && line.get("train/kl").is_none()));
    assert_eq!(streams.last().unwrap().body, json!({"complete": true, "exitcode": 0, "dropped": 0, "uploaded": []}));
    assert_eq!(tracked.said(), "");
    assert!(!holds_key(tracked.dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stumbles_gets_everything_in_the_end() {
    // Errors, an overload that names a time, and answers that do not come in time: each request is tried again.
    let server = Server::start(|what, body, number| match number {
        1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        3 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        5 => {
            std::thread::sleep(Duration::from_millis(700));
            ok(json!({}))
        }
        _ => mlflow(what, body, number),
    })
    .await;
    let tracked = Tracked::mlflow(&server.url);
    let mut tracker = tracked.start(None);
    let clock = Instant::now();
    add(&mut tracker, 1..=40);
    assert!(clock.elapsed() < Duration::from_millis(300), "the run does not wait");
    // The wait that the server asks for is kept while the run goes on.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    tracker.finish(Ended::Finished).await;
    let steps: std::collections::BTreeSet<u64> = server
        .asked()
        .iter()
        .filter_map(|asked| asked.body["metrics"].as_array().cloned())
        .flatten()
        .map(|m| m["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=40).collect());
    let said = tracked.said();
    assert_eq!(said.lines().count(), 1, "told once: {said}");
    assert!(said.contains("MLflow: it answered 500") && said.contains("tried again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_dropped_and_counted() {
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for tracked in [Tracked::mlflow(&format!("http://{closed}")), Tracked::wandb(&format!("http://{closed}"))] {
        let clock = Instant::now();
        tracked.run(1..=500).await;
        assert!(clock.elapsed() < Duration::from_secs(4), "{:?}: it does not hold up the end", clock.elapsed());
        let said = tracked.said();
        assert!(said.contains("cannot be reached"), "{said}");
        assert_eq!(said.matches("too much is waiting").count(), 1, "{said}");
        assert!(said.contains("500 of 500 rows were not delivered"), "{said}");
    }
    // One that takes every connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tracked = Tracked::mlflow(&format!("http://{}", silent.local_addr().unwrap()));
    let clock = Instant::now();
    tracked.run(1..=3).await;
    assert!(clock.elapsed() < Duration::from_secs(4));
    assert!(tracked.said().contains("does not answer in time") && tracked.said().contains("3 of 3"), "{}", tracked.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_once_and_never_shown() {
    // A server that repeats the key in its answer.
    let refused = |_: &str, _: &Value, _: usize| {
        (StatusCode::UNAUTHORIZED, json!({"message": format!("{KEY} is no key\n\u{1b}[31m")}).to_string()).into_response()
    };
    for build in [Tracked::mlflow as fn(&str) -> Tracked, Tracked::wandb] {
        let server = Server::start(refused).await;
        let tracked = build(&server.url);
        tracked.run(1..=3).await;
        assert_eq!(server.asked().len(), 1, "what is refused is not tried again");
        let said = tracked.said();
        assert!(said.contains("401") && said.contains("*** is no key") && said.contains("3 of 3 rows were not delivered"), "{said}");
        assert!(!said.contains(KEY) && !said.contains('\u{1b}'), "{said}");
        assert!(!holds_key(tracked.dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_or_another_server_is_told_and_the_run_goes_on() {
    let mut tracked = Tracked::wandb("http://127.0.0.1:9");
    if let Some(wandb) = &mut tracked.options.wandb {
        wandb.key_env = "NOT_SET".into();
    }
    tracked.run(1..=3).await;
    assert!(tracked.said().contains("NOT_SET is not set"), "{}", tracked.said());

    let other = Server::start(|_, _, _| "<html>a shop</html>".into_response()).await;
    let tracked = Tracked::mlflow(&other.url);
    tracked.run(1..=3).await;
    assert!(tracked.said().contains("its answer is no JSON"), "{}", tracked.said());
    // A redirect would carry the key elsewhere.
    let target = Server::start(mlflow).await;
    let to = target.url.clone();
    let redirecting = Server::start(move |_, _, _| (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response()).await;
    let tracked = Tracked::mlflow(&redirecting.url);
    tracked.run(1..=3).await;
    assert!(target.asked().is_empty() && tracked.said().contains("302"), "{}", tracked.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn event_files_that_cannot_be_written_do_not_stop_a_run() {
    let mut tracked = Tracked::new(TrackOptions::default(), pace());
    tracked.run(1..=2).await;
    let events = std::fs::read_dir(tracked.dir.path()).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().contains("tfevents"));
    assert_eq!(events.count(), 1);
    assert_eq!(tracked.said(), "");
    tracked.dir = tempfile::tempdir().unwrap();
    std::fs::remove_dir(tracked.dir.path()).unwrap();
    tracked.run(1..=2).await;
    assert!(tracked.said().contains("TensorBoard: no event file can be made"), "{}", tracked.said());
}

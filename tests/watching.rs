//! `mmhost watch` from outside: what it answers, what it refuses, and that it goes on with its run.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Mmhost;
use serde_json::{Value, json};

/// A server of a run, ended with the test.
struct Watch {
    child: Child,
    /// Host and port.
    address: String,
}

impl Watch {
    fn start(mmhost: &Mmhost, run: &str) -> Self {
        let mut command = mmhost.command(&["watch", run, "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        assert!(address.starts_with("127.0.0.1:"), "loopback only: {address}");
        Self { child, address }
    }

    /// Sends a request as it stands; the whole answer.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        let answer = self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, answer) = self.ask("GET", path, &self.address);
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Opens the stream of events.
    fn events(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).unwrap();
        BufReader::new(stream)
    }
}

/// The next version that a stream tells.
fn next_version(events: &mut impl BufRead) -> u64 {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(events.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(version) = line.trim().strip_prefix("data:") {
            return version.trim().parse().unwrap();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn episodes(step: usize) -> String {
    let episode = |rollout: usize| {
        json!({
            "id": format!("step={step}/group=0/rollout={rollout}"), "sample": "s", "question": "</script>What?", "ground_truth": "Lima",
            "tokens": [1, 2], "mask": [false, true], "logprobs": [-0.5], "turns": [{"start": 1, "end": 2, "text": "<answer>Lima</answer>"}],
            "ending": "answered", "reward": {"scored": {"total": rollout as f64, "components": [["accuracy", rollout as f64]]}},
            "image_digests": ["../../run.toml"],
        })
    };
    (0..2).map(|rollout| format!("{}\n", episode(rollout))).collect()
}

fn add_step(run: &Path, step: usize) {
    fs::write(run.join(format!("episodes/step-{step:06}.jsonl")), episodes(step)).unwrap();
    let mut metrics = fs::OpenOptions::new().create(true).append(true).open(run.join("metrics.jsonl")).unwrap();
    writeln!(metrics, "{{\"step\":{step},\"reward\":0.5}}").unwrap();
}

fn write_run(run: &Path) {
    fs::create_dir_all(run.join("episodes/images")).unwrap();
    fs::write(run.join("run.toml"), "seed = 1\n[train]\nsteps = 9\n").unwrap();
    add_step(run, 1);
}

#[test]
fn a_watcher_is_told_what_is_new_and_asks_for_that_only() {
    let mmhost = Mmhost::new();
    let run = mmhost.path("run");
    write_run(&run);
    let watch = Watch::start(&mmhost, "run");
    let mut events = watch.events();
    let first = next_version(&mut events);
    let data = watch.json("/data");
    assert_eq!((&data["runs"][0]["state"], &data["runs"][0]["steps"]), (&json!("stopped"), &json!([1])));
    assert_eq!((&data["live"]["version"], &data["live"]["listed"]), (&json!(first), &json!(2)));
    let generation = &data["live"]["generation"];

    add_step(&run, 2);
    assert!(next_version(&mut events) > first);
    let data = watch.json("/data");
    assert_eq!(data["runs"][0]["steps"], json!([1, 2]));
    assert_eq!(data["runs"][0]["selection"]["shown"], 4);
    let part = watch.json(&format!("/index?generation={generation}&from=2"));
    assert_eq!((&part["from"], &part["index"]["step"]), (&json!(2), &json!([2, 2])), "only what is new");
    // Rewards 0 and 1 in a group of two.
    assert!((part["index"]["advantage"][1].as_f64().unwrap() - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-3, "{part}");
    let number = &part["index"]["at"][0];
    assert_eq!(watch.json(&format!("/episode/{number}?generation={generation}"))["id"], "step=2/group=0/rollout=0");

    // A resumed run does a step again: the list begins anew.
    fs::write(run.join("episodes/step-000002.jsonl"), episodes(2).replace("Lima</answer>", "Quito</answer>")).unwrap();
    fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.25}\n").unwrap();
    next_version(&mut events);
    let data = watch.json("/data");
    assert_eq!((&data["runs"][0]["steps"], &data["runs"][0]["columns"]["reward"]), (&json!([1]), &json!([0.25])));
    assert_ne!(&data["live"]["generation"], generation);
    assert_eq!(watch.get(&format!("/index?generation={generation}&from=2")).0, 404, "of a list that is no more");

    // It ends.
    fs::write(run.join("summary.json"), "{\"base\":{},\"trained\":{},\"timing\":{\"total\":1}}").unwrap();
    next_version(&mut events);
    assert_eq!(watch.json("/data")["runs"][0]["state"], "finished");
}

#[test]
fn it_can_only_be_read_and_only_from_this_machine() {
    let mmhost = Mmhost::new();
    write_run(&mmhost.path("run"));
    fs::write(mmhost.path("secret"), "secret").unwrap();
    let watch = Watch::start(&mmhost, "run");
    let own = watch.address.clone();
    let (status, page) = watch.ask("GET", "/", &own);
    let headers = page.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert_eq!(status, 200);
    for expected in
        ["x-content-type-options: nosniff", "content-security-policy: default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(headers.contains(expected), "{expected}\n{headers}");
    }
    assert!(!headers.contains("unsafe") && !page.contains("</script>What?"), "hostile text stays in its block");
    assert_eq!(watch.ask("HEAD", "/", &own).0, 200);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"] {
        let (status, answer) = watch.ask(method, "/data", &own);
        assert!([400, 405].contains(&status), "{method}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("x-content-type-options: nosniff") || status == 400, "{answer}");
    }
    // A page of another origin whose name points to this machine.
    for host in ["evil.example", "127.0.0.1.evil.example", "evil.example:80"] {
        assert_eq!(watch.ask("GET", "/data", host).0, 421, "{host}");
    }
    let port = own.rsplit_once(':').unwrap().1;
    assert_eq!(watch.ask("GET", "/data", &format!("localhost:{port}")).0, 200);
    assert!(watch.raw("GET /data HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 421"), "without a host");
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/picture/..%2f..%2frun.toml",
        "/picture/%2e%2e%2fsecret",
        "/run.toml",
        "/episodes/step-000001.jsonl",
        "/episode/999999?generation=1",
    ] {
        let (status, body) = watch.get(path);
        assert!(status == 404 && !body.contains("secret") && !body.contains("seed"), "{path}: {status} {body}");
    }
    for path in ["/episode/x?generation=1", "/episode/-1?generation=1", "/index", "/index?generation=99999999999999999999999"] {
        assert_eq!(watch.get(path).0, 400, "{path}");
    }
    assert!(watch.raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn it_begins_before_its_run_and_says_what_is_wrong() {
    let mmhost = Mmhost::new();
    let run = mmhost.path("run");
    fs::create_dir_all(&run).unwrap();
    let watch = Watch::start(&mmhost, "run");
    assert_eq!(watch.json("/data")["runs"][0]["state"], "empty");
    let mut events = watch.events();
    let first = next_version(&mut events);
    write_run(&run);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut version = first;
    while watch.json("/data")["runs"][0]["steps"] != json!([1]) {
        assert!(Instant::now() < deadline);
        version = next_version(&mut events);
    }
    assert!(version > first);
    fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.5}\nnonsense\n{\"step\":2,\"rew").unwrap();
    next_version(&mut events);
    let problems = watch.json("/data")["runs"][0]["problems"].to_string();
    assert!(problems.contains("the first is line 2") && problems.contains("line 3 was not written to its end"), "{problems}");

    let message = mmhost.fails(3, &["watch", "nowhere"]);
    assert!(message.contains("nowhere"), "{message}");
    let port = watch.address.rsplit_once(':').unwrap().1;
    let message = mmhost.fails(3, &["watch", "run", "--port", port]);
    assert!(message.contains(port) && message.contains("--port 0"), "{message}");
    mmhost.fails(2, &["watch", "run", "--port", "99999"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_though_someone_is_connected() {
    let mmhost = Mmhost::new();
    write_run(&mmhost.path("run"));
    let mut watch = Watch::start(&mmhost, "run");
    let mut events = watch.events();
    next_version(&mut events);
    let kill = Command::new("kill").args(["-INT", &watch.child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = watch.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
}

//! What watching costs a run: a training whose steps are watched and not watched in turns.
//!
//! `cargo bench -p mmhost --bench watch_cost -- STEPS`
//!
//! The built-in configuration is trained for STEPS steps (120 are about two minutes after the base is built) while `mmhost watch` serves it.
//! Blocks of steps with a client alternate with blocks without. The client asks for what the page asks for: events, and after each one the
//! figures and the new part of the list. Printed: the median over pairs of neighbouring blocks of the ratio of their step times, and the
//! processor time of the server beside that of the run, which on a machine whose cores are all busy is what the run loses. The first
//! figure needs a quiet machine, the second does not.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Steps of a block.
const BLOCK: usize = 5;

/// Ends a process with the bench, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the page asks for after an event.
fn get(address: &str, path: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers");
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    serde_json::from_slice(&answer[body..]).expect("the answer is JSON")
}

/// A reader with the page open, until its stream is shut.
fn page(address: &str, stream: TcpStream, updates: &AtomicUsize) {
    let (mut generation, mut listed) = (0, 0);
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if !line.starts_with("data:") {
            continue;
        }
        let live = get(address, "/data")["live"].clone();
        if live["generation"] != generation {
            (generation, listed) = (live["generation"].as_u64().unwrap_or(0), 0);
        }
        get(address, &format!("/index?generation={generation}&from={listed}"));
        listed = live["listed"].as_u64().unwrap_or(0);
        updates.fetch_add(1, Ordering::Relaxed);
    }
}

/// Seconds of each step on record.
fn step_seconds(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let seconds = |line: &str| -> Option<f64> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        ["rollout_seconds", "tool_seconds", "reward_seconds", "learner_seconds"].iter().map(|field| line[*field].as_f64()).sum()
    };
    text.lines().filter_map(seconds).collect()
}

/// Processor seconds of a process so far (Linux).
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let steps = std::env::args().skip(1).find_map(|arg| arg.parse::<usize>().ok());
    let Some(steps) = steps.filter(|steps| *steps >= 2 * BLOCK) else {
        println!("watch_cost: skipped; give a number of steps, at least {}", 2 * BLOCK);
        return;
    };
    let program = env!("CARGO_BIN_EXE_mmhost");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().expect("a folder");
    let run = dir.path().join("run");
    let config = dir.path().join("config.toml");
    let text = fs::read_to_string(root.join("configs/atlas.toml")).expect("the configuration reads");
    fs::write(&config, text + "\n[eval]\nlimit = 16\n").expect("the configuration is written");
    let train = Command::new(program)
        .args(["train", "--steps", &steps.to_string()])
        .args(["--plugins".as_ref(), root.join("plugins").as_os_str()])
        .args(["--config".as_ref(), config.as_os_str(), "--run".as_ref(), run.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut train = Running(train.expect("the program starts"));
    while step_seconds(&run).is_empty() {
        assert!(train.0.try_wait().expect("the process is there").is_none(), "the run ended before its first step");
        thread::sleep(Duration::from_millis(200));
    }
    let server = Command::new(program).arg("watch").arg(&run).args(["--port", "0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut server = Running(server.expect("the program starts"));
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().expect("its output")).read_line(&mut address).expect("it tells its address");
    let address = address.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let begun = processor_seconds(server.0.id());

    let updates = Arc::new(AtomicUsize::new(0));
    let (mut with, mut connected, mut seconds, mut run_spent) = (false, None::<TcpStream>, 0.0, 0.0);
    let (mut block_end, mut clock, mut run_begun) = (step_seconds(&run).len() + 1, Instant::now(), 0.0);
    let mut marks: Vec<(usize, bool)> = Vec::new();
    while train.0.try_wait().expect("the process is there").is_none() {
        thread::sleep(Duration::from_millis(20));
        let done = step_seconds(&run).len();
        if done < block_end {
            continue;
        }
        if with {
            seconds += clock.elapsed().as_secs_f64();
            run_spent += processor_seconds(train.0.id()) - run_begun;
        }
        if let Some(stream) = connected.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        with = !with;
        (clock, run_begun) = (Instant::now(), processor_seconds(train.0.id()));
        // The step that is under way is half of one kind, half of the other.
        marks.push((done + 1, with));
        block_end = done + 1 + BLOCK;
        if with {
            let mut stream = TcpStream::connect(&address).expect("the server listens");
            write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("the server reads");
            connected = Some(stream.try_clone().expect("a second handle"));
            let (address, updates) = (address.clone(), updates.clone());
            thread::spawn(move || page(&address, stream, &updates));
        }
    }
    let spent = processor_seconds(server.0.id()) - begun;

    let all = step_seconds(&run);
    let block = |from: usize| {
        let part = all.get(from..from + BLOCK - 1)?;
        Some(part.iter().sum::<f64>() / part.len() as f64)
    };
    let mut ratios = Vec::new();
    for pair in marks.windows(2) {
        let [(first, first_with), (second, _)] = *pair else { continue };
        if let (Some(a), Some(b)) = (block(first), block(second)) {
            ratios.push(if first_with { a / b } else { b / a });
        }
    }
    assert!(!ratios.is_empty(), "too few steps to compare");
    let n = ratios.len();
    let middle = median(&mut ratios);
    println!("steps: {} of {:.3} s; {} pairs of blocks", all.len(), all.iter().sum::<f64>() / all.len() as f64, n);
    println!("step time watched / not watched: {middle:.4} (quartiles {:.4} to {:.4})", ratios[n / 4], ratios[3 * n / 4]);
    println!(
        "server: {spent:.2} processor seconds in {seconds:.1} s watched, {:.2} % of one core and {:.2} % of the run's own, for {} updates",
        100.0 * spent / seconds.max(1e-9),
        100.0 * spent / run_spent.max(1e-9),
        updates.load(Ordering::Relaxed)
    );
}

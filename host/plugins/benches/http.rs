//! A guest's request through the host's door to the network, policy, budget and redaction, against the same request by reqwest alone; to servers
//! on this machine, in turns: by the contract's `http`, as the SDK has it, and by `wasi:http`, whose thirty calls of the host and task of its
//! own cost more. Over connections that the server keeps, as most do, and over a new one each time. Prints microseconds per request and ratios.
//!
//! Client and server stand on one core, and then on a core each. Left alone the system moves them between the two, and to wake a core that sleeps
//! takes longer than the door: the ratio would be one of placements. Linux, with `taskset` of util-linux.
//!
//! `cargo bench -p mmhost-plugins --bench http`

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/guest.rs"]
mod guest;
#[path = "../tests/common/server.rs"]
mod server;

use common::{block_on_net as block_on, host, query};
use guest::Folder;
use mmhost_plugins::{Grant, ToolPlugin};
use server::{Names, Server};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of one call.
const REQUESTS: u32 = 200;
const ROUNDS: usize = 15;

fn probe(port: u16) -> (Folder, ToolPlugin) {
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let hosts = format!("hosts = [\"http://api.example:{port}\"]");
    let folder = Folder::new("search-tool", &format!("[ask]\n{hosts}\n[limits]\nhttp_requests = 256"), &component);
    let grant: Grant = toml::from_str(&format!("{hosts}\nnetworks = [\"127.0.0.0/8\"]")).unwrap();
    let host = host(&[]).with_grants([("guest".to_string(), grant)].into()).with_lookup(Arc::new(Names::default()));
    let tool = host.load_dir(folder.path()).unwrap().tools.remove(0);
    (folder, tool)
}

/// A server that answers every request at once and keeps the connection; its port.
fn keeping() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    head.extend_from_slice(&chunk[..read]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").unwrap();
                    }
                }
            });
        }
    });
    port
}

/// Runs it as a run does, in a task of a worker thread.
fn as_a_task(work: impl Future<Output = ()> + Send + 'static) {
    block_on(async { tokio::spawn(work).await.unwrap() });
}

fn measure(connections: &str, port: u16) {
    let (_folder, tool) = probe(port);
    let url = format!("http://api.example:{port}/ok");
    let order = |own_door: bool| {
        let order = serde_json::json!({"method": "GET", "url": url, "headers": [], "body": "", "times": REQUESTS, "own_door": own_door});
        query(&order.to_string())
    };
    let (own_order, wasi_order) = (order(true), order(false));
    let client = reqwest::Client::builder().no_proxy().resolve("api.example", ([127, 0, 0, 1], port).into()).build().unwrap();
    let micros = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS);
    let (mut own, mut wasi, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (order, times) in [(&own_order, &mut own), (&wasi_order, &mut wasi)] {
            let started = Instant::now();
            let (tool, order) = (tool.clone(), order.clone());
            as_a_task(async move { tool.call(&order).await.map(drop).unwrap() });
            times.push(micros(started));
        }
        let started = Instant::now();
        let (client, url) = (client.clone(), url.clone());
        as_a_task(async move {
            for _ in 0..REQUESTS {
                client.get(&url).send().await.unwrap().bytes().await.unwrap();
            }
        });
        alone.push(micros(started));
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (own, wasi, alone) = (median(&mut own), median(&mut wasi), median(&mut alone));
    println!("{connections}: a request by `http` {own:.0} µs, by `wasi:http` {wasi:.0} µs, by reqwest alone {alone:.0} µs");
    println!("{connections}: ratios {:.2} and {:.2}", own / alone, wasi / alone);
}

/// Runs something in a thread that keeps to a core, as do the threads that it starts.
fn on_core<T: Send>(core: &str, work: impl FnOnce() -> T + Send) -> T {
    let bound = move || {
        let thread = std::fs::read_link("/proc/thread-self").expect("a Linux /proc");
        let mut taskset = Command::new("taskset");
        taskset.args(["-pc", core]).arg(thread.file_name().unwrap()).stdout(Stdio::null());
        assert!(taskset.status().expect("taskset, of util-linux").success(), "there is no core {core}");
        work()
    };
    std::thread::scope(|scope| scope.spawn(bound).join().unwrap())
}

fn main() {
    on_core("0", || {
        for (place, core) in [("one core", "0"), ("two cores", "1")] {
            measure(&format!("{place}, kept connections"), on_core(core, keeping));
            measure(&format!("{place}, new connections"), on_core(core, || Server::start().port));
        }
    });
}

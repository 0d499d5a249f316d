//! A guest's request through the host's door, policy, budget and redaction, against the same request by reqwest alone; both over new
//! connections to a server on this machine, in turns. Prints microseconds per request and their ratio.
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
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Requests of one call.
const REQUESTS: u32 = 200;
const ROUNDS: usize = 15;

fn probe(server: &Server) -> (Folder, ToolPlugin) {
    let component = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/http-probe/http-probe.wasm")).unwrap();
    let hosts = format!("hosts = [\"http://api.example:{}\"]", server.port);
    let folder = Folder::new("search-tool", &format!("[ask]\n{hosts}\n[limits]\nhttp_requests = 256\ndeadline_ms = 60000"), &component);
    let grant: Grant = toml::from_str(&format!("{hosts}\nnetworks = [\"127.0.0.0/8\"]")).unwrap();
    let host = host(&[]).with_grants([("guest".to_string(), grant)].into()).with_lookup(Arc::new(Names::default()));
    let tool = host.load_dir(folder.path()).unwrap().tools.remove(0);
    (folder, tool)
}

/// Runs it as a run does, in a task of a worker thread.
fn as_a_task(work: impl Future<Output = ()> + Send + 'static) {
    block_on(async { tokio::spawn(work).await.unwrap() });
}

fn main() {
    let server = Server::start();
    let (_folder, tool) = probe(&server);
    let url = format!("http://api.example:{}/ok", server.port);
    let order = serde_json::json!({"method": "GET", "url": url, "headers": [], "body": "", "times": REQUESTS}).to_string();
    let input = query(&order);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let plain_url = format!("http://127.0.0.1:{}/ok", server.port);
    let micros = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS);
    let (mut door, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let (tool, input) = (tool.clone(), input.clone());
        as_a_task(async move { tool.call(&input).await.map(drop).unwrap() });
        door.push(micros(started));
        let started = Instant::now();
        let (client, url) = (client.clone(), plain_url.clone());
        as_a_task(async move {
            for _ in 0..REQUESTS {
                client.get(&url).send().await.unwrap().bytes().await.unwrap();
            }
        });
        plain.push(micros(started));
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (door, plain) = (median(&mut door), median(&mut plain));
    println!("a request through the door {door:.0} µs, by reqwest {plain:.0} µs, ratio {:.2}", door / plain);
}

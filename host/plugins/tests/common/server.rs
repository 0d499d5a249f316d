//! A server for the tests of the network, on the loopback device, and names that lead to it.
#![allow(dead_code)]

use mmhost_plugins::Lookup;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers by path until the test's process ends.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    /// Slow answers under way, and the most of them at once.
    slow: Arc<Mutex<(usize, usize)>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { port: listener.local_addr().unwrap().port(), requests: Arc::default(), slow: Arc::default() };
        let answering = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = answering.clone();
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || drop(server.answer(stream)));
            }
        });
        server
    }

    /// Most slow answers that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.slow.lock().unwrap().1
    }

    /// The head and body of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        while reader.read_line(&mut head)? > 2 {
            let line = head.lines().last().unwrap_or_default().to_lowercase();
            if let Some(n) = line.strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = format!("{head}{}", String::from_utf8_lossy(&body));
        self.requests.lock().unwrap().push(request.clone());
        let first_line = |request: &str| request.lines().next().map(str::to_owned);
        let seen = || self.requests.lock().unwrap().iter().filter(|other| first_line(other) == first_line(&request)).count();
        let target = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut say = |status: &str, headers: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)
        };
        match path {
            "/ok" => say("200 OK", "", b"fine"),
            "/echo" => say("200 OK", "", request.as_bytes()),
            "/redirect" => say("302 Found", &format!("location: {query}\r\n"), b""),
            // Busy twice, then fine.
            "/busy" if seen() <= 2 => say("503 Busy", &format!("retry-after: {query}\r\n"), b"later"),
            "/busy" => say("200 OK", "", b"fine"),
            "/status" => say(&format!("{query} Status"), "", b""),
            "/big" => say("200 OK", "", &vec![b'x'; query.parse().unwrap_or(0)]),
            "/bomb" => say("200 OK", "content-encoding: gzip\r\n", &bomb()),
            "/headers" => say("200 OK", &(0..2000).map(|n| format!("x-{n}: {}\r\n", "y".repeat(100))).collect::<String>(), b""),
            "/long-header" => say("200 OK", &format!("x-long: {}\r\n", "y".repeat(100_000)), b""),
            "/liar" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\nshort")?;
                std::thread::sleep(Duration::from_millis(50));
                Ok(())
            }
            "/drip" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            "/endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[b'x'; 65536])?;
                }
            }
            "/garbage" => stream.write_all(b"\x00\xff\r\n\r\nnot http"),
            "/search" => {
                say("200 OK", "", br#"{"organic_results":[{"title":"Chad","snippet":"A country.","link":"http://pages.example/chad"}]}"#)
            }
            "/v1/chat/completions" => {
                let asked: serde_json::Value = serde_json::from_slice(&body)?;
                let key = head.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap_or("no key");
                let last = asked["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or_default();
                // A judge that takes what is called a city for the truth, and what is called a riddle for none of its business.
                let said = if asked["model"] == "echo" {
                    last
                } else if last.contains("riddle") {
                    "Hm."
                } else if last.contains("City of") {
                    "Yes."
                } else {
                    "No, it does not."
                };
                let answer = serde_json::json!({
                    "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 2},
                });
                let body = answer.to_string();
                match asked["model"].as_str().unwrap_or_default() {
                    "denying" => say("401 Unauthorized", "", format!("{{\"error\": \"bad {key}\"}}").as_bytes()),
                    "busy" if seen() <= 1 => say("429 Busy", "retry-after: 0\r\n", b"later"),
                    "garbled" => say("200 OK", "", b"<html>Welcome</html>"),
                    "endless" => {
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                        loop {
                            stream.write_all(&[b' '; 65536])?;
                        }
                    }
                    "moving" => say("307 Moved", "location: http://127.0.0.1:1/v1\r\n", b""),
                    "slow" => {
                        {
                            let mut slow = self.slow.lock().unwrap();
                            *slow = (slow.0 + 1, slow.1.max(slow.0 + 1));
                        }
                        std::thread::sleep(Duration::from_millis(200));
                        self.slow.lock().unwrap().0 -= 1;
                        say("200 OK", "", body.as_bytes())
                    }
                    _ => say("200 OK", "", body.as_bytes()),
                }
            }
            "/read" => say("200 OK", "", b"N'Djamena is the capital\nof Chad."),
            _ => say("404 Not Found", "", b"no such page"),
        }
    }
}

/// A hundred megabytes of zeros, compressed.
fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..100 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

/// Names and their addresses; `rebind.example` is public the first time and a loopback address from then on.
#[derive(Default)]
pub struct Names {
    asked: Mutex<BTreeMap<String, usize>>,
}

impl Names {
    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

#[async_trait::async_trait]
impl Lookup for Names {
    async fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let before = self.asked(name);
        self.asked.lock().unwrap().insert(name.to_owned(), before + 1);
        let addresses: &[&str] = match name {
            "metadata.example" => &["169.254.169.254"],
            "private.example" => &["10.0.0.1", "::ffff:192.168.0.1"],
            "mapped.example" => &["::ffff:10.0.0.1"],
            "nowhere.example" => return Err(std::io::Error::other("no such host")),
            "rebind.example" if before == 0 => &["127.0.0.1"],
            "rebind.example" => &["10.0.0.1"],
            _ => &["127.0.0.1"],
        };
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

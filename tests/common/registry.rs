//! A small registry and web server for the tests, on the loopback device: OCI blobs, manifests and tokens, and files that break off, never
//! end or lead elsewhere.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::base64::Engine as _;
use sha2::{Digest, Sha256};

pub const USER: &str = "me";
pub const PASSWORD: &str = "open-sesame-1234";
const TOKEN: &str = "token-of-the-registry";

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    token: Option<String>,
    requests: Vec<String>,
}

/// Answers until the test's process ends. As public registries do, it gives everyone a token; repositories under `private/`
/// ask for that of [`USER`].
#[derive(Clone)]
pub struct Registry {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    authorisation: String,
    body: Vec<u8>,
}

impl Registry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = Registry { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let answering = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let registry = answering.clone();
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || drop(registry.answer(stream)));
            }
        });
        registry
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Serves a file under `/files/`; its address.
    pub fn serve(&self, name: &str, content: &[u8]) -> String {
        self.state.lock().unwrap().files.insert(name.into(), content.to_vec());
        format!("http://{}/files/{name}", self.host())
    }

    /// Replaces a manifest, whatever its digest.
    pub fn set_manifest(&self, name: &str, content: &[u8]) {
        self.state.lock().unwrap().manifests.insert(name.into(), content.to_vec());
    }

    /// A manifest by repository and tag, e.g. `me/text-search/1.0`.
    pub fn manifest(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.state.lock().unwrap().manifests[name]).unwrap()
    }

    /// Gives out something else under a blob's digest.
    pub fn set_blob(&self, digest: &str, content: &[u8]) {
        self.state.lock().unwrap().blobs.insert(digest.into(), content.to_vec());
    }

    /// Changes the token that everyone gets.
    pub fn set_token(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.into());
    }

    /// Method and path of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let request = read(&stream)?;
        self.state.lock().unwrap().requests.push(format!("{} {}", request.method, request.path));
        let mut say = |status: &str, headers: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
            stream.write_all(head.as_bytes())?;
            if request.method != "HEAD" { stream.write_all(body) } else { Ok(()) }
        };
        if let Some(name) = request.path.strip_prefix("/files/") {
            let content = self.state.lock().unwrap().files.get(name).cloned();
            return match content {
                Some(content) => say("200 OK", "", &content),
                None => say("404 Not Found", "", b""),
            };
        }
        match request.path.as_str() {
            "/token" if request.authorisation == format!("Basic {}", base64(format!("{USER}:{PASSWORD}"))) => {
                return say("200 OK", "", format!("{{\"token\":\"{TOKEN}\"}}").as_bytes());
            }
            "/token" if request.authorisation.is_empty() => {
                let token = self.state.lock().unwrap().token.clone().unwrap_or("for-all".into());
                return say("200 OK", "", serde_json::json!({"token": token}).to_string().as_bytes());
            }
            "/token" => return say("401 Unauthorized", "", b""),
            "/redirect" => return say("302 Found", &format!("location: {}\r\n", request.query), b""),
            // Announces more than it sends.
            "/broken" => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nthe beginning"),
            "/slow" | "/endless" => {
                let pause = if request.path == "/slow" { Duration::from_millis(20) } else { Duration::ZERO };
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[0x1f; 65536])?;
                    std::thread::sleep(pause);
                }
            }
            _ => {}
        }
        let Some(rest) = request.path.strip_prefix("/v2/") else { return say("404 Not Found", "", b"") };
        // Clients ask at the root how they are to log in.
        if (rest.is_empty() || rest.starts_with("private/")) && request.authorisation != format!("Bearer {TOKEN}") {
            let host = self.host();
            let challenge = format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"tests\"\r\n");
            return say("401 Unauthorized", &challenge, b"{}");
        }
        let mut state = self.state.lock().unwrap();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&request.body)));
        let parts = ["/blobs/uploads/", "/blobs/", "/manifests/"].into_iter().find_map(|part| Some((part, rest.split_once(part)?)));
        match (request.method.as_str(), parts) {
            ("POST", Some(("/blobs/uploads/", (repository, "")))) => {
                // With a query of its own, as registries have it.
                say("202 Accepted", &format!("location: /v2/{repository}/blobs/uploads/1?state=x\r\n"), b"")
            }
            ("PUT", Some(("/blobs/uploads/", _))) if request.query == format!("state=x&digest={}", digest.replace(':', "%3A")) => {
                let created = format!("location: /v2/x/blobs/{digest}\r\n");
                state.blobs.insert(digest, request.body.clone());
                say("201 Created", &created, b"")
            }
            ("PUT", Some(("/manifests/", (repository, tag)))) => {
                state.manifests.insert(format!("{repository}/{tag}"), request.body.clone());
                state.manifests.insert(format!("{repository}/{digest}"), request.body.clone());
                say("201 Created", &format!("location: /v2/{repository}/manifests/{digest}\r\n"), b"")
            }
            ("GET" | "HEAD", Some((part, (repository, name)))) => {
                let found = match part {
                    "/manifests/" => state.manifests.get(&format!("{repository}/{name}")),
                    _ => state.blobs.get(name),
                };
                match found {
                    Some(content) => say("200 OK", "", content),
                    None => say("404 Not Found", "", b"{}"),
                }
            }
            _ => say("400 Bad Request", "", b"{}"),
        }
    }
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_string()).next().unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let mut words = head.split_whitespace();
    let method = words.next().unwrap_or_default().to_string();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request { method, path: path.into(), query: query.into(), authorisation: header("authorization"), body })
}

/// Standard base64.
pub fn base64(text: impl AsRef<[u8]>) -> String {
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

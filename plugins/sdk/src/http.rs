//! Requests through the host's door. The host sends what the manifest asks for and the run grants, follows redirects, repeats what an
//! overloaded server refused, and puts secrets in: write `__secret.NAME__` into the query or a header.
//!
//! ```ignore
//! let answer = mmhost_sdk::http::get("https://api.example.org/search?q=flags&key=__secret.API_KEY__", &[])?;
//! ```
//!
//! This is the contract's own `http`: one call of the host for a request, where `wasi:http` takes thirty. The host's rules are the same.

use crate::bindings::imports::http;

pub use http::{Header, HttpError, Response};

/// Sends a GET request and waits for the answer, whatever its status.
///
/// # Errors
/// When there is no answer.
pub fn get(url: &str, headers: &[(&str, &str)]) -> Result<Response, HttpError> {
    send("GET", url, headers, &[])
}

/// Sends a request and waits for the answer, whatever its status.
///
/// # Errors
/// When there is no answer.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, HttpError> {
    let headers = headers.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() }).collect();
    http::send(&http::Request { method: method.into(), url: url.into(), headers, body: body.into() })
}

/// What went wrong, in words.
pub fn explain(error: &HttpError) -> &str {
    match error {
        HttpError::Malformed(what) | HttpError::OverLimit(what) | HttpError::Failed(what) => what,
        HttpError::NotGranted => "the request is not granted",
    }
}

/// A text as it may stand in the query of a URL.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

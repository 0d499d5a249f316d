//! HTTP as trackers need it: JSON in, JSON out, a key that is never told, and failures sorted into those worth another try and others.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

/// Longest wait that a server can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Characters of a server's message that are told.
const LONGEST_MESSAGE: usize = 200;

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// It may succeed later: the server is down, slow, overloaded or broken.
    Later { why: String, after: Option<Duration> },
    /// It will not: the key is wrong, the request is refused.
    Never { why: String, status: Option<StatusCode> },
}

impl Fault {
    pub fn why(&self) -> &str {
        match self {
            Fault::Later { why, .. } | Fault::Never { why, .. } => why,
        }
    }

    pub fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Fault::Never { status: Some(status), .. } if *status == wanted)
    }

    fn never(why: impl Into<String>) -> Self {
        Fault::Never { why: why.into(), status: None }
    }
}

/// A server and how to speak to it.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    /// What must never be told, though the server may repeat it.
    key: Option<String>,
}

impl Client {
    /// `authorization` makes the header's value from the key.
    pub fn new(base: &str, key: Option<String>, authorization: impl Fn(&str) -> String, timeout: Duration) -> Result<Self, Fault> {
        let base = Url::parse(base).map_err(|error| Fault::never(format!("its address cannot be used: {error}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mmhost/", env!("CARGO_PKG_VERSION"))));
        if let Some(key) = &key {
            // The error of a key that is no header would repeat it.
            let value = HeaderValue::from_str(&authorization(key));
            let mut value = value.map_err(|_| Fault::never("its key holds characters that no key has, such as a line's end"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // Another crate may have installed a provider already; that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No redirects: a key goes to the configured server and nowhere else.
        let http = reqwest::Client::builder().default_headers(headers).timeout(timeout).redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| Fault::never(format!("no connection can be set up: {}", chain(&error))))?;
        Ok(Self { http, base, key })
    }

    /// The address of `path` below the server's own; every part is encoded.
    pub fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub async fn get(&self, url: Url) -> Result<Value, Fault> {
        self.send(Method::GET, url, None).await
    }

    pub async fn post(&self, url: Url, body: &Value) -> Result<Value, Fault> {
        self.send(Method::POST, url, Some(body)).await
    }

    async fn send(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, Fault> {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_str(&text).or_else(|error| {
                if text.trim().is_empty() { Ok(Value::Null) } else { Err(Fault::never(format!("its answer is no JSON: {error}"))) }
            });
        }
        let why = self.without_key(&format!("it answered {status}{}", message(&text)));
        let later = status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        Err(if later { Fault::Later { why, after } } else { Fault::Never { why, status: Some(status) } })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Fault {
        let why =
            if error.is_timeout() { "it does not answer in time".to_owned() } else { format!("it cannot be reached: {}", chain(error)) };
        Fault::Later { why: self.without_key(&why), after: None }
    }

    fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) if !key.is_empty() => text.replace(key.as_str(), "***"),
            _ => text.to_owned(),
        }
    }
}

/// What a server says of its refusal, on one line.
fn message(text: &str) -> String {
    let said = serde_json::from_str::<Value>(text).ok();
    let of = |field: &str| said.as_ref().and_then(|said| said[field].as_str()).map(str::to_owned);
    let said = of("message").or_else(|| of("error")).unwrap_or_default();
    let line: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect();
    if line.trim().is_empty() { String::new() } else { format!(": {}", line.trim()) }
}

/// An error with its causes, without addresses.
fn chain(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    causes.last().cloned().unwrap_or_else(|| error.to_string())
}

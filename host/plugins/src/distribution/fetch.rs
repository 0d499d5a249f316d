//! Asks web servers and registries, for bounded answers over ways that cannot be listened to.

use super::source::may_be_asked;
use crate::{PluginError, Result};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};
use std::error::Error as _;
use std::time::Duration;
use url::Url;

/// Most hops that a request is led on to.
const MAX_REDIRECTS: usize = 5;

/// A whole answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A client whose redirects never leave encryption for plain HTTP, and whose credentials stay with their host.
///
/// # Errors
/// When it does not start.
pub(super) fn client() -> Result<Client> {
    // The provider is the process's; a second installation fails and changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    let redirect = Policy::custom(|attempt| {
        let was_encrypted = attempt.previous().first().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("it leads on more than {MAX_REDIRECTS} times"));
        }
        if !may_be_asked(attempt.url()) || (was_encrypted && attempt.url().scheme() != "https") {
            let to = attempt.url().host_str().unwrap_or_default().to_string();
            return attempt.error(format!("it leads on to {to} without encryption"));
        }
        attempt.follow()
    });
    Client::builder()
        .redirect(redirect)
        // One would hear what is meant for this machine only.
        .no_proxy()
        .referer(false)
        .user_agent(concat!("mmhost/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .timeout(Duration::from_secs(600))
        .build()
        .map_err(|error| PluginError::Other(format!("cannot start the network: {error}")))
}

/// Sends a request and reads the answer, of which at most `most` bytes are taken.
///
/// # Errors
/// When the server cannot be reached, breaks off, or says more.
pub(super) async fn send(request: RequestBuilder, origin: &str, most: u64) -> Result<Answer> {
    let fail = |message: String| PluginError::Fetch { origin: origin.into(), message };
    let broken = |error: reqwest::Error| {
        // The URL may hold a signature or a token.
        let error = error.without_url();
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            message.push_str(&format!(": {next}"));
            cause = next.source();
        }
        fail(message)
    };
    let mut response = request.send().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > most {
            return Err(fail(format!("it answers with more than {most} bytes; expected at most {most}")));
        }
    }
    Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
}

/// Fetches a file of at most `most` bytes.
///
/// # Errors
/// When it cannot be had.
pub(super) async fn get(url: &Url, origin: &str, most: u64) -> Result<Vec<u8>> {
    let answer = send(client()?.get(url.clone()), origin, most).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        other => Err(PluginError::Fetch { origin: origin.into(), message: format!("the server answered {other}; expected 200 OK") }),
    }
}

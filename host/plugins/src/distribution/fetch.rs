//! Fetches files from web servers: bounded, over ways that cannot be listened to.

use super::source::may_be_asked;
use crate::net::install_tls;
use crate::{PluginError, Result};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use std::error::Error as _;
use std::time::Duration;
use url::Url;

/// Most hops that a request is led on to.
const MAX_REDIRECTS: usize = 5;
/// Longest that a connection may take to stand.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
pub(super) const READ: Duration = Duration::from_secs(30);
/// Longest that a whole plugin may take to come or go.
pub(super) const WHOLE: Duration = Duration::from_secs(600);
/// What servers are told of who asks.
pub(super) const USER_AGENT: &str = concat!("mmhost/", env!("CARGO_PKG_VERSION"));

/// A client whose redirects never leave encryption for plain HTTP.
///
/// # Errors
/// When it does not start.
fn client() -> Result<Client> {
    install_tls();
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
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .read_timeout(READ)
        .timeout(WHOLE)
        .build()
        .map_err(|error| PluginError::Other(format!("cannot start the network: {error}")))
}

/// What went wrong on the way, with its causes, without the URL: that may hold a signature or a token.
pub(super) fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        message.push_str(&format!(": {next}"));
        cause = next.source();
    }
    message
}

/// Fetches a file of at most `most` bytes.
///
/// # Errors
/// When the server cannot be reached, answers anything but 200, breaks off, or says more.
pub(super) async fn get(url: &Url, origin: &str, most: u64) -> Result<Vec<u8>> {
    let fail = |message: String| PluginError::Fetch { origin: origin.into(), message };
    let broken = |error| fail(told(error));
    let mut response = client()?.get(url.clone()).send().await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(fail(format!("the server answered {}; expected 200 OK", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > most {
            return Err(fail(format!("it answers with more than {most} bytes; expected at most {most}")));
        }
    }
    Ok(body)
}

//! The few calls of the OCI distribution specification that a plugin needs: blobs, manifests, tokens.

use super::credentials::Credentials;
use super::fetch::{Answer, client, send};
use super::source::{Reference, may_be_asked};
use crate::lock::pinned;
use crate::{PluginError, Result};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use url::Url;

/// Media type of an artifact's manifest.
pub(super) const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Largest manifest of an artifact, and largest answer that is no artifact, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// How requests are authorised.
#[derive(Clone)]
enum Authorisation {
    None,
    Basic,
    Bearer(String),
}

/// A repository of a registry, with what may be done in it.
pub(super) struct Repository<'a> {
    reference: &'a Reference,
    base: Url,
    http: Client,
    credentials: Option<Credentials>,
    actions: &'static str,
    authorisation: Authorisation,
}

impl<'a> Repository<'a> {
    /// `actions` is `pull` or `pull,push`.
    pub fn new(reference: &'a Reference, credentials: Option<Credentials>, actions: &'static str) -> Result<Self> {
        let base = reference.base().ok_or_else(|| PluginError::Other(format!("{reference} leads nowhere")))?;
        Ok(Repository { reference, base, http: client()?, credentials, actions, authorisation: Authorisation::None })
    }

    /// The artifact's manifest with its digest.
    ///
    /// # Errors
    /// When it cannot be had, or is another than the reference's digest says.
    pub async fn manifest(&mut self) -> Result<(Value, String)> {
        let url = self.url(&format!("manifests/{}", self.reference.version()))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, reqwest::header::HeaderValue::from_static(IMAGE_MANIFEST));
        let answer = self.ask(Method::GET, url, headers, Vec::new(), MAX_MANIFEST).await?;
        let body = self.expect(answer, StatusCode::OK, "the artifact")?.body;
        let digest = pinned(&body);
        if let Some(expected) = self.reference.digest.as_ref().filter(|expected| **expected != digest) {
            return Err(self.fail(format!("its manifest: found {digest}, expected {expected}; the registry gives out something else")));
        }
        let manifest = serde_json::from_slice(&body).map_err(|error| self.fail(format!("its manifest is not JSON: {error}")))?;
        Ok((manifest, digest))
    }

    /// A blob of at most `most` bytes.
    ///
    /// # Errors
    /// When it cannot be had, is larger, or is another.
    pub async fn blob(&mut self, digest: &str, most: u64) -> Result<Vec<u8>> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let answer = self.ask(Method::GET, url, HeaderMap::new(), Vec::new(), most).await?;
        let body = self.expect(answer, StatusCode::OK, digest)?.body;
        match pinned(&body) {
            found if found == digest => Ok(body),
            found => Err(self.fail(format!("a file of it: found {found}, expected {digest}; the registry gives out something else"))),
        }
    }

    /// Sends a blob, unless the repository has it.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_blob(&mut self, content: &[u8]) -> Result<()> {
        let digest = pinned(content);
        let url = self.url(&format!("blobs/{digest}"))?;
        if self.ask(Method::HEAD, url, HeaderMap::new(), Vec::new(), 0).await?.status == StatusCode::OK {
            return Ok(());
        }
        let url = self.url("blobs/uploads/")?;
        let answer = self.ask(Method::POST, url.clone(), HeaderMap::new(), Vec::new(), MAX_MANIFEST).await?;
        let begun = self.expect(answer, StatusCode::ACCEPTED, "an upload")?;
        let location = begun.headers.get(LOCATION).and_then(|location| location.to_str().ok()).and_then(|location| url.join(location).ok());
        let Some(mut url) = location.filter(may_be_asked) else {
            return Err(self.fail("the registry does not say where to upload to, or names a place without encryption".into()));
        };
        url.query_pairs_mut().append_pair("digest", &digest);
        let answer = self.ask(Method::PUT, url, content_type("application/octet-stream"), content.to_vec(), MAX_MANIFEST).await?;
        self.expect(answer, StatusCode::CREATED, "a file").map(drop)
    }

    /// Sends the artifact's manifest and gives it the reference's tag.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_manifest(&mut self, content: &[u8]) -> Result<()> {
        let url = self.url(&format!("manifests/{}", self.reference.version()))?;
        let answer = self.ask(Method::PUT, url, content_type(IMAGE_MANIFEST), content.to_vec(), MAX_MANIFEST).await?;
        self.expect(answer, StatusCode::CREATED, "the artifact").map(drop)
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| self.fail(format!("`{path}`: {error}")))
    }

    fn fail(&self, message: String) -> PluginError {
        PluginError::Fetch { origin: self.reference.to_string(), message }
    }

    /// Asks, and where the registry wants to know who asks, tells it and asks again.
    async fn ask(&mut self, method: Method, url: Url, headers: HeaderMap, body: Vec<u8>, most: u64) -> Result<Answer> {
        let answer = self.ask_once(&method, &url, &headers, &body, most).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !matches!(self.authorisation, Authorisation::None) {
            return Ok(answer);
        }
        self.authorise(&answer.headers).await?;
        self.ask_once(&method, &url, &headers, &body, most).await
    }

    async fn ask_once(&self, method: &Method, url: &Url, headers: &HeaderMap, body: &[u8], most: u64) -> Result<Answer> {
        let mut request = self.http.request(method.clone(), url.clone()).headers(headers.clone()).body(body.to_vec());
        // Uploads may lead to another host, which is no business of the registry's credentials.
        if url.origin() == self.base.origin() {
            request = match (&self.authorisation, &self.credentials) {
                (Authorisation::Bearer(token), _) => request.bearer_auth(token),
                (Authorisation::Basic, Some(user)) => request.basic_auth(&user.username, Some(&user.password)),
                _ => request,
            };
        }
        // What is no success may say why at some length.
        send(request, &self.reference.to_string(), most.max(MAX_MANIFEST)).await
    }

    /// Gets what the registry wants to see, by its challenge.
    async fn authorise(&mut self, headers: &HeaderMap) -> Result<()> {
        let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") && self.credentials.is_some() {
            self.authorisation = Authorisation::Basic;
            return Ok(());
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(());
        }
        let realm = parameter(parameters, "realm").and_then(|realm| Url::parse(&realm).ok()).filter(may_be_asked);
        let Some(mut url) = realm.filter(|realm| realm.scheme() == "https" || self.base.scheme() == "http") else {
            return Err(self.fail("the registry does not say where tokens are had, or names a place without encryption".into()));
        };
        if let Some(service) = parameter(parameters, "service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:{}", self.reference.repository, self.actions));
        let place = url.host_str().unwrap_or_default().to_string();
        let mut request = self.http.get(url);
        if let Some(user) = &self.credentials {
            request = request.basic_auth(&user.username, Some(&user.password));
        }
        let answer = send(request, &self.reference.to_string(), MAX_MANIFEST).await?;
        if answer.status != StatusCode::OK {
            return Err(self.fail(format!("{place}, which gives out tokens for it, answered {}; {}", answer.status, self.whose())));
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = json["token"].as_str().or(json["access_token"].as_str());
        let token = token.ok_or_else(|| self.fail(format!("{place}, which gives out tokens for it, answered without one")))?;
        self.authorisation = Authorisation::Bearer(token.into());
        Ok(())
    }

    fn expect(&self, answer: Answer, status: StatusCode, what: &str) -> Result<Answer> {
        if answer.status == status {
            return Ok(answer);
        }
        let hint = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("; {}", self.whose()),
            _ => String::new(),
        };
        Err(self.fail(format!("the registry answered {} for {what}, expected {status}{hint}", answer.status)))
    }

    /// As whom it was asked, and what else could be done.
    fn whose(&self) -> String {
        match &self.credentials {
            Some(user) => format!("it was asked as {}", user.username),
            None => {
                let registry = &self.reference.registry;
                format!("it was asked as nobody; log in with `docker login {registry}`, or name --username and --password-env")
            }
        }
    }
}

fn content_type(name: &'static str) -> HeaderMap {
    [(CONTENT_TYPE, reqwest::header::HeaderValue::from_static(name))].into_iter().collect()
}

/// A parameter of a challenge, e.g. `realm` of `realm="https://a/token",service="a, b"`.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_start_matches([',', ' ']).trim_end();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.into());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn challenges_are_read_whatever_their_order_and_quotes() {
        let text = r#"realm="https://a.example/token?x=1,2", service=plain,scope="repository:a/b:pull,push""#;
        assert_eq!(parameter(text, "realm").as_deref(), Some("https://a.example/token?x=1,2"));
        assert_eq!(parameter(text, "Service").as_deref(), Some("plain"));
        assert_eq!(parameter(text, "scope").as_deref(), Some("repository:a/b:pull,push"));
        for (text, name) in [(text, "error"), ("", "realm"), ("realm=\"open", "realm"), ("realm", "realm")] {
            assert_eq!(parameter(text, name), None, "{text}");
        }
    }
}

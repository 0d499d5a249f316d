//! A repository of an OCI registry, as `oci-client` reaches it; what goes wrong is told in this crate's words.

use super::credentials::Credentials;
use super::fetch::{CONNECT, READ, USER_AGENT, WHOLE, told};
use super::source::Reference;
use crate::lock::pinned;
use crate::net::install_tls;
use crate::{PluginError, Result};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, StatusCode};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as Failure, OciErrorCode};
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use serde_json::Value;
use std::future::Future;

/// Most characters of what a registry says in its own words.
const MOST_WORDS: usize = 200;

/// A repository of a registry, asked as somebody or as nobody.
pub(super) struct Repository<'a> {
    reference: &'a Reference,
    image: oci_client::Reference,
    client: Client,
    auth: RegistryAuth,
    username: Option<String>,
}

impl<'a> Repository<'a> {
    /// Logs in for all of `operations`.
    ///
    /// # Errors
    /// When the registry cannot be reached, or does not let in whom it is asked as.
    pub async fn open(reference: &'a Reference, credentials: Option<Credentials>, operations: &[RegistryOperation]) -> Result<Self> {
        install_tls();
        let config = ClientConfig {
            // As with other clients, a registry on this machine is asked without encryption.
            protocol: if reference.is_local() { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            user_agent: USER_AGENT,
            // Most registries take a blob in one piece, not all take it in chunks.
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| PluginError::Other(format!("cannot start the network: {error}")))?;
        let Reference { registry, repository, .. } = reference.clone();
        let image = match &reference.digest {
            Some(digest) => oci_client::Reference::with_digest(registry, repository, digest.clone()),
            None => oci_client::Reference::with_tag(registry, repository, reference.tag().into()),
        };
        let username = credentials.as_ref().map(|user| user.username.clone());
        let auth = credentials.map_or(RegistryAuth::Anonymous, |user| RegistryAuth::Basic(user.username, user.password));
        let repository = Repository { reference, image, client, auth, username };
        for operation in operations {
            let token = repository.client.auth(&repository.image, &repository.auth, *operation).await;
            let token = token.map_err(|error| repository.explain("a token", error))?;
            // The client would not bear it.
            if token.is_some_and(|token| HeaderValue::from_str(&token).is_err()) {
                return Err(repository.fail("the registry's token does not fit into a header".into()));
            }
        }
        Ok(repository)
    }

    /// The artifact's manifest with its digest, which is the reference's where that has one.
    ///
    /// # Errors
    /// When it cannot be had, or is another than the reference's digest says.
    pub async fn manifest(&self) -> Result<(Value, String)> {
        let raw = self.client.pull_manifest_raw(&self.image, &self.auth, &[OCI_IMAGE_MEDIA_TYPE]).await;
        let (body, digest) = raw.map_err(|error| self.explain("its manifest", error))?;
        let manifest = serde_json::from_slice(&body).map_err(|error| self.fail(format!("its manifest is not JSON: {error}")))?;
        Ok((manifest, digest))
    }

    /// A blob of at most `most` bytes.
    ///
    /// # Errors
    /// When it cannot be had, is larger, or is another.
    pub async fn blob(&self, digest: &str, most: u64) -> Result<Vec<u8>> {
        let mut stream = self.client.pull_blob_stream(&self.image, digest).await.map_err(|error| self.explain(digest, error))?;
        let mut blob = Vec::new();
        while let Some(chunk) = stream.next().await {
            blob.extend_from_slice(&chunk.map_err(|error| self.explain(digest, error.into()))?);
            if blob.len() as u64 > most {
                return Err(self.fail(format!("{digest} has more than {most} bytes; expected at most {most}")));
            }
        }
        Ok(blob)
    }

    /// Sends a blob, unless the repository has it.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_blob(&self, content: &[u8]) -> Result<()> {
        let digest = pinned(content);
        // Of a repository that is not there yet, registries say different things.
        if self.client.blob_exists(&self.image, &digest).await.unwrap_or(false) {
            return Ok(());
        }
        let whole = stream::iter([Ok(Bytes::copy_from_slice(content))]);
        let sent = self.client.push_blob_stream(&self.image, whole, &digest, Some(content.len() as u64)).await;
        sent.map(drop).map_err(|error| self.explain("a file", error))
    }

    /// Digest of the artifact that the reference's tag names, if there is one.
    pub async fn tagged(&self) -> Option<String> {
        self.client.fetch_manifest_digest(&self.image, &self.auth).await.ok()
    }

    /// Sends the artifact's manifest and gives it the reference's tag.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_manifest(&self, content: &[u8]) -> Result<()> {
        let kind = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        let sent = self.client.push_manifest_raw(&self.image, content.to_vec(), kind).await;
        sent.map(drop).map_err(|error| self.explain("the artifact", error))
    }

    fn fail(&self, message: String) -> PluginError {
        PluginError::Fetch { origin: self.reference.to_string(), message }
    }

    /// What went wrong, without the addresses that it was at, which may hold a signature or a token.
    fn explain(&self, what: &str, error: Failure) -> PluginError {
        let status = |code: u16| StatusCode::from_u16(code).map_or(code.to_string(), |status| status.to_string());
        let message = match error {
            Failure::UnauthorizedError { .. } => format!("the registry answered {} for {what}; {}", status(401), self.whose()),
            Failure::ServerError { code: code @ (401 | 403), .. } => {
                format!("the registry answered {} for {what}; {}", status(code), self.whose())
            }
            Failure::ServerError { code, .. } => format!("the registry answered {} for {what}", status(code)),
            Failure::RegistryError { envelope, .. } => {
                let denied = envelope.errors.iter().any(|error| matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied));
                let words: Vec<_> = envelope.errors.into_iter().map(|error| error.message).collect();
                let hint = if denied { format!("; {}", self.whose()) } else { String::new() };
                format!("the registry refuses {what}: {}{hint}", plain(&words.join("; ")))
            }
            Failure::AuthenticationFailure(_) => format!("the registry gives no token; {}", self.whose()),
            Failure::RequestError(error) => format!("{what}: {}", told(error)),
            other => format!("{what}: {}", plain(&other.to_string())),
        };
        self.fail(message)
    }

    /// As whom it was asked, and what else could be done.
    fn whose(&self) -> String {
        match &self.username {
            Some(username) => format!("it was asked as {username}"),
            None => {
                let registry = &self.reference.registry;
                format!("it was asked as nobody; log in with `docker login {registry}`, or name --username and --password-env")
            }
        }
    }
}

/// The beginning of what a registry says, without control characters.
fn plain(words: &str) -> String {
    words.chars().take(MOST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Ends work that a registry draws out: its answers are read whole, and only blobs have a bound of their own.
///
/// # Errors
/// Of the work, or when it takes longer than [`WHOLE`].
pub(super) async fn in_time<T>(reference: &Reference, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(WHOLE, work).await.unwrap_or_else(|_| {
        let message = format!("it took more than {} s; expected less", WHOLE.as_secs());
        Err(PluginError::Fetch { origin: reference.to_string(), message })
    })
}

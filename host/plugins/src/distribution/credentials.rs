//! Who a registry is asked as: named on the command line, or as `docker login` left it.

use super::source::Reference;
use crate::{PluginError, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or token. It is sent to the registry and to the server of tokens that it names, and is shown nowhere.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// What `docker login` left for a registry: `auths` in `$DOCKER_CONFIG/config.json`, or in `~/.docker/config.json`. Credential helpers
    /// are not asked.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn of_docker(reference: &Reference) -> Result<Option<Self>> {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let Some(folder) = folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker"))) else { return Ok(None) };
        let file = folder.join("config.json");
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| PluginError::File { file: file.clone(), message: format!("cannot read it: {error}") })?,
        };
        // serde's messages would quote what stands there.
        let config: Value = serde_json::from_slice(&text)
            .map_err(|error| PluginError::File { file: file.clone(), message: format!("no JSON at line {}", error.line()) })?;
        let entry = config["auths"].as_object().into_iter().flatten().find(|(name, _)| host(name) == hub(&reference.registry));
        let Some(auth) = entry.and_then(|(_, entry)| entry["auth"].as_str()) else { return Ok(None) };
        let decoded = BASE64.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((username, password)) => Ok(Some(Credentials { username: username.into(), password: password.into() })),
            None => Err(PluginError::File {
                file,
                message: format!("`auth` of {} is not USER:PASSWORD in base64; log in to it again", reference.registry),
            }),
        }
    }
}

/// The host of an entry, which may be written as a URL.
fn host(entry: &str) -> &str {
    let entry = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).unwrap_or(entry);
    entry.split('/').next().unwrap_or(entry)
}

/// The name by which `docker login` keeps a registry.
fn hub(registry: &str) -> &str {
    if registry == "docker.io" { "index.docker.io" } else { registry }
}

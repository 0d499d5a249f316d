//! Plugins as OCI artifacts, in the layout that Wasm artifacts have: a component as `application/wasm` under a Wasm configuration. The
//! plugin's manifest and its signature are further layers. The same plugin always gives the same artifact.

use super::credentials::Credentials;
use super::registry::{Repository, in_time};
use super::source::{Reference, is_digest};
use crate::lock::{digest, pinned};
use crate::manifest::MANIFEST;
use crate::package::{MAX_COMPONENT, MAX_MANIFEST, MAX_SIGNATURE, Package, unfit};
use crate::{PluginError, Result};
use oci_client::RegistryOperation::{Pull, Push};
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Media type of the configuration of Wasm artifacts.
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Media type of components.
const WASM: &str = "application/wasm";
/// Media type of a plugin's manifest.
const PLUGIN_TOML: &str = "application/vnd.mmhost.plugin.manifest.v1+toml";
/// Media type of minisign signatures.
const MINISIG: &str = "application/vnd.mmhost.plugin.signature.v1.minisig";
/// The name of a layer's file, for clients that know nothing of plugins.
const TITLE: &str = "org.opencontainers.image.title";

/// What was published.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Published {
    /// Plugin.
    pub plugin: String,
    /// The artifact by its digest, `oci://REGISTRY/REPOSITORY@sha256:HEX`.
    pub artifact: String,
    /// Digest of the component, hex SHA-256.
    pub digest: String,
    /// Whether a signature is part of it.
    pub signed: bool,
    /// Another artifact that the tag named before.
    pub moved: Option<String>,
}

/// Sends the plugin in `folder` to a registry.
///
/// # Errors
/// When the folder holds no plugin, its signature is of another manifest, or the registry does not take it.
pub async fn publish(folder: &Path, reference: &Reference, credentials: Option<Credentials>) -> Result<Published> {
    let package = Package::read(folder)?;
    package.check_signature()?;
    let (manifest, config) = artifact(&package)?;
    let before = in_time(reference, async {
        let repository = Repository::open(reference, credentials, &[Push, Pull]).await?;
        let before = repository.tagged().await;
        for (_, content) in package.files() {
            repository.push_blob(content).await?;
        }
        repository.push_blob(&config).await?;
        repository.push_manifest(&manifest).await.map(|()| before)
    })
    .await?;
    let digest_of_artifact = pinned(&manifest);
    Ok(Published {
        plugin: package.manifest.name.clone(),
        artifact: reference.pinned(&digest_of_artifact).to_string(),
        moved: before.filter(|before| *before != digest_of_artifact).map(|before| reference.pinned(&before).to_string()),
        digest: digest(&package.component),
        signed: package.signature.is_some(),
    })
}

/// Fetches the plugin of an artifact, with the digest of the artifact.
///
/// # Errors
/// When it cannot be had, or is no plugin.
pub(super) async fn pull(reference: &Reference, credentials: Option<Credentials>) -> Result<(Package, String)> {
    in_time(reference, fetch(reference, credentials)).await
}

async fn fetch(reference: &Reference, credentials: Option<Credentials>) -> Result<(Package, String)> {
    let origin = PathBuf::from(reference.to_string());
    let repository = Repository::open(reference, credentials, &[Pull]).await?;
    let (manifest, digest) = repository.manifest().await?;
    let kind = manifest["config"]["mediaType"].as_str().unwrap_or("none");
    if kind != WASM_CONFIG {
        return Err(unfit(&origin, "the artifact's config", format!("the media type {kind:?}"), format!("`{WASM_CONFIG}`")));
    }
    let text = layer(&origin, &manifest, PLUGIN_TOML, MAX_MANIFEST)?;
    let component = layer(&origin, &manifest, WASM, MAX_COMPONENT)?;
    let signature = layer(&origin, &manifest, MINISIG, MAX_SIGNATURE)?;
    let absent =
        |what: &str| unfit(&origin, "the artifact", format!("no layer `{what}`"), "a plugin that `mmhost plugin publish` sent".into());
    let (text, text_size) = text.ok_or_else(|| absent(PLUGIN_TOML))?;
    let (component, component_size) = component.ok_or_else(|| absent(WASM))?;
    let text = repository.blob(&text, text_size).await?;
    let component = repository.blob(&component, component_size).await?;
    let signature = match signature {
        Some((digest, size)) => Some(repository.blob(&digest, size).await?),
        None => None,
    };
    Ok((Package::assemble(&origin, text, |_| Ok(component), |_| Ok(signature))?, digest))
}

/// Digest and size of the only layer of a media type, if there is one.
fn layer(origin: &Path, manifest: &Value, kind: &str, most: u64) -> Result<Option<(String, u64)>> {
    let layers = manifest["layers"].as_array().into_iter().flatten().filter(|layer| layer["mediaType"] == kind).collect::<Vec<_>>();
    let only = match layers[..] {
        [] => return Ok(None),
        [only] => only,
        _ => return Err(unfit(origin, "the artifact", format!("{} layers `{kind}`", layers.len()), "one".into())),
    };
    let digest = only["digest"].as_str().filter(|digest| is_digest(digest));
    let digest =
        digest.ok_or_else(|| unfit(origin, &format!("the digest of layer `{kind}`"), only["digest"].to_string(), "sha256:HEX".into()))?;
    match only["size"].as_u64().filter(|size| *size <= most) {
        Some(size) => Ok(Some((digest.into(), size))),
        None => Err(unfit(origin, &format!("the size of layer `{kind}`"), only["size"].to_string(), format!("at most {most}"))),
    }
}

/// The manifest and the configuration of a plugin's artifact.
fn artifact(package: &Package) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut files = package.files();
    // The component comes first, where readers of Wasm artifacts look for it.
    files.sort_by_key(|(name, _)| (name == MANIFEST, name.ends_with(".minisig")));
    let kind = |name: &str| match name {
        MANIFEST => PLUGIN_TOML,
        name if name.ends_with(".minisig") => MINISIG,
        _ => WASM,
    };
    let layers = files.iter().map(|(name, content)| descriptor(kind(name), content, name)).collect::<Vec<_>>();
    let manifest = &package.manifest;
    let config = json!({
        // Required; the beginning of time, so that the same plugin gives the same artifact.
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": layers.iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>(),
        "component": { "exports": package.surface.exports, "imports": package.surface.imports },
    });
    let config = to_bytes(&config)?;
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MEDIA_TYPE,
        "config": { "mediaType": WASM_CONFIG, "digest": pinned(&config), "size": config.len() },
        "layers": layers,
        "annotations": {
            TITLE: manifest.name,
            "org.opencontainers.image.version": manifest.version,
            "org.opencontainers.image.description": manifest.description,
        },
    });
    Ok((to_bytes(&artifact)?, config))
}

fn descriptor(kind: &str, content: &[u8], name: &str) -> Value {
    json!({ "mediaType": kind, "digest": pinned(content), "size": content.len(), "annotations": { TITLE: name } })
}

fn to_bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| PluginError::Other(format!("cannot write an artifact as JSON: {error}")))
}

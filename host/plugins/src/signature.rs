//! Signatures of plugins: minisign's, detached, beside the component.
//!
//! `NAME.wasm.minisig` signs the component; its trusted comment, which the signature covers too, holds the word
//! `plugin.toml:sha256:HEX`, so that the manifest cannot be changed either. Any minisign can make and check such a file.

use crate::lock::{digest, pinned};
use crate::package::Package;
use crate::{PluginError, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minisign_verify::{Error, Signature};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Environment variable with the password of a secret key.
pub const KEY_PASSWORD: &str = "MMHOST_KEY_PASSWORD";
/// What begins the word of the trusted comment that names the manifest's digest.
const MANIFEST_WORD: &str = "plugin.toml:";
/// How a key written out begins: minisign's marker of Ed25519 in base64.
const KEY_START: &str = "RW";

/// A minisign public key, written as 56 characters of base64 that begin with `RW`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    key: minisign_verify::PublicKey,
    text: String,
}

impl PublicKey {
    /// The key that `text` is, or the one in the file that it names, as `minisign -G` writes it.
    ///
    /// # Errors
    /// When it is neither.
    pub fn named(text: &str) -> std::result::Result<Self, String> {
        if !Path::new(text).is_file() {
            return text.parse();
        }
        let content = std::fs::read_to_string(text).map_err(|error| format!("cannot read {text}: {error}"))?;
        let line = content.lines().find(|line| line.trim().starts_with(KEY_START));
        line.unwrap_or_default().parse().map_err(|error| format!("{text}: {error}"))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim().to_owned();
        match minisign_verify::PublicKey::from_base64(&text) {
            Ok(key) => Ok(PublicKey { key, text }),
            Err(_) => Err(format!(
                "found {text:?}, expected a minisign public key: 56 characters that begin with `{KEY_START}`, the second line of minisign.pub"
            )),
        }
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.text
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Path of the signature of a component: `.minisig` appended.
pub fn signature_path(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// What a signature must hold for.
pub(crate) struct Signed<'a> {
    /// What messages call the signature.
    pub file: &'a Path,
    /// The signature file's text, if there is one.
    pub signature: Option<&'a str>,
    /// The component's bytes.
    pub component: &'a [u8],
    /// The manifest's text.
    pub manifest: &'a str,
}

impl Signed<'_> {
    /// The first of `keys` that signed the component and the manifest as they are.
    ///
    /// # Errors
    /// [`PluginError::Signature`] when there is no signature, it is none, none of the keys made it, or it was made for something else.
    pub fn check<'k>(&self, keys: &'k [PublicKey]) -> Result<&'k PublicKey> {
        let fail = |found: String, expected: String| Err(PluginError::Signature { file: self.file.into(), found, expected });
        let wanted = || format!("a signature by {}", keys.iter().map(PublicKey::to_string).collect::<Vec<_>>().join(" or "));
        let Some(text) = self.signature else { return fail("no such file".into(), wanted()) };
        let signature = self.decode(text, wanted)?;
        let mut found = "a signature by another key".to_string();
        for key in keys {
            match key.key.verify(self.component, &signature, false) {
                Ok(()) => {
                    self.check_manifest(signature.trusted_comment())?;
                    return Ok(key);
                }
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm) => found = "a signature of the old form, which minisign makes with -l".into(),
                Err(_) => {
                    found = format!(
                        "a signature in the name of {key} that does not fit the component of sha256:{}; either was changed after signing",
                        digest(self.component)
                    );
                }
            }
        }
        fail(found, wanted())
    }

    /// Whether the signature, if there is one, can be right: nobody's key is at hand, but what it says of the manifest can be read.
    ///
    /// # Errors
    /// [`PluginError::Signature`] when it is none, or was made beside another manifest.
    pub fn check_form(&self) -> Result<()> {
        let Some(text) = self.signature else { return Ok(()) };
        let signature = self.decode(text, || "a signature as `mmhost plugin sign` makes it".into())?;
        self.check_manifest(signature.trusted_comment())
    }

    fn decode(&self, text: &str, expected: impl Fn() -> String) -> Result<Signature> {
        let none = |_| PluginError::Signature { file: self.file.into(), found: "no minisign signature".into(), expected: expected() };
        Signature::decode(text).map_err(none)
    }

    fn check_manifest(&self, comment: &str) -> Result<()> {
        let found: Vec<&str> = comment.split_whitespace().filter_map(|word| word.strip_prefix(MANIFEST_WORD)).collect();
        let expected = pinned(self.manifest.as_bytes());
        if found == [expected.as_str()] {
            return Ok(());
        }
        let found = match found[..] {
            [] => format!("a signature of the component alone: its trusted comment has no word `{MANIFEST_WORD}sha256:…`"),
            [other] => format!("a signature made beside a plugin.toml of {other}; the manifest was changed after signing"),
            _ => format!("a signature whose trusted comment has several words `{MANIFEST_WORD}…`"),
        };
        Err(PluginError::Signature { file: self.file.into(), found, expected: format!("`{MANIFEST_WORD}{expected}`, as the manifest is") })
    }
}

/// Signs the plugin in `folder` with the minisign secret key in `key_file` and returns the signature's path and the public key.
/// `password` is that of the key; a key that has none needs none.
///
/// # Errors
/// When the folder holds no plugin, the key cannot be read or opened, or the signature cannot be written.
pub fn sign(folder: &Path, key_file: &Path, password: Option<String>) -> Result<(PathBuf, PublicKey)> {
    let package = Package::read(folder)?;
    let fail = |message: String| PluginError::File { file: key_file.into(), message };
    let text = std::fs::read_to_string(key_file).map_err(|error| fail(format!("cannot read the key: {error}")))?;
    let key = secret_key(&text, password).map_err(|error| fail(format!("cannot open the key: {error}")))?;
    let public = minisign::PublicKey::from_secret_key(&key).map_err(|error| fail(format!("no minisign secret key: {error}")))?;
    let manifest = &package.manifest;
    let comment =
        format!("mmhost plugin {} {}\t{MANIFEST_WORD}{}", manifest.name, manifest.version, pinned(package.manifest_text.as_bytes()));
    let signature = minisign::sign(Some(&public), &key, &package.component[..], Some(&comment), Some("signature of an mmhost plugin"))
        .map_err(|error| fail(format!("cannot sign with it: {error}")))?;
    let path = signature_path(&manifest.component_path(folder));
    crate::lock::write_atomically(&path, signature.into_string().as_bytes())?;
    let public = public.to_base64().parse().map_err(PluginError::Other)?;
    Ok((path, public))
}

/// The secret key in a key file's text.
fn secret_key(text: &str, password: Option<String>) -> std::result::Result<minisign::SecretKey, String> {
    let none = |error: String| format!("it is no minisign secret key: {error}");
    let bytes = BASE64.decode(text.lines().nth(1).unwrap_or_default().trim()).map_err(|error| none(error.to_string()))?;
    let key = minisign::SecretKey::from_bytes(&bytes).map_err(|error| none(error.to_string()))?;
    // The library's way to open a key without a password asks for a checksum, which `minisign -G -W` leaves out.
    if !key.is_encrypted() {
        return Ok(key);
    }
    let password = password.ok_or_else(|| format!("it has a password; set the environment variable {KEY_PASSWORD} to it"))?;
    let boxed = minisign::SecretKeyBox::from_string(text).map_err(|error| none(error.to_string()))?;
    boxed.into_secret_key(Some(password)).map_err(|error| error.to_string())
}

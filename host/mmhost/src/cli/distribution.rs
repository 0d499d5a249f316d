//! Arguments of `mmhost plugin add`, `sign` and `publish`.

use std::path::PathBuf;

use clap::Args;
use mmhost_plugins::distribution::{Reference, Source};
use mmhost_plugins::signature::PublicKey;

#[derive(Debug, Args)]
pub struct AddArgs {
    /// A folder, FILE.tar.gz, https://… or oci://…
    #[arg(value_name = "SOURCE")]
    pub source: Source,
    /// Folder of plugins to add it to
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub plugins: PathBuf,
    /// SHA-256 that must be found: of the archive, of the artifact of a registry, or of a folder's component
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Public key, or file of one, that must have signed it; repeated, one of several [default: that of the plugin to be replaced]
    #[arg(long = "key", value_name = "PUBKEY", value_parser = PublicKey::named)]
    pub keys: Vec<PublicKey>,
    /// Put it in the place of the plugin of that name; one with sources is not replaced
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct SignArgs {
    /// The plugin's folder
    #[arg(value_name = "DIR")]
    pub plugin: PathBuf,
    /// Secret key, as `minisign -G` writes it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The plugin's folder
    #[arg(value_name = "DIR")]
    pub plugin: PathBuf,
    /// Where to: oci://REGISTRY/REPOSITORY:TAG
    #[arg(value_name = "REFERENCE", value_parser = tagged)]
    pub reference: Reference,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Who a registry is asked as.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// User of the registry [default: as `docker login` left it]
    #[arg(long, value_name = "NAME", requires = "password_env")]
    pub username: Option<String>,
    /// Environment variable that holds the user's password or token
    #[arg(long, value_name = "VARIABLE", requires = "username")]
    pub password_env: Option<String>,
}

fn sha256(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(hex.to_lowercase()),
        false => Err("expected 64 hexadecimal digits".into()),
    }
}

fn tagged(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse()?;
    match reference.tag.is_some() && reference.digest.is_none() {
        true => Ok(reference),
        false => Err("expected a tag, oci://REGISTRY/REPOSITORY:TAG; the digest comes of what is published".into()),
    }
}

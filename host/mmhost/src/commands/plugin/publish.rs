//! `mmhost plugin publish` and `mmhost plugin sign`.

use mmhost_plugins::distribution::publish;
use mmhost_plugins::signature;

use super::add::credentials;
use crate::cli::{PublishArgs, SignArgs};
use crate::failure::{Blame, Outcome};

/// Sends the plugin to the registry and prints the artifact by its digest.
pub async fn run(args: PublishArgs) -> Outcome<()> {
    let doing = format!("cannot publish {}", args.plugin.display());
    let credentials = credentials(args.registry, &args.reference)?;
    let published = publish(&args.plugin, &args.reference, credentials).await.input(doing)?;
    println!("{} is published, {}", published.plugin, if published.signed { "with its signature" } else { "unsigned" });
    println!("component  sha256:{}", published.digest);
    println!("artifact   {}", published.artifact);
    if let Some(moved) = published.moved {
        println!("the tag    named {moved} before");
    }
    Ok(())
}

/// Signs the plugin and says by whom.
pub fn sign(args: &SignArgs) -> Outcome<()> {
    let password = std::env::var(signature::KEY_PASSWORD).ok();
    let doing = format!("cannot sign {}", args.plugin.display());
    let (file, key) = signature::sign(&args.plugin, &args.key, password).input(doing)?;
    println!("{} is written", file.display());
    println!("signed by  {key}");
    Ok(())
}

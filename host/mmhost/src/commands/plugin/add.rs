//! `mmhost plugin add`.

use mmhost_plugins::distribution::{AddOptions, Added, Credentials, Reference, Source, add};
use mmhost_plugins::{Kind, lines_to_add};

use crate::cli::{AddArgs, RegistryArgs};
use crate::failure::{Blame, Outcome, bad_input};

/// Adds the plugin and says what it asks for.
pub async fn run(args: AddArgs) -> Outcome<()> {
    let credentials = match &args.source {
        Source::Registry(reference) => credentials(args.registry, reference)?,
        Source::Path(_) | Source::Web(_) => None,
    };
    let options = AddOptions { sha256: args.sha256, replace: args.replace, keys: args.keys, credentials };
    print(&add(&args.source, &args.plugins, options).await.input("cannot add the plugin")?);
    Ok(())
}

/// Who the registry is asked as.
pub fn credentials(args: RegistryArgs, reference: &Reference) -> Outcome<Option<Credentials>> {
    let (Some(username), Some(variable)) = (args.username, args.password_env) else {
        return Credentials::of_docker(reference).input("cannot read the credentials of `docker login`");
    };
    match std::env::var(&variable) {
        Ok(password) if !password.is_empty() => Ok(Some(Credentials { username, password })),
        _ => {
            Err(bad_input(format!("--password-env: the environment variable {variable} is not set; set it to the password of {username}")))
        }
    }
}

fn print(added: &Added) {
    let manifest = &added.manifest;
    println!("{} {}, a {}, is in {}", manifest.name, manifest.version, manifest.kind, added.folder.display());
    println!("component  {}", added.pin.component);
    if let Some(source) = &added.pin.source {
        println!("source     {source}");
    }
    match &added.pin.signed_by {
        Some(key) => println!("signed by  {key}"),
        None if added.unchecked_signature => println!("signed by  whoever made its signature, which was not checked; --key checks it"),
        None => println!("signed by  nobody"),
    }
    let asks = manifest.ask.words();
    println!("asks for   {}", if asks.is_empty() { "nothing".to_string() } else { asks.join(", ") });
    let (name, list) = (&manifest.name, manifest.kind);
    let list = match list {
        Kind::SearchTool => format!("tools = [\"{name}\"]"),
        Kind::Reward => format!("reward = \"{name}\""),
        Kind::DatasetFilter => format!("filters = [\"{name}\"]"),
    };
    println!("A run uses it that names it under [plugins], as in {list}.");
    let lines = lines_to_add(manifest);
    if !lines.is_empty() {
        println!("Nothing was granted. What it asks for is granted by these lines in the run's configuration:\n\n{}", lines.trim_end());
    }
}

//! `mmhost plugin call`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use mmhost_plugins::PluginHost;
use mmhost_plugins::call::{Function, Subject};
use mmhost_plugins::manifest::Manifest;
use serde_json::{Value, json};

use crate::cli::{CallArgs, FunctionArg};
use crate::config::Config;
use crate::corpora::Corpora;
use crate::failure::{Blame, Outcome};
use crate::local_models::ModelFolders;
use crate::session::{cache_dir, host_options, world_and_corpora};

/// Calls once and prints the answer and its cost as JSON.
pub async fn run(args: CallArgs) -> Outcome<()> {
    let function = match args.function {
        FunctionArg::Describe => Function::Describe,
        FunctionArg::Call => Function::Call,
        FunctionArg::Score => Function::Score,
        FunctionArg::Filter => Function::Filter,
    };
    let input = args.input.as_deref().map_or(Ok(Value::Null), read)?;
    let doing = format!("cannot call {}", args.plugin.display());
    let manifest = Manifest::read(&args.plugin).input(&doing)?;
    let mut config = Config::load(args.config.as_deref())?;
    if args.config.is_none() {
        // The built-in run has wishes of its own; the manifest's defaults are what an author expects.
        config.plugins.config.clear();
    }
    // Indexing a world takes its time, so only for those who search.
    let corpora = if manifest.ask.corpora.is_empty() { Corpora::default() } else { world_and_corpora(&config)?.1 };
    let options = host_options(&config, &cache_dir(args.cache.cache)?, corpora)?;
    let host = PluginHost::metered(options).internal("cannot start the plugin runtime")?;
    let host = match args.config {
        Some(_) => host.with_grants(config.plugins.grants.clone()).with_local_models(Arc::new(ModelFolders::default())),
        // Without a run there are no grants to hold the plugin to, and nothing to reach.
        None => host.offline(),
    };
    let plugin = Subject::only(host.load_dir(&args.plugin).input(&doing)?, &args.plugin).input(&doing)?;
    let base = args.input.as_deref().filter(|path| *path != Path::new("-")).and_then(Path::parent).unwrap_or(Path::new(""));
    let (result, cost) = plugin.run(function, &input, base).await.input(&doing)?;
    let answer = json!({"result": result, "cost": cost});
    println!("{}", serde_json::to_string_pretty(&answer).internal("cannot write the answer as JSON")?);
    Ok(())
}

/// Reads JSON from a file, or from standard input for `-`.
fn read(path: &Path) -> Outcome<Value> {
    let text = match path == Path::new("-") {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => std::fs::read_to_string(path),
    };
    let text = text.input(format!("cannot read the input {}", path.display()))?;
    let value: Value = serde_json::from_str(&text).input(format!("the input {} is not JSON", path.display()))?;
    // One of the plugin's tests will do.
    Ok(match value.get("expect").and(value.get("input")) {
        Some(input) => input.clone(),
        None => value,
    })
}

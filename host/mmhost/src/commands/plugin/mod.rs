//! `mmhost plugin`: make, build, check, try, measure, list and inspect plugins; sign, publish and add them.

mod add;
mod bench;
mod call;
mod check;
mod new;
mod publish;

use std::path::Path;

use mmhost_plugins::build::{BuildOptions, Outcome as BuildOutcome, build};
use mmhost_plugins::inspect::{Inspection, Permissions, Row, inspect, list, permissions};

use crate::cli::PluginCommand;
use crate::config::Config;
use crate::failure::{Blame, Outcome, bad_input};
use crate::ui::Ui;

/// Runs the command.
pub async fn run(command: PluginCommand, ui: &Ui) -> Outcome<()> {
    match command {
        PluginCommand::New { name, kind, lang, plugins } => new::run(&name, kind, lang, &plugins),
        PluginCommand::Check(args) => check::run(args).await,
        PluginCommand::Call(args) => call::run(args).await,
        PluginCommand::Bench { plugin, json } => bench::run(&plugin, json).await,
        PluginCommand::Build { plugins, check } => run_build(&plugins, check, ui),
        PluginCommand::Add(args) => add::run(args).await,
        PluginCommand::Sign(args) => publish::sign(&args),
        PluginCommand::Publish(args) => publish::run(args).await,
        PluginCommand::List { plugins, config: Some(config) } => {
            let config = Config::load(Some(&config))?;
            let rows = permissions(&plugins, &config.plugins.grants).input(format!("cannot list the plugins of {}", plugins.display()))?;
            let used: Vec<&String> = config.plugins.tools.iter().chain(&config.plugins.filters).chain([&config.plugins.reward]).collect();
            print_permissions(&rows, &used);
            let refused: Vec<&str> =
                rows.iter().filter(|row| row.refused.is_some() && used.contains(&&row.name)).map(|row| row.name.as_str()).collect();
            if refused.is_empty() { Ok(()) } else { Err(bad_input(format!("the run would not start: it uses {}", refused.join(", ")))) }
        }
        PluginCommand::List { plugins, config: None } => {
            let rows = list(&plugins).input(format!("cannot list the plugins of {}", plugins.display()))?;
            print_rows(&rows);
            let broken = rows.iter().filter(|row| row.problem.is_some()).count();
            if broken > 0 { Err(bad_input(format!("{broken} of {} plugins would not load", rows.len()))) } else { Ok(()) }
        }
        PluginCommand::Inspect { plugin } => {
            print_inspection(&inspect(&plugin).input(format!("cannot inspect {}", plugin.display()))?);
            Ok(())
        }
    }
}

fn run_build(plugins: &Path, check: bool, ui: &Ui) -> Outcome<()> {
    let built = build(plugins, BuildOptions { check }, |what| ui.say(format!("building {what}")));
    let built = built.input(format!("cannot build {}", plugins.display()))?;
    for plugin in &built {
        let outcome = match plugin.outcome {
            BuildOutcome::Unchanged => "unchanged",
            BuildOutcome::Updated => "updated and pinned",
            BuildOutcome::Differs => "differs from the component in the folder",
            BuildOutcome::OtherCompiler => "differs, but the component was made by another compiler",
        };
        println!("{:<18} {:>7} bytes  {}  {outcome}", plugin.plugin, plugin.num_bytes, short(&plugin.digest));
    }
    let differing: Vec<&str> = built.iter().filter(|b| b.outcome == BuildOutcome::Differs).map(|b| b.plugin.as_str()).collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(bad_input(format!("a rebuild gives other bytes for {}; run `mmhost plugin build {}`", differing.join(", "), plugins.display())))
}

fn print_rows(rows: &[Row]) {
    println!("{:<18} {:<15} {:<8} {:<9} {:>8}  {:<12}  asks", "name", "kind", "version", "contract", "bytes", "sha-256");
    for row in rows {
        if let Some(facts) = &row.facts {
            let digest = facts.digest.as_deref().map_or("missing", short);
            let bytes = facts.num_bytes.map_or("-".to_string(), |n| n.to_string());
            let asks = if facts.asks.is_empty() { "nothing".to_string() } else { facts.asks.join(", ") };
            println!(
                "{:<18} {:<15} {:<8} {:<9} {bytes:>8}  {digest:<12}  {asks}",
                row.name,
                facts.kind.to_string(),
                facts.version,
                facts.contract
            );
        }
        if let Some(problem) = &row.problem {
            println!("{:<18} would not load: {problem}", row.name);
        }
    }
}

fn print_permissions(rows: &[Permissions], used: &[&String]) {
    println!("{:<18} {:<5} {:<8} asks for", "name", "used", "granted");
    for row in rows {
        let used = if used.contains(&&row.name) { "yes" } else { "no" };
        let granted = if row.refused.is_none() { "yes" } else { "no" };
        let asks = if row.asks.is_empty() { "nothing".to_string() } else { row.asks.join(", ") };
        println!("{:<18} {used:<5} {granted:<8} {asks}", row.name);
        if !row.besides.is_empty() {
            println!("{:<33} besides: {}", "", row.besides.join(", "));
        }
        if let Some(refused) = &row.refused {
            println!("{:<33} {refused}", "");
        }
    }
}

fn print_inspection(i: &Inspection) {
    let line = |name: &str, value: &str| println!("{name:<12}{value}");
    let lines = |name: &str, values: &[String]| {
        if values.is_empty() {
            line(name, "none");
        }
        for (n, value) in values.iter().enumerate() {
            line(if n == 0 { name } else { "" }, value);
        }
    };
    line("name", &i.name);
    line("about", &i.facts.description);
    line("kind", &i.facts.kind.to_string());
    line("version", &i.facts.version);
    line("contract", &i.facts.contract);
    line("component", &format!("{} ({} bytes)", i.component.display(), i.facts.num_bytes.unwrap_or_default()));
    line("sha-256", i.facts.digest.as_deref().unwrap_or("missing"));
    line("source", i.source.as_deref().unwrap_or("not on record"));
    line("signed by", &i.signed_by.as_ref().map_or_else(|| "not on record".to_string(), ToString::to_string));
    line("compiler", i.compiler.as_deref().unwrap_or("not on record"));
    let sources = match i.sources_match {
        Some(true) => "the component was built from these sources",
        Some(false) => "changed since the component was built; run `mmhost plugin build`",
        None => "not on record",
    };
    line("sources", sources);
    lines("asks", &i.facts.asks);
    lines("imports", &i.imports);
    lines("exports", &i.exports);
    lines("limits", &i.limits.fields().map(|(name, value)| format!("{name} = {value}")));
    lines("config", &i.config.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>());
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

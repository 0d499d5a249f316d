//! `mmhost plugin check`.

use mmhost_plugins::check::{Finding, Report, check};

use crate::cli::CheckArgs;
use crate::config::Config;
use crate::failure::{Blame, Outcome, bad_input};
use crate::session::cache_dir;

/// Checks, prints the findings, and fails if one is an error.
pub async fn run(args: CheckArgs) -> Outcome<()> {
    let cache = cache_dir(args.cache.cache)?;
    let overrides = match &args.config {
        Some(path) => {
            let name = mmhost_plugins::manifest::Manifest::read(&args.plugin).map(|manifest| manifest.name).unwrap_or_default();
            let table = Config::load(Some(path))?.plugins.config.remove(&name);
            table.map(|table| serde_json::to_value(table).internal(format!("plugins.config.{name}"))).transpose()?
        }
        None => None,
    };
    let report = check(&args.plugin, cache.join("plugins"), overrides).await.internal("cannot check the plugin")?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).internal("cannot write the findings as JSON")?);
    } else {
        print(&report);
    }
    match report.num_errors() {
        0 => Ok(()),
        n => Err(bad_input(format!("{}: {n} errors", args.plugin.display()))),
    }
}

/// The first finding of each that say the same, and how many more there are.
fn grouped(findings: &[Finding]) -> Vec<(&Finding, usize)> {
    let mut groups: Vec<(&Finding, usize)> = Vec::new();
    for finding in findings {
        let same =
            |(first, _): &&mut (&Finding, usize)| (first.level, first.rule, &first.what) == (finding.level, finding.rule, &finding.what);
        match groups.iter_mut().find(same) {
            Some((_, more)) => *more += 1,
            None => groups.push((finding, 0)),
        }
    }
    groups
}

fn print(report: &Report) {
    for (finding, more) in grouped(&report.findings) {
        println!("{finding}");
        match more {
            0 => println!(),
            n => println!("   = also: {n} more inputs, with the same result\n"),
        }
    }
    let errors = report.num_errors();
    let kind = report.kind.map_or_else(|| "plugin".to_string(), |kind| kind.to_string());
    println!(
        "{kind} {}: {errors} errors, {} warnings in {} calls; at most {:.1} ms, {} KiB of memory, {} units of fuel in one",
        report.plugin,
        report.findings.len() - errors,
        report.num_calls,
        report.peak.elapsed_ms,
        report.peak.memory_bytes >> 10,
        report.peak.fuel.unwrap_or_default(),
    );
}

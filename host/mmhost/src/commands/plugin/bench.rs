//! `mmhost plugin bench`.

use std::path::Path;

use mmhost_plugins::bench::bench;

use crate::failure::{Blame, Outcome};

/// Measures and prints the figures.
pub async fn run(plugin: &Path, json: bool) -> Outcome<()> {
    let bench = bench(plugin).await.input(format!("cannot measure {}", plugin.display()))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&bench).internal("cannot write the figures as JSON")?);
        return Ok(());
    }
    println!("{} against {}; compiled in {:.0} ms", bench.plugin, bench.reference, bench.compile_ms);
    println!("{:<26} {:>10} {:>10} {:>13} {:>7} {:>7}", "", "median µs", "p95 µs", "reference µs", "ratio", "rounds");
    for row in &bench.rows {
        println!(
            "{:<26} {:>10.1} {:>10.1} {:>13.1} {:>7.2} {:>7}",
            row.what, row.median_us, row.p95_us, row.reference_us, row.ratio, row.rounds
        );
    }
    Ok(())
}

//! `mmhost schema`.

use crate::cli::SchemaArg;
use crate::config::Config;
use crate::failure::{Blame, Outcome};

/// Prints the schema.
pub fn run(file: SchemaArg) -> Outcome<()> {
    let schema = match file {
        SchemaArg::Plugin => mmhost_plugins::manifest::schema(),
        SchemaArg::Run => Config::schema(),
    };
    println!("{}", serde_json::to_string_pretty(&schema).internal("cannot write the schema as JSON")?);
    Ok(())
}

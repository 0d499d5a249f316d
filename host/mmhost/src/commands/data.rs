//! `mmhost data`: write the atlas, inspect data sets.

use mmhost_data::atlas::write;

use crate::cli::DataCommand;
use crate::config::Config;
use crate::failure::{Blame, Outcome};
use crate::session::atlas_world;

/// Runs the command.
pub fn run(command: DataCommand) -> Outcome<()> {
    match command {
        DataCommand::Atlas { out, config } => {
            let world = atlas_world(&Config::load(config.as_deref())?)?;
            let written = write(&world, &out).input(format!("cannot write the atlas to {}", out.display()))?;
            for (split, questions) in written {
                println!("{:<22} {questions:>5} questions", format!("{}.parquet", split.word()));
            }
            println!("{:<22} {:>5} documents", "corpus/", world.documents().len());
        }
        DataCommand::Inspect { file } => {
            let inspection = mmhost_data::inspect(&file).input(format!("cannot inspect {}", file.display()))?;
            print!("{inspection}");
        }
    }
    Ok(())
}

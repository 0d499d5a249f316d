//! One file per command.

mod data;
mod eval;
mod model;
mod plugin;
mod report;
mod run;
mod schema;
mod score;
mod train;
mod watch;

use crate::cli::{Cli, Command, PluginCommand};
use crate::failure::Outcome;
use crate::ui::Ui;

/// Runs a command.
pub async fn run(cli: Cli) -> Outcome<()> {
    let ui = Ui::new();
    let log = match &cli.command {
        Command::Plugin(PluginCommand::Call(_)) => "warn,plugin=info",
        // What plugins say to the nastiest inputs stands in the findings.
        Command::Plugin(PluginCommand::Check(_) | PluginCommand::Bench { .. }) => "warn,plugin=off",
        _ => "warn",
    };
    crate::log::start(&ui, log)?;
    match cli.command {
        Command::Train(args) => train::run(args, ui).await,
        Command::Eval(args) => eval::run(args, ui).await,
        Command::Score(args) => score::run(args, ui).await,
        Command::Report(args) => report::run(args, &ui),
        Command::Watch(args) => watch::run(args, &ui).await,
        Command::Run(command) => run::run(command),
        Command::Model(command) => model::run(command),
        Command::Plugin(command) => plugin::run(command, &ui).await,
        Command::Data(command) => data::run(command),
        Command::Schema { file } => schema::run(file),
    }
}

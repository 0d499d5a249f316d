//! `mmhost watch`: the page of a run, live.

use std::time::{SystemTime, UNIX_EPOCH};

use mmhost_report::ReportOptions;
use mmhost_watch::{Error, Watch};

use crate::cli::WatchArgs;
use crate::commands::report::blame;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Runs the command.
pub async fn run(args: WatchArgs, ui: &Ui) -> Outcome<()> {
    let made_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let watch = Watch::open(&args.run, args.port, ReportOptions::new(env!("CARGO_PKG_VERSION"), made_ms)).await.map_err(failure)?;
    ui.say(format!("watching {}; Ctrl-C ends it", args.run.display()));
    println!("http://{}/", watch.address());
    // Without a handler there is only the kill, which ends it as well.
    let end = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    watch.serve(end).await.map_err(failure)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Run(error) => blame(error),
        error @ Error::Listen { .. } => Failure::Input(error.into()),
        error => Failure::Internal(error.into()),
    }
}

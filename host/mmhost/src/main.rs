//! `mmhost`: trains, evaluates and serves vision-language models that decide for themselves when to search.
//!
//! One file per command under `commands/`; the rest is configuration and wiring.

mod base;
mod cli;
mod commands;
mod config;
mod corpora;
mod dev;
mod evaluate;
mod failure;
mod ledger_table;
mod local_models;
mod log;
mod run_dir;
mod sampler;
mod session;
mod step_metrics;
mod tool_clock;
mod ui;

use std::process::ExitCode;

use clap::Parser;

// Millions of short-lived buffers a minute pass between the kernels; the system allocator costs a sixth of the speed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Batches are shared over worker threads here; candle's own pool would only spin beside them.
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    quit_with_the_reader();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the asynchronous runtime: {error}");
            return ExitCode::from(failure::EXIT_INTERNAL);
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Ends the program without a word when whoever reads its results has gone, as `head` does.
fn quit_with_the_reader() {
    /// What shells report of a program that a broken pipe has ended.
    const BROKEN_PIPE: i32 = 128 + 13;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // `println!` leaves no other way to tell.
        let said = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(BROKEN_PIPE);
        }
        usual(info);
    }));
}

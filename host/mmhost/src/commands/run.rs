//! `mmhost run`: list, show, compare and remove runs.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use mmhost_plugins::ledger::Entry;
use mmhost_report::{Run, State, bytes_on_disk, run_description, runs_difference, runs_table, size};

use super::report::blame;
use crate::cli::RunCommand;
use crate::failure::{Blame, Failure, Outcome, bad_input};
use crate::ledger_table::{LEDGER, ledger_table};

/// Runs the command.
pub fn run(command: RunCommand) -> Outcome<()> {
    match command {
        RunCommand::List { runs } => {
            let runs = runs_in(&runs)?;
            if runs.is_empty() {
                println!("no runs");
            } else {
                println!("{}", runs_table(&runs));
            }
            Ok(())
        }
        RunCommand::Show { run } => {
            println!("{}", run_description(&Run::open(&run).map_err(blame)?));
            let ledger = run.join(LEDGER);
            if ledger.is_file() {
                let doing = || format!("cannot read {}", ledger.display());
                let entries: BTreeMap<String, Entry> = serde_json::from_slice(&fs::read(&ledger).input(doing())?).input(doing())?;
                println!("\n{}", ledger_table(&entries));
            }
            Ok(())
        }
        RunCommand::Diff { runs } => {
            let runs = runs.iter().map(|path| Run::open(path).map_err(blame)).collect::<Outcome<Vec<_>>>()?;
            println!("{}", runs_difference(&runs.iter().collect::<Vec<_>>()));
            Ok(())
        }
        RunCommand::Prune { named, runs, yes } => prune(&named, &runs, yes),
    }
}

/// The runs of a folder, oldest first. Links, such as `latest`, are left out: what they point to is there by its own name.
fn runs_in(folder: &Path) -> Outcome<Vec<Run>> {
    let entries = fs::read_dir(folder).input(format!("cannot list the runs of {}", folder.display()))?;
    let paths = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let mut runs: Vec<Run> = paths.filter_map(|path| Run::open(&path).ok()).collect();
    runs.sort_by(|a, b| (a.started_ms, &a.name).cmp(&(b.started_ms, &b.name)));
    Ok(runs)
}

fn prune(named: &[PathBuf], folder: &Path, yes: bool) -> Outcome<()> {
    let runs = if named.is_empty() {
        runs_in(folder)?.into_iter().filter(|run| run.state != State::Finished).collect()
    } else {
        named.iter().map(|path| Run::open(path).map_err(blame)).collect::<Outcome<Vec<_>>>()?
    };
    let (locked, runs): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.locked);
    for run in &locked {
        println!("stays: {} (a process is writing to it)", run.path.display());
    }
    if runs.is_empty() {
        println!("nothing to remove");
        return Ok(());
    }
    for run in &runs {
        println!("{}: {}, {}", run.path.display(), run.state.name(), size(bytes_on_disk(&run.path)));
    }
    if !yes && !agreed(runs.len())? {
        println!("nothing was removed");
        return Ok(());
    }
    let mut freed = 0;
    for run in &runs {
        freed += remove(run)?;
    }
    println!("{} freed", size(freed));
    Ok(())
}

fn agreed(num_runs: usize) -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("nothing was removed: there is no terminal to ask at; add --yes to remove without asking".into()));
    }
    print!("Remove {}? [y/N] ", if num_runs == 1 { "it" } else { "them" });
    std::io::stdout().flush().internal("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).internal("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Removes a run under its lock, so that none begins to write to it meanwhile. Tells the bytes freed.
fn remove(run: &Run) -> Outcome<u64> {
    let doing = || format!("cannot remove {}", run.path.display());
    // The directory itself, where the name given is a link to it.
    let path = run.path.canonicalize().input(doing())?;
    // A report shows whatever looks like a run; a folder that merely has an `episodes` or a `summary.json` may be anything.
    if !path.join("run.toml").is_file() && !path.join(".lock").is_file() {
        let found = run.path.display();
        return Err(bad_input(format!(
            "{found} stays: it has neither run.toml nor .lock, so `mmhost train` did not make it; remove it by hand if it is to go"
        )));
    }
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(".lock")).input(doing())?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(bad_input(format!("{} stays: a process has begun to write to it", run.path.display())));
        }
        Err(TryLockError::Error(error)) => return Err(error).input(doing()),
    }
    let freed = bytes_on_disk(&path);
    fs::remove_dir_all(&path).input(doing())?;
    // `latest` must not point to what is gone.
    if let Some(latest) = path.parent().map(|parent| parent.join("latest"))
        && latest.is_symlink()
        && !latest.exists()
    {
        fs::remove_file(&latest).input(format!("cannot remove the link {}", latest.display()))?;
    }
    Ok(freed)
}

//! `mmhost score`: another reward's word on stored episodes.

use std::path::{Path, PathBuf};

use mmhost_plugins::{PluginRecord, Verdict};
use mmhost_report::{Estimate, ScoresHead, score_file};
use mmhost_rollout::{Episode, read_dir, read_episodes};
use serde::Serialize;

use crate::cli::ScoreArgs;
use crate::config::Config;
use crate::failure::{Blame, Failure, Outcome, bad_input};
use crate::run_dir::write_atomically;
use crate::session::Session;
use crate::ui::Ui;

/// Two rewards on the same episodes.
#[derive(Serialize)]
struct Comparison {
    reward: String,
    digest: String,
    /// The reward plugin.
    plugin: PluginRecord,
    episodes: usize,
    /// Episodes that the reward abstained on.
    abstained: usize,
    /// Episodes whose total differs from the stored one.
    changed: usize,
    /// Mean total as stored; absent where nothing was stored.
    stored_total: Option<Estimate>,
    /// Mean total of this reward.
    total: Option<Estimate>,
    /// Mean of each component: as stored, and by this reward.
    components: std::collections::BTreeMap<String, [Option<Estimate>; 2]>,
}

/// Runs the command.
pub async fn run(args: ScoreArgs, ui: Ui) -> Outcome<()> {
    if args.keep && !args.episodes.is_dir() {
        return Err(Failure::Usage(format!("--keep needs a run directory to keep the verdicts in, {} is none", args.episodes.display())));
    }
    let run_config = Some(args.episodes.join("run.toml")).filter(|p| p.is_file());
    let mut config = Config::load(args.config.clone().or(run_config).as_deref())?;
    config.plugins.reward = args.reward.clone();
    let mut episodes = read(&args.episodes, &ui)?;
    let session = Session::open(ui, config, &args.plugins, args.cache.cache, None)?;
    let before: Vec<Option<Verdict>> = episodes.iter().map(|e| e.reward.clone()).collect();
    mmhost_rollout::score(&session.reward, &mut episodes.iter_mut().collect::<Vec<_>>()).await;
    session.check()?;
    let comparison = compare(&session, &before, &episodes);
    if args.keep {
        keep(&args.episodes, &session, &before, &episodes)?;
    }
    if let Some(path) = &args.json {
        write_atomically(path, &serde_json::to_vec_pretty(&comparison).internal("cannot write the figures as JSON")?)?;
    }
    print(&comparison);
    if comparison.abstained == comparison.episodes {
        let reason = episodes.iter().find_map(|e| match &e.reward {
            Some(Verdict::Abstained(reason)) => Some(reason.as_str()),
            _ => None,
        });
        return Err(bad_input(format!("{} scored no episode, first with: {}", comparison.reward, reason.unwrap_or("no reason"))));
    }
    Ok(())
}

fn read(path: &Path, ui: &Ui) -> Outcome<Vec<Episode>> {
    let doing = || format!("cannot read the episodes of {}", path.display());
    let folder: PathBuf = path.join("episodes");
    let stored = if path.is_file() {
        read_episodes(path).input(doing())?
    } else if folder.is_dir() {
        read_dir(&folder).input(doing())?
    } else {
        return Err(bad_input(format!("{} is neither a file of episodes nor a run directory with episodes/", path.display())));
    };
    for line in &stored.truncated {
        ui.say(format!("left out a half-written episode: {line}"));
    }
    if stored.episodes.is_empty() {
        return Err(bad_input(format!("{} holds no episodes", path.display())));
    }
    Ok(stored.episodes)
}

/// Writes the verdicts into the run directory, whole or not at all.
fn keep(run: &Path, session: &Session, before: &[Option<Verdict>], episodes: &[Episode]) -> Outcome<()> {
    let reward = session.reward.name();
    let head = ScoresHead { reward: reward.to_string(), digest: session.reward.digest().to_string(), episodes: episodes.len() };
    let doing = || format!("cannot write the scores of {reward} as JSON");
    let mut text = serde_json::to_string(&head).internal(doing())?;
    for (episode, stored) in episodes.iter().zip(before) {
        let stored = match stored {
            Some(Verdict::Scored { total, .. }) => Some(*total),
            _ => None,
        };
        let line = serde_json::json!({"id": episode.id, "stored": stored, "reward": episode.reward});
        text.push('\n');
        text.push_str(&line.to_string());
    }
    text.push('\n');
    let path = score_file(run, reward);
    write_atomically(&path, text.as_bytes())?;
    session.ui.say(format!("kept in {}; `mmhost report {}` shows where the rewards disagree", path.display(), run.display()));
    Ok(())
}

fn compare(session: &Session, before: &[Option<Verdict>], episodes: &[Episode]) -> Comparison {
    let after: Vec<Option<Verdict>> = episodes.iter().map(|e| e.reward.clone()).collect();
    let total = |v: &Option<Verdict>| match v {
        Some(Verdict::Scored { total, .. }) => Some(*total),
        _ => None,
    };
    let mean = |verdicts: &[Option<Verdict>], f: &dyn Fn(&Option<Verdict>) -> Option<f64>| {
        Estimate::mean(&verdicts.iter().filter_map(f).collect::<Vec<_>>())
    };
    let mut names: Vec<String> = before.iter().chain(&after).flat_map(component_names).collect();
    names.sort();
    names.dedup();
    let components = names.into_iter().map(|name| {
        let of = |verdicts| mean(verdicts, &|v| component(v, &name));
        let pair = [of(before), of(&after)];
        (name, pair)
    });
    Comparison {
        reward: session.reward.name().to_string(),
        digest: session.reward.digest().to_string(),
        plugin: session.reward.info().record(),
        episodes: episodes.len(),
        abstained: after.iter().filter(|v| total(v).is_none()).count(),
        changed: before.iter().zip(&after).filter(|(b, a)| total(b).map(f64::to_bits) != total(a).map(f64::to_bits)).count(),
        stored_total: mean(before, &total),
        total: mean(&after, &total),
        components: components.collect(),
    }
}

fn component_names(verdict: &Option<Verdict>) -> Vec<String> {
    match verdict {
        Some(Verdict::Scored { components, .. }) => components.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    }
}

fn component(verdict: &Option<Verdict>, name: &str) -> Option<f64> {
    let Some(Verdict::Scored { components, .. }) = verdict else { return None };
    components.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
}

fn print(c: &Comparison) {
    let figure = |e: &Option<Estimate>| e.map_or("-".to_string(), |e| format!("{:.4} [{:.4}, {:.4}]", e.value, e.low, e.high));
    println!("{} on {} episodes ({} changed, {} abstained)", c.reward, c.episodes, c.changed, c.abstained);
    println!("{:<14} {:>26} {:>26}", "mean", "stored", "now");
    println!("{:<14} {:>26} {:>26}", "total", figure(&c.stored_total), figure(&c.total));
    for (name, [stored, now]) in &c.components {
        println!("{name:<14} {:>26} {:>26}", figure(stored), figure(now));
    }
}

//! `mmhost eval`: ask a model the questions of a data set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmhost_data::Sample;
use mmhost_data::atlas::Split;
use mmhost_model::ModelFolder;
use mmhost_plugins::PluginRecord;
use mmhost_plugins::ledger::Entry;
use mmhost_report::{SplitMetrics, metrics_table};
use mmhost_rollout::Workflow;
use serde::Serialize;

use crate::cli::{EvalArgs, WorkflowArg};
use crate::config::Config;
use crate::evaluate::{evaluate, store_episodes};
use crate::failure::{Blame, Failure, Outcome, bad_input};
use crate::run_dir::write_atomically;
use crate::session::{Session, open_tape};
use crate::ui::Ui;

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    data: &'a str,
    workflow: &'static str,
    temperature: f32,
    reward: &'a str,
    /// Every plugin in use, by name.
    plugins: BTreeMap<String, PluginRecord>,
    /// What each plugin has cost, by name.
    ledger: BTreeMap<String, Entry>,
    metrics: &'a SplitMetrics,
}

/// Runs the command.
pub async fn run(args: EvalArgs, ui: Ui) -> Outcome<()> {
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return Err(Failure::Usage(format!("--temperature is {}, expected 0 (greedy) or a positive number", args.temperature)));
    }
    let mut config = match args.config.clone().or_else(|| run_config_of(&args.model)) {
        Some(path) => Config::load(Some(&path))?,
        None => Config::load(None)?,
    };
    if let Some(reward) = &args.reward {
        config.plugins.reward = reward.clone();
    }
    let workflow = match args.workflow {
        WorkflowArg::Direct => Workflow::Direct,
        WorkflowArg::Rag => Workflow::Rag,
        WorkflowArg::OnDemand => Workflow::OnDemand,
    };
    let folder = ModelFolder::load(&args.model, &Device::Cpu).input(format!("cannot load the model {}", args.model.display()))?;
    let tape = open_tape(&args.tape, args.episodes.as_deref())?;
    let session = Session::open(ui, config, &args.plugins, args.cache.cache, tape)?;
    let mut samples = samples(&session, &args.data)?;
    samples.truncate(args.limit.unwrap_or(usize::MAX));
    let policy = session.policy(folder)?;
    let tasks = session.tasks(&args.data, samples, &policy.folder.processor).await?;

    session.ui.say(format!("asking {} questions", tasks.len()));
    let label = format!("eval={}/{}", args.data, workflow.name());
    let evaluation = evaluate(&session, &policy, &tasks, workflow, args.temperature, &label).await?;
    session.tell_tape();
    if let Some(path) = &args.episodes {
        store_episodes(path, &format!("eval-{}", workflow.name()), &evaluation.episodes)?;
    }
    if let Some(path) = &args.json {
        let report = Report {
            model: &args.model,
            data: &args.data,
            workflow: workflow.name(),
            temperature: args.temperature,
            reward: session.reward.name(),
            plugins: session.plugins(),
            ledger: session.ledger.entries(),
            metrics: &evaluation.metrics,
        };
        write_atomically(path, &serde_json::to_vec_pretty(&report).internal("cannot write the metrics as JSON")?)?;
    }
    println!("{} of {} by {}", workflow.name(), args.data, session.reward.name());
    println!("{}", metrics_table(&evaluation.metrics));
    Ok(())
}

/// The run.toml of the run that a checkpoint belongs to (`RUN/checkpoints/step-000050`).
fn run_config_of(model: &Path) -> Option<PathBuf> {
    let model = model.canonicalize().ok()?;
    let config = model.parent()?.parent()?.join("run.toml");
    config.is_file().then_some(config)
}

fn samples(session: &Session, data: &str) -> Outcome<Vec<Sample>> {
    let split = match data {
        "atlas" | "atlas:test" => Split::Test,
        "atlas:validation" => Split::Validation,
        "atlas:held_out" => Split::HeldOut,
        "atlas:train" => Split::Train,
        file => return mmhost_data::read(Path::new(file)).input(format!("cannot read {file}")),
    };
    let world = session
        .world
        .as_ref()
        .ok_or_else(|| bad_input(format!("--data {data} needs a configuration with [data] source = \"atlas\"; this one names files")))?;
    Ok(world.samples(split))
}

//! `mmhost train`: evaluate the base, train it with GRPO, evaluate again, print one table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use mmhost_learner::{Group, Learner, Trajectory};
use mmhost_model::{ModelFolder, Qwen2_5Vl};
use mmhost_plugins::Plugins;
use mmhost_plugins::ledger::Entry;
use mmhost_report::{Invariants, PolicyMetrics, ReportOptions, Summary, Timing, summary_table};
use mmhost_rollout::{Episode, Task, Workflow};
use mmhost_track::{Ended, Pace, RunInfo, Tracker};
use serde::{Deserialize, Serialize};

use crate::base;
use crate::cli::TrainArgs;
use crate::commands::report;
use crate::config::Config;
use crate::evaluate::{evaluate, metrics, store_episodes};
use crate::failure::{Blame, Outcome, bad_input};
use crate::ledger_table::LEDGER;
use crate::run_dir::{RunDir, write_atomically};
use crate::sampler::{PromptSampler, Purpose, derive_seed};
use crate::session::{Policy, Session, open_tape};
use crate::step_metrics::{Seconds, StepMetrics, evaluation_values, values_of};
use crate::ui::{Health, Ui};

/// What a checkpoint knows besides model and optimiser.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// GRPO steps done.
    step: usize,
    /// Seconds by phase so far.
    timing: Timing,
    /// Largest differences so far.
    invariants: Invariants,
    /// Digests of the plugins in use, by name.
    plugins: BTreeMap<String, String>,
}

const PROGRESS: &str = "progress.json";
/// The plugins in use: in the run directory those that it began with, in a checkpoint those that it was trained with.
const PLUGINS: &str = "plugins.json";
const BASE_METRICS: &str = "base.json";

/// Runs the command.
pub async fn run(args: TrainArgs, ui: Ui) -> Outcome<()> {
    let (run, config) = if args.resume {
        let path = args.run.unwrap_or_else(|| PathBuf::from("runs/latest"));
        let run = RunDir::open(&path)?;
        let config = Config::load(Some(&run.config_path()))?;
        (run, config)
    } else {
        // Everything that can be wrong with the configuration is found before a directory is made.
        let mut config = Config::load(args.config.as_deref())?;
        config.seed = args.seed.unwrap_or(config.seed);
        config.train.steps = args.steps.unwrap_or(config.train.steps);
        let run = RunDir::create(args.run.as_deref())?;
        (run, config)
    };
    ui.say(format!("run directory {}", run.path().display()));
    let opened = open_tape(&args.tape, Some(run.path())).and_then(|tape| Session::open(ui, config, &args.plugins, args.cache.cache, tape));
    let session = match opened {
        Ok(session) => session,
        Err(failure) => {
            if !args.resume {
                run.abandon();
            }
            return Err(failure);
        }
    };
    if !args.resume {
        run.write_config(&session.config, &session.digests())?;
        run.write_json(PLUGINS, &session.plugins())?;
    }
    if let Some(entries) = run.read_json(LEDGER)? {
        session.ledger.resume(entries);
    }
    let mut training = Training { run, session, dev: args.dev };
    let mut tracker = training.tracker()?;
    let result = training.run(&mut tracker).await;
    // Also of a run that was stopped, the more so when its budget is spent.
    let result = training.keep_ledger().and(result);
    tracker.finish(if result.is_ok() { Ended::Finished } else { Ended::Failed }).await;
    result
}

struct Training {
    run: RunDir,
    session: Session,
    /// Whether changed plugins are taken up.
    dev: bool,
}

impl Training {
    /// Trackers, as the configuration names them. They never fail a run.
    fn tracker(&self) -> Outcome<Tracker> {
        let dir = self.run.path().to_path_buf();
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let name = real.file_name().map_or_else(|| "mmhost".into(), |name| name.to_string_lossy().into_owned());
        let resumed_after = self.run.latest_checkpoint()?.map(|(step, _)| step);
        let info = RunInfo { dir, name, params: self.session.config.flat()?, resumed_after };
        let ui = self.session.ui.clone();
        let key = |variable: &str| std::env::var(variable).ok();
        Ok(Tracker::start(&self.session.config.track, &info, &Pace::default(), key, Arc::new(move |line| ui.say(line))))
    }

    async fn run(&mut self, tracker: &mut Tracker) -> Outcome<()> {
        let started = Instant::now();
        let config = self.session.config.clone();
        let (folder, mut progress) = match self.run.latest_checkpoint()? {
            Some((step, path)) => {
                self.session.ui.say(format!("resuming after step {step}"));
                let folder = ModelFolder::load(&path, &Device::Cpu).input(format!("cannot load the checkpoint {}", path.display()))?;
                let mut progress = read_progress(&path)?;
                let digests = self.session.digests();
                for (plugin, digest) in digests.iter().filter(|(plugin, digest)| progress.plugins.get(*plugin) != Some(digest)) {
                    let before = progress.plugins.get(plugin).map_or("no such plugin", String::as_str);
                    self.session.ui.say(format!("{plugin} is not what it was in step {step}: it is {digest} now, and was {before}"));
                }
                progress.plugins = digests;
                (folder, progress)
            }
            None => {
                let folder = base::load_or_build(&self.session)?;
                let mut progress = Progress { plugins: self.session.digests(), ..Progress::default() };
                progress.timing.insert("base_model".into(), started.elapsed().as_secs_f64());
                (folder, progress)
            }
        };
        let trainable = Qwen2_5Vl::new(&folder.config, &folder.weights).internal("cannot build the network")?;
        let optimiser = config.optimiser.options(config.train.steps);
        let mut learner = Learner::new(trainable, &folder.weights, optimiser, config.worker_threads(), config.train.token_budget)
            .input("[optimiser] does not fit the model")?;
        let mut policy = self.session.policy(folder)?;
        if progress.step > 0 {
            let path = self.run.checkpoint_path(progress.step);
            learner.restore(&path).input(format!("cannot restore the learner from {}", path.display()))?;
        } else if !self.run.checkpoint_path(0).exists() {
            // The base is the reference of the KL term; a resumed run reads it from here.
            self.checkpoint(&policy, &learner, &progress)?;
        }

        let tasks = self.eval_tasks(&policy).await?;
        let base_metrics = match self.run.read_json::<PolicyMetrics>(BASE_METRICS)? {
            Some(metrics) => {
                tracker.replay(0, evaluation_values("base", &metrics));
                metrics
            }
            None => {
                let clock = Instant::now();
                let metrics = self.evaluate("base", &policy, &tasks).await?;
                self.run.write_json(BASE_METRICS, &metrics)?;
                tracker.add(progress.step, evaluation_values("base", &metrics));
                progress.timing.insert("base_evaluation".into(), clock.elapsed().as_secs_f64());
                metrics
            }
        };
        self.train(&mut policy, &mut learner, &mut progress, tracker).await?;

        let clock = Instant::now();
        let trained = self.evaluate("trained", &policy, &tasks).await?;
        tracker.add(progress.step, evaluation_values("trained", &trained));
        progress.timing.insert("trained_evaluation".into(), clock.elapsed().as_secs_f64());
        let total = progress.timing.values().sum();
        progress.timing.insert("total".into(), total);
        let summary = Summary {
            base: base_metrics,
            trained,
            timing: progress.timing,
            peak_memory_bytes: peak_memory_bytes(),
            invariants: progress.invariants,
        };
        self.run.write_json("summary.json", &summary)?;
        self.session.tell_tape();
        println!("{}", summary_table(&summary));
        // The run is over and whole: a page that cannot be made is told, and can be made later.
        match report::write_page(&[self.run.path().to_path_buf()], None, ReportOptions::MAX_EPISODES) {
            Ok(page) => self.session.ui.say(format!("the report is {}", page.path.display())),
            Err(failure) => self.session.ui.say(format!("the report could not be made: {failure}")),
        }
        self.session.ui.say(format!("everything is in {}", self.run.path().display()));
        Ok(())
    }

    async fn eval_tasks(&self, policy: &Policy) -> Outcome<BTreeMap<String, Vec<Task>>> {
        let mut tasks = BTreeMap::new();
        for (split, mut samples) in self.session.eval_samples()? {
            if let Some(limit) = self.session.config.eval.limit {
                samples.truncate(limit);
            }
            tasks.insert(split.clone(), self.session.tasks(&split, samples, &policy.folder.processor).await?);
        }
        Ok(tasks)
    }

    /// Direct, RAG and on-demand greedily, and on-demand at temperature 1.
    async fn evaluate(&self, who: &str, policy: &Policy, tasks: &BTreeMap<String, Vec<Task>>) -> Outcome<PolicyMetrics> {
        let runs = [
            ("direct", Workflow::Direct, 0.0),
            ("rag", Workflow::Rag, 0.0),
            ("on_demand", Workflow::OnDemand, 0.0),
            ("on_demand_sampled", Workflow::OnDemand, 1.0),
        ];
        let mut bar = self.session.ui.progress(&format!("evaluate {who}"), runs.len() * tasks.len());
        let mut all = PolicyMetrics::new();
        for (name, workflow, temperature) in runs {
            for (split, tasks) in tasks {
                let label = format!("eval={who}-{split}/{name}");
                let evaluation = evaluate(&self.session, policy, tasks, workflow, temperature, &label).await?;
                self.store(&format!("{who}-{split}-{name}"), &evaluation.episodes)?;
                bar.step(|| format!("{name} {split} accuracy {:.3}", evaluation.metrics.all.accuracy.value));
                all.entry(name.to_string()).or_default().insert(split.clone(), evaluation.metrics);
            }
        }
        Ok(all)
    }

    /// The questions to train on, and the order in which to ask them.
    async fn prompts(&self, policy: &Policy) -> Outcome<(Vec<Task>, PromptSampler)> {
        let config = &self.session.config;
        let samples = self.session.train_samples()?;
        let tasks = self.session.tasks("train", samples, &policy.folder.processor).await?;
        let sampler = PromptSampler::new(tasks.iter().map(|t| t.sample.category.as_deref()), &config.rollout.shares, config.seed)
            .map_err(|e| bad_input(format!("rollout.shares: {e}")))?;
        Ok((tasks, sampler))
    }

    async fn train(&mut self, policy: &mut Policy, learner: &mut Learner, progress: &mut Progress, tracker: &mut Tracker) -> Outcome<()> {
        let config = self.session.config.clone();
        let (mut tasks, mut sampler) = self.prompts(policy).await?;
        let mut workbench = if self.dev { Some(self.session.workbench()?) } else { None };
        let reference = if config.grpo.kl > 0.0 { Some(self.reference()?) } else { None };
        let mut rehearsal = base::Rehearsal::new(&self.session)?;

        let mut bar = self.session.ui.progress("GRPO", config.train.steps);
        bar.start_at(progress.step);
        for line in self.run.rewind_metrics(progress.step)? {
            tracker.replay(line["step"].as_u64().unwrap_or(0) as usize, values_of(&line));
            self.session.ui.figures(StepMetrics::figures_of(&line));
        }
        for step in progress.step + 1..=config.train.steps {
            // 0. Take up what has changed.
            if let Some(workbench) = &mut workbench
                && let Some(changed) = workbench.changed().await
                && self.take_up(&changed, policy, step)?
            {
                progress.plugins = self.session.digests();
                rehearsal = base::Rehearsal::new(&self.session)?;
                if !changed.filters.is_empty() {
                    (tasks, sampler) = self.prompts(policy).await?;
                }
            }
            // 1. Roll out a group for each prompt.
            let (clock, tools_before) = (Instant::now(), self.session.tool_clock.busy());
            let prompts: Vec<Task> = sampler.step(step, config.rollout.prompts).into_iter().map(|i| tasks[i].clone()).collect();
            let seed = derive_seed(config.seed, Purpose::Rollout, step);
            let label = format!("step={step}");
            let mut groups = policy
                .roller
                .run(&prompts, config.rollout.rollouts, Workflow::OnDemand, config.grpo.temperature, seed, &label)
                .await
                .or_else(|error| self.keep_violation(error))
                .internal(format!("the rollouts of step {step} failed"))?;
            let tools = (self.session.tool_clock.busy() - tools_before).as_secs_f64();
            let rollout = (clock.elapsed().as_secs_f64() - tools).max(0.0);
            // 2. Score them.
            let clock = Instant::now();
            let mut episodes: Vec<&mut Episode> = groups.iter_mut().flatten().collect();
            mmhost_rollout::score(&self.session.reward, &mut episodes).await;
            self.session.check()?;
            let mut seconds = Seconds { rollout, tools, reward: clock.elapsed().as_secs_f64(), learner: 0.0 };
            // 3. Learn from them. The episodes are stored first, so that a violated invariant leaves them behind.
            let flat: Vec<Episode> = groups.iter().flatten().cloned().collect();
            self.store(&format!("step-{step:06}"), &flat)?;
            let clock = Instant::now();
            let groups = groups.iter().map(|group| group.iter().map(trajectory).collect()).collect::<Outcome<Vec<Group>>>()?;
            let rehearsed = rehearsal.as_ref().map_or(Ok(Vec::new()), |r| r.examples(step, &policy.folder.processor))?;
            let learn = || learner.grpo_step_with_rehearsal(&groups, &rehearsed, &config.grpo, reference.as_ref());
            let report = tokio::task::block_in_place(learn)
                .internal(format!("step {step} of the learner failed; its episodes are in {}", self.run.path().display()))?;
            seconds.learner = clock.elapsed().as_secs_f64();
            seconds.add_to(&mut progress.timing);
            // 4. Record what happened.
            progress.step = step;
            progress.invariants.logprob_diff_max = progress.invariants.logprob_diff_max.max(report.logprob_diff_max);
            progress.invariants.logprob_diff_mean = progress.invariants.logprob_diff_mean.max(report.logprob_diff_mean);
            let split = metrics(&flat, &self.session.roles, &format!("step {step}"))?;
            let line = StepMetrics::new(step, &flat, &split, report, seconds);
            self.run.append_metrics(&line)?;
            let value = serde_json::to_value(&line).internal("cannot write the metrics as JSON")?;
            tracker.add(step, values_of(&value));
            self.session.ui.figures(StepMetrics::figures_of(&value));
            self.keep_ledger()?;
            bar.step(|| line.summary());
            if step % config.train.checkpoint_every == 0 || step == config.train.steps {
                self.checkpoint(policy, learner, progress)?;
                self.run.remove_old_checkpoints(config.train.keep_checkpoints)?;
            }
        }
        Ok(())
    }

    /// Puts changed plugins to use; `false` if they do not fit to the others.
    fn take_up(&mut self, changed: &Plugins, policy: &mut Policy, step: usize) -> Outcome<bool> {
        let names: Vec<&str> = changed.infos().iter().map(|info| info.name.as_str()).collect();
        let ui = self.session.ui.clone();
        if let Err(failure) = self.session.swap(changed) {
            ui.say(format!("{} is not swapped in; the old one stays. {failure}", names.join(", ")));
            return Ok(false);
        }
        self.session.refresh(policy)?;
        ui.say(format!("{} is swapped in; step {step} is the first with it", names.join(", ")));
        Ok(true)
    }

    /// The frozen reference policy of the KL term: the base, as the run's first checkpoint holds it.
    fn reference(&self) -> Outcome<Qwen2_5Vl> {
        let path = self.run.checkpoint_path(0);
        let folder = ModelFolder::load(&path, &Device::Cpu).input(format!("cannot load the reference policy from {}", path.display()))?;
        Qwen2_5Vl::frozen(&folder.config, &folder.weights).internal("cannot build the reference policy")
    }

    /// Writes down what the plugins have cost, and shows how they are.
    fn keep_ledger(&self) -> Outcome<()> {
        let entries = self.session.ledger.entries();
        self.run.write_json(LEDGER, &entries)?;
        let health = |entry: &Entry| Health {
            calls: entry.calls,
            failures: entry.failures.values().sum(),
            median_ms: entry.latency_ms.p50,
            p99_ms: entry.latency_ms.p99,
        };
        self.session.ui.health(entries.iter().map(|(name, entry)| (name.clone(), health(entry))).collect());
        Ok(())
    }

    /// Stores the episode that broke an invariant beside the others before the run stops.
    fn keep_violation<T>(&self, error: mmhost_rollout::Error) -> Result<T, anyhow::Error> {
        if let mmhost_rollout::Error::Invariant { episode, .. } = &error {
            let kept = self.store("violation", std::slice::from_ref(episode.as_ref()));
            let whereabouts =
                kept.map_or_else(|e| format!("it could not be kept: {e}"), |()| "it is kept in episodes/violation.jsonl".into());
            return Err(anyhow::Error::new(error).context(whereabouts));
        }
        Err(error.into())
    }

    fn store(&self, label: &str, episodes: &[Episode]) -> Outcome<()> {
        store_episodes(&self.run.episodes_path(), label, episodes)
    }

    /// Writes model, optimiser and progress under a name that only a whole checkpoint gets.
    fn checkpoint(&self, policy: &Policy, learner: &Learner, progress: &Progress) -> Outcome<()> {
        let path = self.run.checkpoint_path(progress.step);
        self.run.build_checkpoint(progress.step, |partial| {
            policy.folder.save(partial).input(format!("cannot write the checkpoint {}", path.display()))?;
            learner.save(partial).input(format!("cannot write the checkpoint {}", path.display()))?;
            let json = serde_json::to_vec_pretty(progress).internal("cannot write the progress as JSON")?;
            write_atomically(&partial.join(PROGRESS), &json)?;
            let json = serde_json::to_vec_pretty(&self.session.plugins()).internal("cannot write the plugins as JSON")?;
            write_atomically(&partial.join(PLUGINS), &json)
        })
    }
}

fn read_progress(checkpoint: &std::path::Path) -> Outcome<Progress> {
    let path = checkpoint.join(PROGRESS);
    let text = std::fs::read(&path).input(format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).input(format!("{} is damaged", path.display()))
}

fn trajectory(episode: &Episode) -> Outcome<Trajectory> {
    let view = episode.training_view().internal(format!("{} cannot be trained on", episode.id))?;
    Ok(Trajectory { segment: view.segment, mask: view.mask, logprobs: view.logprobs, reward: view.reward, id: episode.id.clone() })
}

/// Most memory this process has held, in bytes, where the system tells (Linux).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

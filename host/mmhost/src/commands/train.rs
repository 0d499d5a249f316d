//! `mmhost train`: evaluate the base, train it with GRPO, evaluate again, print one table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::Device;
use mmhost_learner::{Group, Learner, Trajectory};
use mmhost_model::{ModelFolder, Qwen2_5Vl};
use mmhost_report::{Invariants, PolicyMetrics, ReportOptions, Summary, Timing, summary_table};
use mmhost_rollout::{Episode, Task, Workflow};
use serde::{Deserialize, Serialize};

use crate::base;
use crate::cli::TrainArgs;
use crate::commands::report;
use crate::config::Config;
use crate::evaluate::{evaluate, metrics, store_episodes};
use crate::failure::{Blame, Outcome, bad_input};
use crate::run_dir::RunDir;
use crate::sampler::{PromptSampler, Purpose, derive_seed};
use crate::session::{Policy, Session};
use crate::ui::Ui;

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

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
struct StepMetrics {
    step: usize,
    /// Means over the step's episodes.
    reward: f64,
    accuracy: f64,
    format: Option<f64>,
    searches_per_question: f64,
    share_searching: f64,
    /// Image-search ratio by question class.
    image_search_ratio: BTreeMap<String, f64>,
    /// Text-search ratio by question class.
    text_search_ratio: BTreeMap<String, f64>,
    #[serde(flatten)]
    learner: mmhost_learner::StepReport,
    rollout_seconds: f64,
    learner_seconds: f64,
}

const PROGRESS: &str = "progress.json";
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
    let mut session = Session::open(ui, config, &args.plugins.plugins, args.cache.cache)?;
    session.open_tape(&args.tape, Some(run.path()))?;
    if !args.resume {
        run.write_config(&session.config, &session.digests)?;
    }
    Training { run, session }.run().await
}

struct Training {
    run: RunDir,
    session: Session,
}

impl Training {
    async fn run(self) -> Outcome<()> {
        let started = Instant::now();
        let config = &self.session.config;
        let (folder, mut progress) = match self.run.latest_checkpoint()? {
            Some((step, path)) => {
                self.session.ui.say(format!("resuming after step {step}"));
                let folder = ModelFolder::load(&path, &Device::Cpu).input(format!("cannot load the checkpoint {}", path.display()))?;
                let progress = read_progress(&path)?;
                (folder, progress)
            }
            None => {
                let folder = base::load_or_build(&self.session)?;
                let mut progress = Progress { plugins: self.session.digests.clone(), ..Progress::default() };
                progress.timing.insert("base_model".into(), started.elapsed().as_secs_f64());
                (folder, progress)
            }
        };
        let trainable = Qwen2_5Vl::new(&folder.config, &folder.weights).internal("cannot build the network")?;
        let optimiser = config.optimiser.options(config.train.steps);
        let mut learner = Learner::new(trainable, &folder.weights, optimiser, config.worker_threads(), config.train.token_budget)
            .input("[optimiser] does not fit the model")?;
        let policy = self.session.policy(folder)?;
        if progress.step > 0 {
            let path = self.run.checkpoint_path(progress.step);
            learner.restore(&path).input(format!("cannot restore the learner from {}", path.display()))?;
        } else if !self.run.checkpoint_path(0).exists() {
            // The base is the reference of the KL term; a resumed run reads it from here.
            self.checkpoint(&policy, &learner, &progress)?;
        }

        let tasks = self.eval_tasks(&policy).await?;
        let base_metrics = match self.run.read_json::<PolicyMetrics>(BASE_METRICS)? {
            Some(metrics) => metrics,
            None => {
                let clock = Instant::now();
                let metrics = self.evaluate("base", &policy, &tasks).await?;
                self.run.write_json(BASE_METRICS, &metrics)?;
                progress.timing.insert("base_evaluation".into(), clock.elapsed().as_secs_f64());
                metrics
            }
        };
        self.train(&policy, &mut learner, &mut progress).await?;

        let clock = Instant::now();
        let trained = self.evaluate("trained", &policy, &tasks).await?;
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
                self.session.check_tape()?;
                self.store(&format!("{who}-{split}-{name}"), &evaluation.episodes)?;
                bar.step(|| format!("{name} {split} accuracy {:.3}", evaluation.metrics.all.accuracy.value));
                all.entry(name.to_string()).or_default().insert(split.clone(), evaluation.metrics);
            }
        }
        Ok(all)
    }

    async fn train(&self, policy: &Policy, learner: &mut Learner, progress: &mut Progress) -> Outcome<()> {
        let config = &self.session.config;
        let samples = self.session.train_samples()?;
        let tasks = self.session.tasks("train", samples, &policy.folder.processor).await?;
        let sampler = PromptSampler::new(tasks.iter().map(|t| t.sample.category.as_deref()), &config.rollout.shares, config.seed)
            .map_err(|e| bad_input(format!("rollout.shares: {e}")))?;
        let reference = if config.grpo.kl > 0.0 { Some(self.reference()?) } else { None };
        let rehearsal = base::Rehearsal::new(&self.session)?;

        self.run.rewind_metrics(progress.step)?;
        let mut bar = self.session.ui.progress("GRPO", config.train.steps);
        bar.start_at(progress.step);
        for step in progress.step + 1..=config.train.steps {
            // 1. Roll out a group for each prompt.
            let clock = Instant::now();
            let prompts: Vec<Task> = sampler.step(step, config.rollout.prompts).into_iter().map(|i| tasks[i].clone()).collect();
            let seed = derive_seed(config.seed, Purpose::Rollout, step);
            let label = format!("step={step}");
            let mut groups = policy
                .roller
                .run(&prompts, config.rollout.rollouts, Workflow::OnDemand, config.grpo.temperature, seed, &label)
                .await
                .or_else(|error| self.keep_violation(error))
                .internal(format!("the rollouts of step {step} failed"))?;
            self.session.check_tape()?;
            // 2. Score them.
            let mut episodes: Vec<&mut Episode> = groups.iter_mut().flatten().collect();
            mmhost_rollout::score(&self.session.reward, &mut episodes).await;
            let rollout_seconds = clock.elapsed().as_secs_f64();
            *progress.timing.entry("rollout".into()).or_default() += rollout_seconds;
            // 3. Learn from them. The episodes are stored first, so that a violated invariant leaves them behind.
            let flat: Vec<Episode> = groups.iter().flatten().cloned().collect();
            self.store(&format!("step-{step:06}"), &flat)?;
            let clock = Instant::now();
            let groups = groups.iter().map(|group| group.iter().map(trajectory).collect()).collect::<Outcome<Vec<Group>>>()?;
            let rehearsed = rehearsal.as_ref().map_or(Ok(Vec::new()), |r| r.examples(step, &policy.folder.processor))?;
            let learn = || learner.grpo_step_with_rehearsal(&groups, &rehearsed, &config.grpo, reference.as_ref());
            let report = tokio::task::block_in_place(learn)
                .internal(format!("step {step} of the learner failed; its episodes are in {}", self.run.path().display()))?;
            let learner_seconds = clock.elapsed().as_secs_f64();
            *progress.timing.entry("learner".into()).or_default() += learner_seconds;
            // 4. Record what happened.
            progress.step = step;
            progress.invariants.logprob_diff_max = progress.invariants.logprob_diff_max.max(report.logprob_diff_max);
            progress.invariants.logprob_diff_mean = progress.invariants.logprob_diff_mean.max(report.logprob_diff_mean);
            let line = self.step_metrics(step, &flat, report, rollout_seconds, learner_seconds)?;
            self.run.append_metrics(&line)?;
            bar.step(|| {
                format!(
                    "reward {:.3} accuracy {:.3} searches {:.2} kl {:.4}",
                    line.reward, line.accuracy, line.searches_per_question, line.learner.kl
                )
            });
            if step % config.train.checkpoint_every == 0 || step == config.train.steps {
                self.checkpoint(policy, learner, progress)?;
                self.run.remove_old_checkpoints(config.train.keep_checkpoints)?;
            }
        }
        Ok(())
    }

    /// The frozen reference policy of the KL term: the base, as the run's first checkpoint holds it.
    fn reference(&self) -> Outcome<Qwen2_5Vl> {
        let path = self.run.checkpoint_path(0);
        let folder = ModelFolder::load(&path, &Device::Cpu).input(format!("cannot load the reference policy from {}", path.display()))?;
        Qwen2_5Vl::frozen(&folder.config, &folder.weights).internal("cannot build the reference policy")
    }

    fn step_metrics(
        &self,
        step: usize,
        episodes: &[Episode],
        learner: mmhost_learner::StepReport,
        rollout_seconds: f64,
        learner_seconds: f64,
    ) -> Outcome<StepMetrics> {
        let split = metrics(episodes, &self.session.roles, &format!("step {step}"))?;
        let rewards: Vec<f64> = episodes.iter().filter_map(Episode::total_reward).collect();
        let ratio = |f: fn(&mmhost_report::ClassMetrics) -> f64| split.classes.iter().map(|(name, m)| (name.clone(), f(m))).collect();
        Ok(StepMetrics {
            step,
            reward: rewards.iter().sum::<f64>() / rewards.len() as f64,
            accuracy: split.all.accuracy.value,
            format: split.all.format.map(|f| f.value),
            searches_per_question: split.all.searches_per_question.value,
            share_searching: split.all.share_searching.value,
            image_search_ratio: ratio(|m| m.image_search_ratio.value),
            text_search_ratio: ratio(|m| m.text_search_ratio.value),
            learner,
            rollout_seconds,
            learner_seconds,
        })
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
            crate::run_dir::write_atomically(&partial.join(PROGRESS), &json)
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

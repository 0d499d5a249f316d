//! One GRPO step of a nano vision-language model: rollouts through the engine, then the learner's update.
//!
//! `cargo bench -p mmhost --bench grpo_step -- MODEL_FOLDER IMAGE [PYTHON]`
//!
//! MODEL_FOLDER is written by `mmhost model init`. 16 prompts × 8 rollouts of 48 new tokens, one image each, f32. With PYTHON (an
//! interpreter with torch, transformers and trl 1.16) the same step runs in TRL, alternating with ours, and the ratio of the medians is
//! printed. The second figure is the same number of tokens in three turns with two tool calls, and what it costs more when every
//! call sleeps for 0.2 seconds.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use mmhost_data::{Sample, SampleImage};
use mmhost_engine::{LocalEngine, LocalEngineOptions};
use mmhost_learner::{GrpoOptions, Learner, OptimiserOptions, Trajectory};
use mmhost_model::{ModelFolder, Qwen2_5Vl};
use mmhost_plugins::{CallCost, CallForm, PluginError, ResultPart, ToolInput, ToolSpec};
use mmhost_rollout::{About, ProtocolOptions, Roller, Task, Tool, Workflow};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROMPTS: usize = 16;
const ROLLOUTS: usize = 8;
const NEW_TOKENS: usize = 48;
const ROUNDS: usize = 4;
const STEPS: usize = 4;

/// Answers at once, or after a nap.
struct Echo {
    spec: ToolSpec,
    nap: Duration,
}

#[async_trait::async_trait]
impl Tool for Echo {
    fn about(&self) -> About<'_> {
        About::plain(&self.spec)
    }

    async fn call(&self, _: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
        tokio::time::sleep(self.nap).await;
        Ok((vec![ResultPart::Text("1. nothing".into())], CallCost::default()))
    }
}

fn tools(nap: Duration) -> Vec<Arc<dyn Tool>> {
    let tool = |name: &str, call: CallForm, needs_image: bool| {
        let spec = ToolSpec { name: name.into(), description: name.into(), call, max_calls: 1, instruction: "Go on.".into(), needs_image };
        Arc::new(Echo { spec, nap }) as Arc<dyn Tool>
    };
    vec![
        tool("image-search", CallForm::Literal("<search><img></search>".into()), true),
        tool("text-search", CallForm::Tag("text_search".into()), false),
    ]
}

struct Bench {
    folder: ModelFolder,
    learner: Learner,
    tasks: Vec<Task>,
    runtime: tokio::runtime::Runtime,
    steps: u64,
}

impl Bench {
    fn new(model: &Path, image: &Path) -> Self {
        let folder = ModelFolder::load(model, &Device::Cpu).expect("the model folder loads");
        let trainable = Qwen2_5Vl::new(&folder.config, &folder.weights).expect("the network builds");
        let options = OptimiserOptions { total_steps: 1000, ..Default::default() };
        let learner = Learner::new(trainable, &folder.weights, options, 2, 8192).expect("the learner builds");
        let sample = Arc::new(Sample {
            id: "bench".into(),
            question: "What is the capital of this country?".into(),
            images: vec![SampleImage { bytes: std::fs::read(image).expect("the image reads").into(), path: None }],
            ground_truth: "none".into(),
            candidate_answers: Vec::new(),
            data_source: "bench".into(),
            category: None,
            image_urls: Vec::new(),
            tags: Vec::new(),
        });
        let task = Task::prepare(sample, &folder.processor).expect("the image decodes");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio starts");
        Self { folder, learner, tasks: vec![task; PROMPTS], runtime, steps: 0 }
    }

    fn roller(&self, nap: Duration, max_turn_tokens: usize) -> Roller {
        let frozen = Qwen2_5Vl::frozen(&self.folder.config, &self.folder.weights).expect("the network builds");
        let engine = LocalEngine::start(
            frozen,
            self.folder.processor.clone(),
            LocalEngineOptions { workers: 2, max_batch: 64, prefill_tokens: 4096 },
        );
        let protocol = ProtocolOptions { max_turn_tokens, ..Default::default() };
        Roller::new(Arc::new(engine), self.folder.processor.clone(), tools(nap), protocol).expect("the roller builds")
    }

    /// Seconds of one step, and how many tokens were sampled in it.
    fn step(&mut self, roller: &Roller, workflow: Workflow) -> (f64, usize) {
        self.steps += 1;
        let clock = Instant::now();
        let groups =
            self.runtime.block_on(roller.run(&self.tasks, ROLLOUTS, workflow, 1.0, self.steps, "bench")).expect("rollouts succeed");
        let groups: Vec<Vec<Trajectory>> = groups
            .iter()
            .map(|group| {
                group
                    .iter()
                    .enumerate()
                    .map(|(index, episode)| {
                        let view = episode.training_view().expect("the episode is whole");
                        // The reward only has to differ within the group, so that no group is skipped.
                        Trajectory {
                            segment: view.segment,
                            mask: view.mask,
                            logprobs: view.logprobs,
                            reward: Some(index as f64),
                            id: episode.id.clone(),
                        }
                    })
                    .collect()
            })
            .collect();
        let options = GrpoOptions { kl: 0.0, ..Default::default() };
        let report = self.learner.grpo_step(&groups, &options, None).expect("the learner steps");
        (clock.elapsed().as_secs_f64(), report.tokens)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn trl(python: &str, model: &Path, image: &Path) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/grpo_step.py");
    let out = Command::new(python).arg(script).arg(model).arg(image).arg(STEPS.to_string()).output().expect("python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn main() {
    // As the program does: batches are shared over worker threads, candle's own pool would only spin beside them.
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    // cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [model, image, python @ ..] = args.as_slice() else {
        println!("grpo_step: skipped; give a model folder and an image");
        return;
    };
    let (model, image) = (Path::new(model), Path::new(image));
    let mut bench = Bench::new(model, image);

    let plain = bench.roller(Duration::ZERO, NEW_TOKENS);
    let (mut ours, mut theirs, mut tokens) = (Vec::new(), Vec::new(), 0);
    bench.step(&plain, Workflow::Direct);
    for _ in 0..ROUNDS {
        for _ in 0..STEPS {
            let (seconds, sampled) = bench.step(&plain, Workflow::Direct);
            ours.push(seconds);
            tokens += sampled;
        }
        if let [python, ..] = python {
            theirs.extend(trl(python, model, image));
        }
    }
    let per_step = tokens / (ROUNDS * STEPS);
    let ours = median(&mut ours);
    println!("step: {ours:.3} s for {per_step} sampled tokens");
    if !theirs.is_empty() {
        let theirs = median(&mut theirs);
        println!("TRL: {theirs:.3} s; ours is {:.2} times as fast", theirs / ours);
    }

    let (quick, slow) = (bench.roller(Duration::ZERO, NEW_TOKENS / 3), bench.roller(Duration::from_millis(200), NEW_TOKENS / 3));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(bench.step(&quick, Workflow::Rag).0);
        with.push(bench.step(&slow, Workflow::Rag).0);
    }
    let (without, with) = (median(&mut without), median(&mut with));
    println!("with two tool calls an episode: {without:.3} s; when every call sleeps 0.2 s: {with:.3} s, {:.3} s more", with - without);
}

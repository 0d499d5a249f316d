//! A scripted engine, fake tools and a small text side.
#![allow(dead_code)] // each test file uses its own part

use mmhost_data::{Sample, SampleImage};
use mmhost_engine::{Engine, EngineError, Finish, GeneratedTurn, SequenceId, TurnRequest};
use mmhost_model::{ImageProcessor, Processor, Segment, Tokenizer};
use mmhost_plugins::{CallCost, CallForm, ImageBytes, PluginError, ResultPart, ToolInput, ToolSpec};
use mmhost_rollout::{About, Episode, ProtocolOptions, Roller, Task, Tool};
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What the script is asked: one generation of one sequence.
pub struct Ask {
    /// Position of the sequence in its group.
    pub rollout: usize,
    /// Text of everything before this generation.
    pub context: String,
    /// Generations of this sequence so far.
    pub generation: usize,
    pub seed: u64,
    pub stop_strings: Vec<String>,
}

/// What the scripted policy does.
pub enum Act {
    /// Writes this and ends the turn.
    Say(String),
    /// Writes this and goes on for ever.
    Ramble(String),
    /// Gives these ids and ends the turn.
    Ids(Vec<u32>),
    /// Gives too few log-probabilities.
    Faulty(String),
}

type Script = dyn Fn(&Ask) -> Act + Send + Sync;

struct Sequence {
    rollout: usize,
    tokens: Vec<u32>,
    generations: usize,
}

/// An engine that plays given turns, and keeps the books that a real one would.
pub struct ScriptedEngine {
    script: Box<Script>,
    processor: Processor,
    next: AtomicU64,
    open: Mutex<HashMap<SequenceId, Sequence>>,
    pub prefills: AtomicUsize,
    /// Every request's sampling.
    pub samplings: Mutex<Vec<mmhost_engine::Sampling>>,
    /// How long a turn takes.
    pub delay: Duration,
}

impl ScriptedEngine {
    pub fn new(script: impl Fn(&Ask) -> Act + Send + Sync + 'static) -> Self {
        Self {
            script: Box::new(script),
            processor: processor(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            prefills: AtomicUsize::new(0),
            samplings: Mutex::default(),
            delay: Duration::ZERO,
        }
    }

    /// Sequences not closed yet.
    pub fn num_open(&self) -> usize {
        self.open.lock().unwrap().len()
    }
}

#[async_trait::async_trait]
impl Engine for ScriptedEngine {
    async fn open(&self, prompt: Segment, n: usize) -> Result<Vec<SequenceId>, EngineError> {
        self.prefills.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        Ok((0..n)
            .map(|rollout| {
                let id = SequenceId(self.next.fetch_add(1, Ordering::SeqCst));
                open.insert(id, Sequence { rollout, tokens: prompt.tokens.clone(), generations: 0 });
                id
            })
            .collect())
    }

    async fn generate(&self, id: SequenceId, request: TurnRequest) -> Result<GeneratedTurn, EngineError> {
        self.samplings.lock().unwrap().push(request.sampling);
        let tokenizer = &self.processor.tokenizer;
        let eos = self.processor.eos_ids()[0];
        let (act, fault) = {
            let mut open = self.open.lock().unwrap();
            let sequence = open.get_mut(&id).ok_or(EngineError::Unknown(id))?;
            sequence.tokens.extend(&request.append.tokens);
            let ask = Ask {
                rollout: sequence.rollout,
                context: tokenizer.decode(&sequence.tokens).unwrap(),
                generation: sequence.generations,
                seed: request.sampling.seed,
                stop_strings: request.stop_strings.clone(),
            };
            sequence.generations += 1;
            match (self.script)(&ask) {
                Act::Faulty(text) => (Act::Say(text), true),
                act => (act, false),
            }
        };
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let mut planned = match act {
            Act::Say(text) | Act::Faulty(text) => [tokenizer.encode(&text).unwrap(), vec![eos]].concat(),
            Act::Ids(ids) => [ids, vec![eos]].concat(),
            Act::Ramble(text) => {
                let mut ids = tokenizer.encode(&text).unwrap();
                let more = tokenizer.encode("and on ").unwrap();
                while ids.len() < request.max_new_tokens {
                    ids.extend(&more);
                }
                ids
            }
        };
        let mut finish = Finish::Length;
        for kept in 1..=planned.len().min(request.max_new_tokens) {
            let text = tokenizer.decode(&planned[..kept]).unwrap();
            let stop = request.stop_strings.iter().position(|stop| text.contains(stop.as_str()));
            if let Some(index) = stop {
                finish = Finish::Stop(index);
            } else if planned[kept - 1] == eos {
                finish = Finish::Eos;
            } else {
                continue;
            }
            planned.truncate(kept);
            break;
        }
        planned.truncate(request.max_new_tokens);
        if let Some(sequence) = self.open.lock().unwrap().get_mut(&id) {
            sequence.tokens.extend(&planned);
        }
        let logprobs = vec![-0.5; planned.len() - usize::from(fault)];
        Ok(GeneratedTurn { tokens: planned, logprobs, finish })
    }

    fn close(&self, id: SequenceId) {
        self.open.lock().unwrap().remove(&id);
    }
}

type Answer = dyn Fn(&ToolInput) -> Result<Vec<ResultPart>, PluginError> + Send + Sync;

/// A tool that answers from a closure after a while.
pub struct FakeTool {
    pub spec: ToolSpec,
    pub delay: Duration,
    pub calls: AtomicUsize,
    pub answer: Box<Answer>,
}

impl FakeTool {
    pub fn new(spec: ToolSpec, answer: impl Fn(&ToolInput) -> Result<Vec<ResultPart>, PluginError> + Send + Sync + 'static) -> Self {
        Self { spec, delay: Duration::ZERO, calls: AtomicUsize::new(0), answer: Box::new(answer) }
    }
}

#[async_trait::async_trait]
impl Tool for FakeTool {
    fn about(&self) -> About<'_> {
        About { digest: "d1ge57", max_tokens: 900, ..About::plain(&self.spec) }
    }

    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        Ok(((self.answer)(input)?, CallCost::default()))
    }
}

pub const IMAGE_CALL: &str = "<search><img></search>";

pub fn image_spec() -> ToolSpec {
    ToolSpec {
        name: "image-search".into(),
        description: "image search".into(),
        call: CallForm::Literal(IMAGE_CALL.into()),
        max_calls: 1,
        instruction: "Answer or use text search.".into(),
        needs_image: true,
    }
}

pub fn text_spec() -> ToolSpec {
    ToolSpec {
        name: "text-search".into(),
        description: "text search".into(),
        call: CallForm::Tag("text_search".into()),
        max_calls: 2,
        instruction: "Answer now.".into(),
        needs_image: false,
    }
}

/// An image search with one thumbnail, and a text search that repeats its query.
pub fn usual_tools() -> Vec<Arc<FakeTool>> {
    vec![
        Arc::new(FakeTool::new(image_spec(), |_| {
            Ok(vec![ResultPart::Text("1. ".into()), ResultPart::Image(png(28, 28, 9)), ResultPart::Text("Flag of Chad\n".into())])
        })),
        Arc::new(FakeTool::new(text_spec(), |input| Ok(vec![ResultPart::Text(format!("1. Page about {}", input.argument))]))),
    ]
}

pub fn png(width: u32, height: u32, shade: u8) -> ImageBytes {
    let mut bytes = Vec::new();
    image::RgbImage::from_pixel(width, height, image::Rgb([shade, 2 * shade, 255 - shade]))
        .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
        .unwrap();
    ImageBytes { media_type: "image/png".into(), bytes: bytes.into() }
}

/// A question about a flag.
pub fn task(question: &str) -> Task {
    let sample = Sample {
        id: "s1".into(),
        question: question.into(),
        images: vec![SampleImage { bytes: png(56, 56, 40).bytes, path: None }],
        ground_truth: "N'Djamena".into(),
        candidate_answers: vec!["Ndjamena".into()],
        data_source: "test".into(),
        category: Some("both_required".into()),
        image_urls: vec![],
        tags: vec![],
    };
    Task::prepare(Arc::new(sample), &processor()).unwrap()
}

pub fn options() -> ProtocolOptions {
    ProtocolOptions { max_turn_tokens: 64, max_episode_tokens: 1024, ..Default::default() }
}

pub fn roller(engine: &Arc<ScriptedEngine>, tools: &[Arc<FakeTool>], options: ProtocolOptions) -> Roller {
    let tools = tools.iter().map(|tool| tool.clone() as Arc<dyn Tool>).collect();
    Roller::new(engine.clone(), processor(), tools, options).unwrap()
}

/// Text of the whole episode, image placeholders and control tokens included.
pub fn context(episode: &Episode) -> String {
    processor().tokenizer.decode(&episode.tokens).unwrap()
}

/// Text of exactly the sampled tokens.
pub fn sampled(episode: &Episode) -> String {
    let ids: Vec<u32> = episode.tokens.iter().zip(&episode.mask).filter(|(_, sampled)| **sampled).map(|(id, _)| *id).collect();
    processor().tokenizer.decode(&ids).unwrap()
}

/// A byte-level tokenizer with the protocol's tags as single tokens; 56-pixel images are 4 tokens, 28-pixel ones 1.
pub fn processor() -> Processor {
    static PROCESSOR: OnceLock<Processor> = OnceLock::new();
    let tags = [
        "<reason>",
        "</reason>",
        IMAGE_CALL,
        "<text_search>",
        "</text_search>",
        "<answer>",
        "</answer>",
        "<information>",
        "</information>",
    ];
    PROCESSOR
        .get_or_init(|| {
            let texts = ["What is the capital of Chad? The capital of Chad is N'Djamena.", "Answer now. Answer or use text search."];
            let tokenizer = Tokenizer::train(texts.iter(), 320, &tags).unwrap();
            let images = ImageProcessor { min_pixels: 28 * 28, max_pixels: 112 * 112, ..Default::default() };
            Processor::new(tokenizer, images).unwrap()
        })
        .clone()
}

pub fn plugin_error() -> PluginError {
    PluginError::Tool { plugin: "text-search".into(), error: mmhost_plugins::ToolError::NothingFound }
}

pub fn reason(text: &str) -> String {
    format!("<reason>r</reason>{text}")
}

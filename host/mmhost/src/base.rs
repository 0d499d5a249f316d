//! The built-in base model: trained once, by supervised learning on the atlas's curriculum, then cached by the digest of all that
//! decides its weights.
//!
//! The warm-up teaches facts, flags and the turn protocol, and reasons that say truthfully what is known. It does not teach when to
//! search: what a warm-up conversation does is drawn independently of what it knows.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use image::{DynamicImage, RgbImage};
use mmhost_data::atlas::World;
use mmhost_data::atlas::warmup::{self, Conversation, ImageHit, Part, Role, Warmup};
use mmhost_learner::{Example, Learner};
use mmhost_model as model;
use mmhost_model::{ImageInput, ImageProcessor, ModelConfig, ModelFolder, Processor, Qwen2_5Vl, Segment, Tokenizer, Weights};
use mmhost_plugins::{CallForm, ToolSpec};
use mmhost_rollout::{Protocol, Workflow};
use sha2::{Digest, Sha256};

use crate::config::BaseSection;
use crate::failure::{Blame, Outcome, bad_input};
use crate::sampler::{Purpose, derive_seed};
use crate::session::Session;

/// The protocol's tags that are single tokens of the nano model, besides what the tools are called by.
const TAGS: [&str; 6] = ["<reason>", "</reason>", "<answer>", "</answer>", "<information>", "</information>"];
/// Images are brought to between one and four merged tokens: 28 and 56 pixels a side.
const MIN_PIXELS: usize = 28 * 28;
const MAX_PIXELS: usize = 56 * 56;
/// Raise it when code that decides the base's weights changes, so that no cached model of older code is taken for a new one.
const REVISION: u32 = 2;
/// Most tokens in one micro-batch of the warm-up.
const TOKEN_BUDGET: usize = 8192;

/// The policy before training: the folder that the configuration names, or the built-in base, from the cache or built now.
pub fn load_or_build(session: &Session) -> Outcome<ModelFolder> {
    if let Some(path) = &session.config.model.path {
        return ModelFolder::load(path, &Device::Cpu).input(format!("cannot load the model {}", path.display()));
    }
    let (Some(section), Some(world)) = (&session.config.model.base, &session.world) else {
        return Err(bad_input("[model.base] is taught the atlas; with [data] source = \"files\" name a model folder in model.path"));
    };
    let words = HostWords::new(session.protocol.clone())?;
    let texts = Warmup::tokenizer_texts(world, &words);
    let dir = cache_path(session, section, world, &texts)?;
    if dir.exists() {
        session.ui.say(format!("base model from the cache: {}", dir.display()));
        return ModelFolder::load(&dir, &Device::Cpu)
            .input(format!("cannot load the cached base model {}; remove it to have it built again", dir.display()));
    }
    let folder = build(session, section, world, words, texts)?;
    folder.save(&dir).input(format!("cannot keep the base model in {}", dir.display()))?;
    // The cached folder is what every later run loads, so this one loads it too.
    ModelFolder::load(&dir, &Device::Cpu).input(format!("cannot load the base model {}", dir.display()))
}

/// A freshly initialised model in the shape of the configuration's base.
pub fn init(section: &BaseSection, tokenizer: Tokenizer, seed: u64) -> Outcome<ModelFolder> {
    let images = ImageProcessor::for_model(&section.shape, MIN_PIXELS, MAX_PIXELS);
    let vocab_size = tokenizer.vocab_size();
    let processor = Processor::new(tokenizer, images).input("[model.base] does not give a usable text side")?;
    let tokens = processor.token_ids().internal("the tokenizer lacks a control token")?;
    let config = ModelConfig::from_shape(&section.shape, vocab_size, tokens).input("[model.base.shape]")?;
    let weights = Weights::init(&config, seed, &Device::Cpu).internal("cannot make the weights")?;
    Ok(ModelFolder { config, weights, processor })
}

/// The tokenizer of the base: byte-level BPE over the atlas's texts, with the protocol's tags as tokens.
pub fn tokenizer<'a>(section: &BaseSection, calls: impl Iterator<Item = &'a CallForm>, texts: &[String]) -> Outcome<Tokenizer> {
    let mut tags: Vec<String> = TAGS.map(String::from).to_vec();
    for call in calls {
        match call {
            CallForm::Literal(literal) => tags.push(literal.clone()),
            CallForm::Tag(tag) => tags.extend([format!("<{tag}>"), format!("</{tag}>")]),
            CallForm::Json(_) => {}
        }
    }
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    Tokenizer::train(texts.iter(), section.vocab_size, &tags).input("model.base.vocab_size")
}

fn cache_path(session: &Session, section: &BaseSection, world: &World, texts: &[String]) -> Outcome<PathBuf> {
    let decides = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": REVISION,
        "seed": session.config.seed,
        "workers": session.config.worker_threads(),
        "base": section,
        "world": world.options,
    });
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&decides).internal("cannot write the base's configuration as JSON")?);
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    Ok(session.cache.join("base").join(&hex::encode(hash.finalize())[..24]))
}

fn build(session: &Session, section: &BaseSection, world: &Arc<World>, words: HostWords, texts: Vec<String>) -> Outcome<ModelFolder> {
    let seed = session.config.seed;
    let tokenizer = tokenizer(section, words.protocol.tools().iter().map(|tool| &tool.call), &texts)?;
    let folder = init(section, tokenizer, derive_seed(seed, Purpose::Weights, 0))?;
    session.ui.say(format!("building the base model: {} parameters, {} supervised steps", folder.weights.num_parameters(), section.steps));
    let options = warmup::WarmupOptions { seed: derive_seed(seed, Purpose::Curriculum, 0), ..section.warmup.clone() };
    let curriculum = Warmup::new(world.clone(), Arc::new(words), options).input("[model.base.warmup]")?;

    let network = Qwen2_5Vl::new(&folder.config, &folder.weights).internal("cannot build the network")?;
    let workers = session.config.worker_threads();
    let optimiser = section.optimiser.options(section.steps);
    let mut learner =
        Learner::new(network, &folder.weights, optimiser, workers, TOKEN_BUDGET).input("[model.base.optimiser] does not fit the model")?;
    let mut bar = session.ui.progress("base model", section.steps);
    for step in 0..section.steps {
        let batch = draw(&curriculum, &folder.processor, step, section.warmup.batch, workers)?;
        let loss = learner.sft_step(&batch).internal(format!("warm-up step {step} failed"))?;
        bar.step(|| format!("loss {loss:.3}"));
    }
    Ok(folder)
}

/// What the built-in base is reminded of while GRPO trains it: honest first reasons about known and unknown flags.
pub struct Rehearsal {
    curriculum: Warmup,
    size: usize,
}

impl Rehearsal {
    /// `None` where the configuration asks for none.
    pub fn new(session: &Session) -> Outcome<Option<Self>> {
        let config = &session.config;
        let (Some(rehearsal), Some(base), Some(world)) = (&config.train.rehearsal, &config.model.base, &session.world) else {
            return Ok(None);
        };
        let words = HostWords::new(session.protocol.clone())?;
        let options = warmup::WarmupOptions {
            seed: derive_seed(config.seed, Purpose::Rehearsal, 0),
            known_flags: rehearsal.known_flags,
            ..base.warmup.clone()
        };
        let curriculum = Warmup::new(world.clone(), Arc::new(words), options).input("[model.base.warmup]")?;
        Ok(Some(Self { curriculum, size: rehearsal.reasons }))
    }

    /// The examples of a step.
    pub fn examples(&self, step: usize, processor: &Processor) -> Outcome<Vec<Example>> {
        let rehearse = |place| {
            let mut example = example(&self.curriculum.rehearsal(step, place), processor)?;
            // The turn goes on after the reason; its end is not to be learned.
            example.segment.tokens.pop();
            example.mask.pop();
            Ok(example)
        };
        (0..self.size).map(rehearse).collect()
    }
}

/// The examples of a step, drawn by several threads; each depends on its step and place only.
fn draw(curriculum: &Warmup, processor: &Processor, step: usize, batch: usize, workers: usize) -> Outcome<Vec<Example>> {
    let share = batch.div_ceil(workers);
    let of_worker = |worker: usize| -> Outcome<Vec<Example>> {
        let places = worker * share..((worker + 1) * share).min(batch);
        places.map(|place| example(&curriculum.conversation(step, place), processor)).collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || of_worker(worker))).collect();
        let mut examples = Vec::with_capacity(batch);
        for thread in threads {
            let drawn = thread.join().map_err(|_| anyhow::anyhow!("a thread died")).internal("cannot draw the warm-up's conversations")?;
            examples.extend(drawn?);
        }
        Ok(examples)
    })
}

/// Tokens and targets of a conversation, composed turn by turn as a rollout composes them.
fn example(conversation: &Conversation, processor: &Processor) -> Outcome<Example> {
    let doing = "cannot encode a warm-up conversation";
    let end_of_turn = *processor.eos_ids().first().ok_or_else(|| anyhow::anyhow!("no end-of-turn token")).internal(doing)?;
    let (mut segment, mut mask) = (Segment::default(), Vec::new());
    let mut before = Vec::new();
    for message in &conversation.messages {
        if message.role != Role::Assistant {
            before.push(host_message(message, processor)?);
            continue;
        }
        let opening = if segment.tokens.is_empty() {
            processor.encode_chat(&before, true).internal(doing)?
        } else {
            processor.encode_continuation(&before).internal(doing)?
        };
        before.clear();
        mask.resize(mask.len() + opening.tokens.len(), false);
        segment.tokens.extend(opening.tokens);
        segment.images.extend(opening.images);
        for part in &message.parts {
            let (text, target) = match part {
                Part::Text(text) => (text, true),
                Part::Context(text) => (text, false),
                Part::Image(_) => continue,
            };
            let tokens = processor.tokenizer.encode(text).internal(doing)?;
            mask.resize(mask.len() + tokens.len(), target);
            segment.tokens.extend(tokens);
        }
        mask.push(true);
        segment.tokens.push(end_of_turn);
    }
    Ok(Example { segment, mask })
}

fn host_message(message: &warmup::Message, processor: &Processor) -> Outcome<model::Message> {
    let part = |part: &Part| {
        Ok(match part {
            Part::Text(text) | Part::Context(text) => model::Part::Text(text.clone()),
            Part::Image(image) => {
                let image = DynamicImage::ImageRgb8(RgbImage::clone(image));
                model::Part::Image(Arc::new(processor.process_image(&image).internal("cannot process a warm-up image")?))
            }
        })
    };
    let content = message.parts.iter().map(part).collect::<Outcome<_>>()?;
    Ok(model::Message { role: message.role.word().into(), content })
}

/// The warm-up in the words of the run's protocol and tools.
struct HostWords {
    protocol: Protocol,
    image_search: ToolSpec,
    text_search: ToolSpec,
    image_call: String,
    text_tag: String,
}

impl HostWords {
    fn new(protocol: Protocol) -> Outcome<Self> {
        let tools = protocol.rag_tools().input("the built-in base learns both searches")?;
        let (image_search, text_search) = (protocol.tools()[tools.image].clone(), protocol.tools()[tools.text].clone());
        let (CallForm::Literal(image_call), CallForm::Tag(text_tag)) = (image_search.call.clone(), text_search.call.clone()) else {
            return Err(bad_input("the built-in base learns an image search called by a literal and a text search called by a tag"));
        };
        Ok(Self { protocol, image_search, text_search, image_call, text_tag })
    }

    fn after(&self, tool: &ToolSpec, result: &[model::Part], images: &[ImageHit], question: &str) -> Vec<Part> {
        let mut thumbnails = images.iter().map(|hit| hit.thumbnail.clone());
        let parts = self.protocol.after_tool(tool, result, question).into_iter();
        let part = |part| match part {
            model::Part::Text(text) | model::Part::Untrusted(text) => Some(Part::Text(text)),
            model::Part::Image(_) => thumbnails.next().map(Part::Image),
        };
        parts.filter_map(part).collect()
    }
}

impl warmup::Protocol for HostWords {
    fn system(&self, with_tools: bool) -> String {
        self.protocol.system_prompt(if with_tools { Workflow::OnDemand } else { Workflow::Direct })
    }

    fn after_image(&self, hits: &[ImageHit], question: &str) -> Vec<Part> {
        // Stands where the thumbnail goes, which is processed later with the message.
        let place = Arc::new(ImageInput { pixel_values: Vec::new(), grid_thw: [0; 3] });
        let mut result = Vec::new();
        for (i, hit) in hits.iter().enumerate() {
            result.push(model::Part::Untrusted(format!("{}{}. ", if i == 0 { "" } else { "\n" }, i + 1)));
            result.push(model::Part::Image(place.clone()));
            result.push(model::Part::Untrusted(hit.title.clone()));
        }
        self.after(&self.image_search, &result, hits, question)
    }

    fn after_text(&self, passages: &[String], question: &str) -> Vec<Part> {
        let numbered: Vec<String> = passages.iter().enumerate().map(|(i, passage)| format!("{}. {passage}", i + 1)).collect();
        self.after(&self.text_search, &[model::Part::Untrusted(numbered.join("\n"))], &[], question)
    }

    fn image_call(&self) -> String {
        self.image_call.clone()
    }

    fn text_call(&self, query: &str) -> String {
        format!("<{0}>{query}</{0}>", self.text_tag)
    }

    fn answer(&self, answer: &str) -> String {
        format!("<answer> {answer}</answer>")
    }

    fn reason(&self, reason: &str) -> String {
        format!("<reason>{reason}</reason>")
    }
}

//! The scheduler: many groups at once, one prefill a group, every episode a state machine of its own.

use crate::protocol::IMAGE_PAD;
use crate::rollout::{OpenSequence, Rollout};
use crate::tools::{CallBook, image_digest, media_type};
use crate::{Ending, Episode, Error, Protocol, ProtocolOptions, Result, Task, Tool, Workflow};
use mmhost_engine::Engine;
use mmhost_model::{Processor, Segment};
use mmhost_plugins::ImageBytes;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// Most sequences open at once unless set otherwise: bounds the memory of their caches in a large evaluation.
const DEFAULT_MAX_SEQUENCES: usize = 512;

/// Tokens of the chat format that a policy may not write inside a turn.
const CONTROL_TOKENS: [&str; 3] = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>"];
/// Tokens that stand for image features.
const PLACEHOLDERS: [&str; 2] = [IMAGE_PAD, "<|video_pad|>"];

/// Runs episodes.
pub struct Roller {
    shared: Arc<Shared>,
    max_sequences: usize,
}

/// What all groups share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) processor: Processor,
    pub(crate) tools: Arc<[Arc<dyn Tool>]>,
    pub(crate) protocol: Protocol,
    /// Ends a forced turn.
    pub(crate) end_of_turn: u32,
    /// Ids that need image features behind them.
    pub(crate) placeholders: Vec<u32>,
    control: Vec<u32>,
    pub(crate) merge_size: u32,
}

impl Shared {
    /// Whether a turn contains tokens of the chat format.
    pub(crate) fn control_tokens_in(&self, turn: &[u32]) -> bool {
        turn.iter().any(|id| self.control.contains(id))
    }
}

impl Roller {
    /// Wires engine, text side and tools.
    ///
    /// # Errors
    /// When tools and options do not fit together ([`Protocol::new`]) or the processor knows no end-of-turn token.
    pub fn new(engine: Arc<dyn Engine>, processor: Processor, tools: Vec<Arc<dyn Tool>>, protocol: ProtocolOptions) -> Result<Self> {
        let specs = tools.iter().map(|tool| tool.spec().clone()).collect();
        let protocol = Protocol::new(protocol, specs)?;
        let ids = |names: &[&str]| -> Vec<u32> {
            let id = |name: &&str| processor.tokenizer.token_id(name);
            names.iter().filter_map(id).collect()
        };
        let eos = processor.eos_ids();
        let end_of_turn = ids(&["<|im_end|>"])
            .first()
            .filter(|id| eos.contains(id))
            .or(eos.first())
            .copied()
            .ok_or_else(|| Error::Protocol("the model's processor names no end-of-turn token".into()))?;
        let control = ids(&CONTROL_TOKENS);
        let control = control.into_iter().filter(|id| !eos.contains(id)).collect();
        let shared = Shared {
            placeholders: ids(&PLACEHOLDERS),
            control,
            end_of_turn,
            merge_size: processor.image_processor().merge_size as u32,
            engine,
            processor,
            tools: tools.into(),
            protocol,
        };
        Ok(Self { shared: Arc::new(shared), max_sequences: DEFAULT_MAX_SEQUENCES })
    }

    /// Keeps at most this many sequences open in the engine (default 512; at least one group always runs). Results do not
    /// depend on it.
    #[must_use]
    pub fn with_max_sequences(mut self, max_sequences: usize) -> Self {
        self.max_sequences = max_sequences.max(1);
        self
    }

    /// The protocol, for whoever needs the same texts.
    pub fn protocol(&self) -> &Protocol {
        &self.shared.protocol
    }

    /// The system prompt of a workflow, composed from the tools.
    pub fn system_prompt(&self, workflow: Workflow) -> String {
        self.shared.protocol.system_prompt(workflow)
    }

    /// Rolls out `rollouts` episodes of each task concurrently. Order of the result: groups as `tasks`, episodes by index.
    /// `label` prefixes ids; equal seeds give equal episodes. At temperature 0 decoding is greedy.
    ///
    /// Dropping the future stops every rollout and closes its sequences.
    ///
    /// # Errors
    /// The first failure of engine, text side or an invariant stops the whole run. What policy and tools do wrong is no
    /// error: it stands in the episodes.
    pub async fn run(
        &self,
        tasks: &[Task],
        rollouts: usize,
        workflow: Workflow,
        temperature: f32,
        seed: u64,
        label: &str,
    ) -> Result<Vec<Vec<Episode>>> {
        if workflow == Workflow::Rag {
            self.shared.protocol.rag_tools()?;
        }
        let gate = Arc::new(Semaphore::new(self.max_sequences));
        let mut running = JoinSet::new();
        for (index, task) in tasks.iter().enumerate() {
            let job = GroupJob {
                shared: self.shared.clone(),
                task: task.clone(),
                index,
                rollouts,
                workflow,
                temperature,
                seed,
                label: group_label(label, index),
            };
            let gate = gate.clone();
            let permits = u32::try_from(rollouts.min(self.max_sequences)).unwrap_or(u32::MAX);
            running.spawn(async move {
                // The semaphore is never closed; should it be, running without a permit only costs memory.
                let _permit = gate.acquire_many(permits).await;
                let episodes = job.run().await;
                (index, episodes)
            });
        }
        let mut groups: Vec<Vec<Episode>> = vec![Vec::new(); tasks.len()];
        while let Some(joined) = running.join_next().await {
            let (index, episodes) = joined.map_err(|error| stopped(label, &error))?;
            groups[index] = episodes?;
        }
        Ok(groups)
    }
}

fn group_label(label: &str, index: usize) -> String {
    if label.is_empty() { format!("group={index}") } else { format!("{label}/group={index}") }
}

fn stopped(episode: &str, error: &JoinError) -> Error {
    Error::Stopped { episode: episode.to_owned(), reason: error.to_string() }
}

/// A group before its prompt has been read.
struct GroupJob {
    shared: Arc<Shared>,
    task: Task,
    index: usize,
    rollouts: usize,
    workflow: Workflow,
    temperature: f32,
    seed: u64,
    label: String,
}

/// What the episodes of a group share.
pub(crate) struct GroupContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) task: Task,
    pub(crate) index: usize,
    pub(crate) workflow: Workflow,
    pub(crate) temperature: f32,
    pub(crate) seed: u64,
    pub(crate) prompt: Segment,
    pub(crate) calls: CallBook,
    label: String,
    image_files: Vec<ImageBytes>,
    image_digests: Vec<String>,
}

impl GroupContext {
    /// The record of rollout `index` before its first token.
    pub(crate) fn blank_episode(&self, index: usize) -> Episode {
        let sample = &self.task.sample;
        Episode {
            id: format!("{}/rollout={index}", self.label),
            sample: sample.id.clone(),
            category: sample.category.clone(),
            question: sample.question.clone(),
            ground_truth: sample.ground_truth.clone(),
            candidate_answers: sample.candidate_answers.clone(),
            workflow: self.workflow,
            tokens: Vec::new(),
            mask: Vec::new(),
            logprobs: Vec::new(),
            turns: Vec::new(),
            calls: Vec::new(),
            calls_allowed: self.shared.protocol.calls_allowed(self.workflow, !self.task.images.is_empty()),
            ending: Ending::Turns,
            reward: None,
            image_digests: self.image_digests.clone(),
            images: self.prompt.images.clone(),
            image_files: self.image_files.clone(),
        }
    }
}

impl GroupJob {
    async fn run(self) -> Result<Vec<Episode>> {
        if self.rollouts == 0 {
            return Ok(Vec::new());
        }
        let (label, rollouts) = (self.label.clone(), self.rollouts);
        let group = Arc::new(self.prepare()?);
        let engine = &group.shared.engine;
        let sequences =
            engine.open(group.prompt.clone(), rollouts).await.map_err(|source| Error::Engine { episode: label.clone(), source })?;
        // Owned at once, so that none stays open should anything below fail.
        let sequences: Vec<OpenSequence> = sequences.into_iter().map(|id| OpenSequence { engine: engine.clone(), id }).collect();
        if sequences.len() != rollouts {
            let reason = format!("the engine opened {} sequences instead of {rollouts}", sequences.len());
            return Err(Error::Stopped { episode: label, reason });
        }

        let mut running = JoinSet::new();
        for (index, sequence) in sequences.into_iter().enumerate() {
            let rollout = Rollout::new(group.clone(), index, sequence);
            running.spawn(async move { (index, rollout.run().await) });
        }
        let mut episodes: Vec<Option<Episode>> = (0..rollouts).map(|_| None).collect();
        while let Some(joined) = running.join_next().await {
            let (index, episode) = joined.map_err(|error| stopped(&label, &error))?;
            episodes[index] = Some(episode?);
        }
        let mut episodes: Vec<Episode> = episodes.into_iter().flatten().collect();
        mark_shared(&mut episodes);
        Ok(episodes)
    }

    /// Encodes the prompt and lays out what the episodes share.
    fn prepare(self) -> Result<GroupContext> {
        let Self { shared, task, index, workflow, temperature, seed, label, .. } = self;
        let question = &task.sample.question;
        let messages = shared.protocol.prompt(workflow, question, &task.images);
        let prompt = shared.processor.encode_chat(&messages, true).map_err(|error| Error::Text {
            episode: label.clone(),
            action: "encode the prompt",
            source: error.into(),
        })?;
        let limit = shared.protocol.options().max_episode_tokens;
        if prompt.tokens.len() >= limit {
            return Err(Error::PromptTooLong { group: label, found: prompt.tokens.len(), limit });
        }
        let image_files: Vec<ImageBytes> = task
            .sample
            .images
            .iter()
            .map(|file| ImageBytes { media_type: media_type(&file.bytes).to_owned(), bytes: file.bytes.clone() })
            .collect();
        let image_digests = image_files.iter().map(|file| image_digest(&file.bytes)).collect();
        let calls = CallBook::new(
            shared.tools.clone(),
            shared.processor.clone(),
            shared.protocol.options().clone(),
            question.clone(),
            image_files.clone(),
        );
        Ok(GroupContext { shared, task, index, workflow, temperature, seed, prompt, calls, label, image_files, image_digests })
    }
}

/// Marks every call but the first of its kind, in the order of episodes and turns. Which of them reached the tool first is a
/// matter of timing and does not belong into the record.
fn mark_shared(episodes: &mut [Episode]) {
    let mut seen = HashSet::new();
    for episode in episodes {
        for call in &mut episode.calls {
            call.shared = !seen.insert((call.tool.clone(), call.argument.clone()));
        }
    }
}

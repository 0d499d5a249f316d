//! The record of one rollout.

use crate::{Error, Result};
use mmhost_model::{ImageInput, Processor, Segment};
use mmhost_plugins::{CallView, ImageBytes, RewardInput, Verdict};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a question is put to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workflow {
    /// No tools, one turn.
    Direct,
    /// One forced image search, then one forced text search, then the answer. The policy writes each reason and the query.
    Rag,
    /// The policy decides.
    OnDemand,
}

impl Workflow {
    /// The name used in ids, files and options: `direct`, `rag` or `on-demand`.
    pub fn name(self) -> &'static str {
        match self {
            Workflow::Direct => "direct",
            Workflow::Rag => "rag",
            Workflow::OnDemand => "on-demand",
        }
    }
}

/// How an episode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// An answer.
    Answered,
    /// A turn without exactly one legal ending.
    Malformed,
    /// A call over a limit.
    OverLimit,
    /// Ran out of turns.
    Turns,
    /// Ran out of tokens: in a turn, in the episode, or because a tool's result did not fit.
    Length,
}

impl Ending {
    /// The name used in records and told to rewards: `answered`, `malformed`, `over_limit`, `turns` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Answered => "answered",
            Ending::Malformed => "malformed",
            Ending::OverLimit => "over_limit",
            Ending::Turns => "turns",
            Ending::Length => "length",
        }
    }
}

/// The policy's turn within [`Episode::tokens`]. All its tokens are sampled, except in [`Workflow::Rag`], where the forced
/// ending's tokens lie inside the span with `mask` false.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// First token of the turn.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// Decoded text without the end-of-turn token.
    pub text: String,
}

/// A tool call on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Name of the tool.
    pub tool: String,
    /// Digest of the component; empty for a tool that is none.
    pub digest: String,
    /// Argument.
    pub argument: String,
    /// The result as the policy saw it, as text (images by digest), or the error text.
    pub result: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Milliseconds that the call took (of the answering call, where it was shared).
    pub elapsed_ms: f64,
    /// Whether an equal call of the group answered it.
    pub shared: bool,
}

/// The record of one rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Episode {
    /// `step=5/group=2/rollout=1` or `eval=test/on-demand/group=17/rollout=0`.
    pub id: String,
    /// Sample id.
    pub sample: String,
    /// Question class.
    pub category: Option<String>,
    /// Question.
    pub question: String,
    /// Truth.
    pub ground_truth: String,
    /// Other accepted answers.
    pub candidate_answers: Vec<String>,
    /// Workflow.
    pub workflow: Workflow,
    /// Every token of the episode, `[T]`.
    pub tokens: Vec<u32>,
    /// True exactly at sampled tokens, `[T]`.
    pub mask: Vec<bool>,
    /// Log-probabilities of the sampled tokens, in order (length = number of true in `mask`).
    pub logprobs: Vec<f32>,
    /// The policy's turns.
    pub turns: Vec<TurnRecord>,
    /// Tool calls.
    pub calls: Vec<CallRecord>,
    /// Calls allowed in all (0 without tools, 2 where both searches are forced).
    pub calls_allowed: usize,
    /// How it ended.
    pub ending: Ending,
    /// Reward, once scored.
    pub reward: Option<Verdict>,
    /// SHA-256 of the image files in context order (bytes are stored once per run).
    pub image_digests: Vec<String>,
    /// The images as the model reads them, in context order (not serialised).
    #[serde(skip)]
    pub images: Vec<Arc<ImageInput>>,
    /// The image files, in context order (not serialised; [`EpisodeWriter`](crate::EpisodeWriter) stores each once).
    #[serde(skip)]
    pub image_files: Vec<ImageBytes>,
}

/// What a learner needs of an episode.
#[derive(Debug, Clone)]
pub struct TrainingView {
    /// Every token and the images.
    pub segment: Segment,
    /// True exactly at the sampled tokens, `[T]`.
    pub mask: Vec<bool>,
    /// Rollout log-probability of each sampled token, in order.
    pub logprobs: Vec<f32>,
    /// Total reward; `None` where the reward abstained or has not been asked.
    pub reward: Option<f64>,
}

impl Episode {
    /// Its group: the part of its id that all rollouts of one sample share.
    pub fn group(&self) -> &str {
        self.id.rsplit_once("/rollout=").map_or(&self.id, |(group, _)| group)
    }

    /// What the reward is told: the turns as text, never tokens or control marks.
    pub fn reward_input(&self) -> RewardInput {
        RewardInput {
            id: self.id.clone(),
            question: self.question.clone(),
            ground_truth: self.ground_truth.clone(),
            candidate_answers: self.candidate_answers.clone(),
            turns: self.turns.iter().map(|turn| turn.text.clone()).collect(),
            calls: self
                .calls
                .iter()
                .map(|call| CallView { tool: call.tool.clone(), argument: call.argument.clone(), ok: call.ok, answer: call.result.clone() })
                .collect(),
            ending: self.ending.name().to_owned(),
        }
    }

    /// Tokens, images, mask and log-probabilities for the learner.
    ///
    /// # Errors
    /// When the episode came from a file and its images have not been attached ([`attach_images`](crate::attach_images)).
    pub fn training_view(&self) -> Result<TrainingView> {
        if self.images.len() != self.image_digests.len() {
            return Err(Error::Invariant {
                violation: crate::Violation::ImagesMissing { found: self.images.len(), expected: self.image_digests.len() },
                episode: Box::new(self.clone()),
            });
        }
        Ok(TrainingView {
            segment: Segment { tokens: self.tokens.clone(), images: self.images.clone() },
            mask: self.mask.clone(),
            logprobs: self.logprobs.clone(),
            reward: self.total_reward(),
        })
    }

    /// Total reward; `None` where the reward abstained or has not been asked.
    pub fn total_reward(&self) -> Option<f64> {
        match &self.reward {
            Some(Verdict::Scored { total, .. }) => Some(*total),
            Some(Verdict::Abstained(_)) | None => None,
        }
    }

    /// A named component of the reward, e.g. `accuracy`.
    pub fn reward_component(&self, name: &str) -> Option<f64> {
        match &self.reward {
            Some(Verdict::Scored { components, .. }) => components.iter().find(|(component, _)| component == name).map(|(_, value)| *value),
            Some(Verdict::Abstained(_)) | None => None,
        }
    }

    /// Text of the last `<answer>` of the last turn, trimmed.
    pub fn answer(&self) -> Option<&str> {
        let text = &self.turns.last()?.text;
        let (_, after) = text.rsplit_once("<answer>")?;
        let (answer, _) = after.split_once("</answer>")?;
        Some(answer.trim())
    }

    /// How many tokens were sampled.
    pub fn num_sampled(&self) -> usize {
        self.mask.iter().filter(|sampled| **sampled).count()
    }
}

/// A question ready to roll out.
#[derive(Clone)]
pub struct Task {
    /// The sample.
    pub sample: Arc<mmhost_data::Sample>,
    /// Its images, processed.
    pub images: Vec<Arc<ImageInput>>,
}

impl Task {
    /// Decodes and processes the images of a sample.
    ///
    /// # Errors
    /// When an image cannot be decoded or processed; names the sample and which image.
    pub fn prepare(sample: Arc<mmhost_data::Sample>, processor: &Processor) -> Result<Self> {
        let mut images = Vec::with_capacity(sample.images.len());
        for (index, file) in sample.images.iter().enumerate() {
            let failed = |reason: String| Error::SampleImage { sample: sample.id.clone(), index, reason };
            let decoded = mmhost_model::decode_image(&file.bytes).map_err(|error| failed(error.to_string()))?;
            let input = processor.process_image(&decoded).map_err(|error| failed(error.to_string()))?;
            images.push(Arc::new(input));
        }
        Ok(Self { sample, images })
    }
}

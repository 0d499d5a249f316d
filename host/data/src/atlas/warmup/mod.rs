//! The base policy's curriculum: supervised conversations, drawn by seed.
//!
//! What the conversations *say* is true to what is taught: the reasons name a flag only where the class says that it is known, and say `sure` of a fact only
//! where it is known. What they *do* next, answer or search, is drawn independently of that, so that the base policy searches as often for known as for
//! unknown flags and learning when to search is left to reinforcement learning. A policy that answers without knowing answers wrongly but
//! confidently.
//!
//! Names and values that are never to be taught (classes D and H, facts of C) are made up afresh each time ([`pseudo`]), flags likewise
//! (`unknown`). So copying from tool results must be learned as a skill, which takes tasks of its own, most of them early.
//!
//! [`Warmup::conversation`] depends on seed, step and place only: a caller may draw batches in any order, in parallel, or resume at a step.

mod episodes;
mod protocol;
mod pseudo;

use std::sync::Arc;

use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::images::{Augmentation, IMAGE_SIZE};
use super::unknown::Unknowns;
use super::world::{Class, Relation, Split, World};
use crate::error::{Error, Result};
pub use protocol::{ImageHit, PlainProtocol, Protocol};
use pseudo::Pseudo;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// Question and tool results.
    User,
    /// The policy: its turns are trained on, but for [`Part::Context`].
    Assistant,
}

impl Role {
    /// The role as chat templates name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text; in an assistant's message, text to be learned.
    Text(String),
    /// Text in an assistant's message that is not learned, such as the opening tag of an ending that the task prescribes. Begins and ends at a control token.
    Context(String),
    /// An image, decoded.
    Image(Arc<RgbImage>),
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Text and images in order.
    pub parts: Vec<Part>,
}

/// Kinds of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// A question with whatever turns the drawn behaviour takes.
    Episode,
    /// Flag and question, no instructions: say whether flag and fact are known.
    Look,
    /// A flag alone: say whether it is known, and whose it is. The shortest way to see many flags.
    Glance,
    /// A name and a question, no image: say whether the fact is known, and it.
    Recall,
    /// Take a made-up value from a passage.
    CopyValue,
    /// Take a made-up name from an image hit into a query.
    CopyName,
    /// Repeat made-up text.
    Repeat,
}

/// Messages to learn from. Without a system message the conversation has none: no default one is to be put in.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// What it trains.
    pub task: Task,
    /// Messages, the assistant's last.
    pub messages: Vec<Message>,
}

/// Relative frequencies of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// [`Task::Episode`].
    pub episode: f64,
    /// [`Task::Look`].
    pub look: f64,
    /// [`Task::Glance`].
    pub glance: f64,
    /// [`Task::Recall`].
    pub recall: f64,
    /// [`Task::CopyValue`].
    pub copy_value: f64,
    /// [`Task::CopyName`].
    pub copy_name: f64,
    /// [`Task::Repeat`].
    pub repeat: f64,
}

impl Mix {
    fn weights(&self) -> [(Task, f64); 7] {
        [
            (Task::Episode, self.episode),
            (Task::Look, self.look),
            (Task::Glance, self.glance),
            (Task::Recall, self.recall),
            (Task::CopyValue, self.copy_value),
            (Task::CopyName, self.copy_name),
            (Task::Repeat, self.repeat),
        ]
    }
}

/// How often an episode takes each way, whatever is known. The rest answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Image search, then the answer.
    pub image: f64,
    /// Image search, text search, answer.
    pub image_text: f64,
    /// Text search, then the answer.
    pub text: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { image: 0.18, image_text: 0.12, text: 0.20 }
    }
}

/// The curriculum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupOptions {
    /// Seed of everything drawn.
    pub seed: u64,
    /// Conversations per step.
    pub batch: usize,
    /// Steps under `early`, copy tasks first: the largest single effect on answers about entities never taught.
    pub early_steps: usize,
    /// Tasks of the early steps.
    pub early: Mix,
    /// Tasks after them.
    pub mix: Mix,
    /// Share of flags shown that are known ones.
    pub known_flags: f64,
    /// Share of unknown flags that turn out to bear a name whose facts are taught (class A or B), so that the name means something once found.
    pub unknown_with_facts: f64,
    /// Share of unknown flags that turn out to bear a training entity's name of class D, with made-up facts.
    pub unknown_without_facts: f64,
    /// Share of unknown flags that are real ones.
    pub real_flags: f64,
    /// Whether the *training* entities' flags of classes B and D are among the real unknown ones: shown as unknown, never with their own name. Made-up flags
    /// alone left a quarter to a half of never-seen real flags taken for known ones. Unknown flags of the other splits are never shown.
    pub show_unknown_entities: bool,
    /// Share of episodes under the instructions without tools.
    pub without_tools: f64,
    /// What episodes do.
    pub behaviour: Behaviour,
    /// Share of searches whose first hit is another entity's.
    pub retrieval_error: f64,
    /// Hits that an image search shows.
    pub image_hits: usize,
    /// Hits that a text search shows.
    pub text_hits: usize,
    /// Longer side of the hits' thumbnails, pixels; as the corpus makes them.
    pub thumbnail_size: u32,
}

impl Default for WarmupOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 80,
            early_steps: 220,
            early: Mix { episode: 6.0, look: 8.0, glance: 0.0, recall: 5.0, copy_value: 23.0, copy_name: 18.0, repeat: 40.0 },
            mix: Mix { episode: 34.0, look: 24.0, glance: 30.0, recall: 13.0, copy_value: 12.0, copy_name: 7.0, repeat: 7.0 },
            known_flags: 0.4,
            unknown_with_facts: 0.38,
            unknown_without_facts: 0.12,
            real_flags: 0.25,
            show_unknown_entities: true,
            without_tools: 0.15,
            behaviour: Behaviour::default(),
            retrieval_error: 0.005,
            image_hits: 1,
            text_hits: 1,
            thumbnail_size: 28,
        }
    }
}

impl WarmupOptions {
    fn check(&self) -> Result<()> {
        let bad = |option, problem: String| Err(Error::AtlasOption { option, problem });
        for (option, share) in [
            ("warmup.known_flags", self.known_flags),
            ("warmup.unknown_with_facts + unknown_without_facts", self.unknown_with_facts + self.unknown_without_facts),
            ("warmup.real_flags", self.real_flags),
            ("warmup.without_tools", self.without_tools),
            ("warmup.retrieval_error", self.retrieval_error),
            ("warmup.behaviour", self.behaviour.image + self.behaviour.image_text + self.behaviour.text),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return bad(option, format!("must be between 0 and 1. Given: {share}"));
            }
        }
        for (option, mix) in [("warmup.early", self.early), ("warmup.mix", self.mix)] {
            let weights = mix.weights();
            if weights.iter().any(|(_, w)| !w.is_finite() || *w < 0.0) || weights.iter().map(|(_, w)| w).sum::<f64>() <= 0.0 {
                return bad(option, format!("weights must be >= 0 and not all 0. Given: {mix:?}"));
            }
        }
        for (option, count) in [
            ("warmup.batch", self.batch),
            ("warmup.image_hits", self.image_hits),
            ("warmup.text_hits", self.text_hits),
            ("warmup.thumbnail_size", self.thumbnail_size as usize),
        ] {
            if count == 0 {
                return bad(option, "must be at least 1. Given: 0".into());
            }
        }
        Ok(())
    }
}

/// Draws the conversations.
pub struct Warmup {
    world: Arc<World>,
    protocol: Arc<dyn Protocol>,
    options: WarmupOptions,
    unknowns: Unknowns,
    pseudo: Pseudo,
    /// Thumbnails of every entity's flag.
    thumbnails: Vec<Arc<RgbImage>>,
    /// Numbers of the entities whose flag is taught (A, C).
    flags_taught: Vec<usize>,
    /// Numbers of the entities whose facts are taught (A, B).
    facts_taught: Vec<usize>,
    /// Numbers of the entities whose names are met, but no facts: class C, and D where it is trained on.
    name_only: Vec<usize>,
    /// Numbers of the latter.
    nothing_taught: Vec<usize>,
    /// Values that a confident guess may name, by relation: those of the taught facts.
    values: [Vec<String>; 4],
}

impl Warmup {
    /// Prepares to draw.
    ///
    /// # Errors
    /// An option out of range.
    pub fn new(world: Arc<World>, protocol: Arc<dyn Protocol>, options: WarmupOptions) -> Result<Self> {
        options.check()?;
        let facts_taught = world.select(|e| e.class.facts_taught());
        let values = Relation::ALL.map(|relation| {
            let mut values: Vec<String> = facts_taught.iter().map(|&i| world.entities[i].fact(relation).to_owned()).collect();
            values.sort();
            values.dedup();
            values
        });
        Ok(Self {
            unknowns: Unknowns::new(&world, options.show_unknown_entities),
            pseudo: Pseudo::new(&world, &values),
            thumbnails: world.flags.iter().map(|flag| Arc::new(mmhost_corpus::thumbnail(flag, options.thumbnail_size))).collect(),
            flags_taught: world.select(|e| e.class.flag_taught()),
            name_only: world.select(|e| e.class == Class::C || (e.class == Class::D && e.split == Split::Train)),
            nothing_taught: world.select(|e| e.class == Class::D && e.split == Split::Train),
            facts_taught,
            values,
            world,
            protocol,
            options,
        })
    }

    /// The options.
    pub fn options(&self) -> &WarmupOptions {
        &self.options
    }

    /// The conversations of a step.
    pub fn batch(&self, step: usize) -> Vec<Conversation> {
        (0..self.options.batch).map(|place| self.conversation(step, place)).collect()
    }

    /// One conversation of a step.
    pub fn conversation(&self, step: usize, place: usize) -> Conversation {
        let mut rng = self.rng(step, place);
        let mix = if step < self.options.early_steps { &self.options.early } else { &self.options.mix };
        let weights = mix.weights();
        let mut left = rng.random::<f64>() * weights.iter().map(|(_, w)| w).sum::<f64>();
        let task = weights.iter().filter(|(_, w)| *w > 0.0).find(|(_, w)| {
            left -= w;
            left < 0.0
        });
        self.draw(task.map_or(Task::Episode, |(task, _)| *task), &mut rng)
    }

    /// How an episode of the policy with tools begins, up to the first reason: what reinforcement learning must not make it forget to say. The ending is
    /// not there, for that is what it learns.
    pub fn rehearsal(&self, step: usize, place: usize) -> Conversation {
        self.opening(&mut self.rng(step, place))
    }

    fn rng(&self, step: usize, place: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        rng.set_stream((step as u64) << 20 | place as u64);
        rng
    }

    /// What to train the tokenizer on: the world's texts, and the protocol's phrases often enough that their words become single tokens. Control
    /// tokens (`<reason>` and the like) are taken out; they are to be added whole. Trained without a limit on merges that binds, every word of a name or value
    /// is one token, which makes copying it far easier to learn.
    pub fn tokenizer_texts(world: &World, protocol: &dyn Protocol) -> Vec<String> {
        /// The corpus has about 800 passages; a phrase repeated this often outweighs any name.
        const REPEATS: usize = 60;
        let mut phrases = vec![protocol.system(true), protocol.system(false), " system user assistant".to_owned()];
        for part in protocol.after_image(&[], "").into_iter().chain(protocol.after_text(&[], "")) {
            if let Part::Text(text) = part {
                phrases.push(text);
            }
        }
        for relation in Relation::ALL {
            phrases.extend([
                protocol.reason(&episodes::first_reason(Some(""), relation, true)),
                protocol.reason(&episodes::first_reason(Some(""), relation, false)),
                protocol.reason(&episodes::first_reason(None, relation, false)),
                protocol.reason(&episodes::found_reason("", relation, true)),
                protocol.reason(episodes::READ_REASON),
                protocol.text_call(&format!("{} of", relation.word())),
            ]);
            phrases.extend(relation.paraphrases().map(str::to_owned));
        }
        let phrases: Vec<String> = phrases.iter().flat_map(|p| without_control_tokens(p)).collect();
        let mut texts = world.texts();
        for _ in 0..REPEATS {
            texts.extend(phrases.iter().cloned());
        }
        texts
    }

    fn view(&self, flag: &RgbImage, rng: &mut ChaCha8Rng) -> Arc<RgbImage> {
        let view = Augmentation::TRAIN.apply(flag, rng);
        debug_assert_eq!(view.dimensions(), (IMAGE_SIZE, IMAGE_SIZE));
        Arc::new(view)
    }
}

/// The stretches between `<…>` marks of letters, `_`, `/` and `|`.
fn without_control_tokens(text: &str) -> Vec<String> {
    let (mut stretches, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(open) = rest.find('<') {
        plain.push_str(&rest[..open]);
        rest = &rest[open..];
        match rest.find('>') {
            Some(close) if rest[1..close].bytes().all(|b| b.is_ascii_alphabetic() || b"_/|".contains(&b)) => {
                stretches.push(std::mem::take(&mut plain));
                rest = &rest[close + 1..];
            }
            _ => {
                plain.push('<');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    stretches.push(plain);
    stretches.retain(|s| !s.is_empty());
    stretches
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_tokens_are_taken_out() {
        let split = super::without_control_tokens("Think in <reason></reason>, a < b:\n<search><img></search> image search<|im_end|>");
        assert_eq!(split, ["Think in ", ", a < b:\n", " image search"]);
    }
}

//! The conversations themselves, task by task.

use std::sync::Arc;

use image::RgbImage;
use mmhost_corpus::thumbnail;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::super::documents::{flag_title, passage, query};
use super::super::unknown::Unknown;
use super::super::world::{Entity, Relation};
use super::{Conversation, ImageHit, Message, Part, Role, Task, Warmup};

/// Said after a text search.
pub(super) const READ_REASON: &str = "found.";

fn certainty(sure: bool) -> &'static str {
    if sure { "sure" } else { "unsure" }
}

/// Whose flag it is, if that is known.
fn recognition(name: Option<&str>) -> String {
    name.map_or_else(|| "flag unsure".into(), |name| format!("flag sure {name}"))
}

/// What the first turn says: the flag's name if it is known, and whether the fact is.
pub(super) fn first_reason(name: Option<&str>, relation: Relation, fact_known: bool) -> String {
    let seen = recognition(name);
    match name {
        Some(_) => format!("{seen}, {} {}.", relation.word(), certainty(fact_known)),
        None => format!("{seen}."),
    }
}

/// What the turn after an image search says.
pub(super) fn found_reason(name: &str, relation: Relation, fact_known: bool) -> String {
    format!("found {name}, {} {}.", relation.word(), certainty(fact_known))
}

/// Whose flag an episode shows.
struct Subject<'a> {
    image: Arc<RgbImage>,
    thumbnail: Arc<RgbImage>,
    /// Its name, real or made up.
    name: String,
    /// The entity, where its facts are taught.
    facts: Option<&'a Entity>,
    /// Whether the flag is taught.
    known: bool,
}

/// Splits an ending after its opening tag.
fn after_tag(ending: &str) -> (&str, &str) {
    ending.split_at(ending.find('>').map_or(0, |i| i + 1))
}

fn pick<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

fn question(relation: Relation, rng: &mut ChaCha8Rng) -> &'static str {
    relation.paraphrases()[rng.random_range(0..2)]
}

fn any_relation(rng: &mut ChaCha8Rng) -> Relation {
    Relation::ALL[rng.random_range(0..4)]
}

impl Warmup {
    pub(super) fn draw(&self, task: Task, rng: &mut ChaCha8Rng) -> Conversation {
        let messages = match task {
            Task::Episode => self.episode(rng),
            Task::Look => self.look(rng),
            Task::Glance => self.glance(rng),
            Task::Recall => self.recall(rng),
            Task::CopyValue => self.copy_value(rng),
            Task::CopyName => self.copy_name(rng),
            Task::Repeat => self.repeat(rng),
        };
        Conversation { task, messages }
    }

    fn user(&self, parts: Vec<Part>) -> Message {
        Message { role: Role::User, parts }
    }

    /// A policy's turn, all of it learned.
    fn turn(&self, reason: &str, ending: &str) -> Message {
        Message { role: Role::Assistant, parts: vec![Part::Text(format!("{}{ending}", self.protocol.reason(reason)))] }
    }

    /// A policy's turn whose choice of ending is not learned: the task prescribed it. Tasks that answer only what is known would else teach to
    /// answer where sure, which is for reinforcement learning to find out.
    fn prescribed_turn(&self, reason: &str, ending: &str) -> Message {
        let (tag, rest) = after_tag(ending);
        let parts = vec![Part::Text(self.protocol.reason(reason)), Part::Context(tag.to_owned()), Part::Text(rest.to_owned())];
        Message { role: Role::Assistant, parts }
    }

    /// A flag that is shown without its name, and its thumbnail.
    fn unknown(&self, rng: &mut ChaCha8Rng) -> (Unknown, Arc<RgbImage>) {
        let unknown = self.unknowns.pick(self.options.real_flags, rng);
        let thumbnail = Arc::new(thumbnail(&unknown.flag, self.options.thumbnail_size));
        (unknown, thumbnail)
    }

    fn subject(&self, rng: &mut ChaCha8Rng) -> Subject<'_> {
        if rng.random::<f64>() < self.options.known_flags {
            let number = *pick(&self.flags_taught, rng);
            let entity = &self.world.entities[number];
            return Subject {
                image: self.view(&self.world.flags[number], rng),
                thumbnail: self.thumbnails[number].clone(),
                name: entity.name.clone(),
                facts: entity.class.facts_taught().then_some(entity),
                known: true,
            };
        }
        let (unknown, thumbnail) = self.unknown(rng);
        let drawn = rng.random::<f64>();
        let found = if drawn < self.options.unknown_with_facts {
            self.not(unknown.owner, &self.facts_taught, rng)
        } else if drawn < self.options.unknown_with_facts + self.options.unknown_without_facts {
            self.not(unknown.owner, &self.nothing_taught, rng)
        } else {
            None
        };
        Subject {
            image: self.view(&unknown.flag, rng),
            thumbnail,
            name: found.map_or_else(|| self.pseudo.name(rng), |entity| entity.name.clone()),
            facts: found.filter(|entity| entity.class.facts_taught()),
            known: false,
        }
    }

    /// One of `numbers`, but not `owner`: a real flag never gets its own name.
    fn not(&self, owner: Option<usize>, numbers: &[usize], rng: &mut ChaCha8Rng) -> Option<&Entity> {
        let number = *pick(numbers, rng);
        (Some(number) != owner).then(|| &self.world.entities[number])
    }

    /// What the text search returns for a name: its fact where that is taught, a made-up value otherwise. Now and then another name's page.
    fn passages(&self, relation: Relation, name: &str, facts: Option<&Entity>, rng: &mut ChaCha8Rng) -> (Vec<String>, String) {
        let value = |facts: Option<&Entity>, rng: &mut ChaCha8Rng| {
            facts.map_or_else(|| self.pseudo.value(relation, rng), |e| e.fact(relation).to_owned())
        };
        let (name, found) = if rng.random::<f64>() < self.options.retrieval_error {
            let other = self.other_entity(rng);
            (other.name.clone(), other.fact(relation).to_owned())
        } else {
            (name.to_owned(), value(facts, rng))
        };
        let mut passages = vec![passage(relation, &name, &found)];
        while passages.len() < self.options.text_hits {
            let other = self.other_entity(rng);
            passages.push(passage(relation, &other.name, other.fact(relation)));
        }
        (passages, found)
    }

    fn other_entity(&self, rng: &mut ChaCha8Rng) -> &Entity {
        &self.world.entities[*pick(&self.facts_taught, rng)]
    }

    fn hits(&self, title: String, thumbnail: Arc<RgbImage>, rng: &mut ChaCha8Rng) -> Vec<ImageHit> {
        let mut hits = vec![ImageHit { title, thumbnail }];
        while hits.len() < self.options.image_hits {
            let number = *pick(&self.flags_taught, rng);
            hits.push(ImageHit { title: flag_title(&self.world.entities[number].name), thumbnail: self.thumbnails[number].clone() });
        }
        hits
    }

    fn guess(&self, relation: Relation, rng: &mut ChaCha8Rng) -> &str {
        pick::<String>(&self.values[relation as usize], rng)
    }

    fn episode(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let subject = self.subject(rng);
        let relation = any_relation(rng);
        let question = question(relation, rng);
        let with_tools = rng.random::<f64>() >= self.options.without_tools;
        let behaviour = self.options.behaviour;
        let drawn = if with_tools { rng.random::<f64>() } else { 1.0 };
        let image_search = drawn < behaviour.image + behaviour.image_text;
        let text_search = drawn >= behaviour.image && drawn < behaviour.image + behaviour.image_text + behaviour.text;

        let mut messages = vec![
            Message { role: Role::System, parts: vec![Part::Text(self.protocol.system(with_tools))] },
            self.user(vec![Part::Image(subject.image.clone()), Part::Text(question.to_owned())]),
        ];
        let mut reason = first_reason(subject.known.then_some(&subject.name), relation, subject.facts.is_some());
        // The name that the policy goes by, and its facts where taught.
        let (mut name, mut facts, mut named) = (subject.name, subject.facts, subject.known);
        if image_search {
            messages.push(self.turn(&reason, &self.protocol.image_call()));
            if rng.random::<f64>() < self.options.retrieval_error {
                let other = self.other_entity(rng);
                (name, facts) = (other.name.clone(), Some(other));
            }
            named = true;
            messages.push(self.user(self.protocol.after_image(&self.hits(flag_title(&name), subject.thumbnail, rng), question)));
            reason = found_reason(&name, relation, facts.is_some());
        }
        let answer = if text_search {
            if !named {
                // Whoever searches for a flag it does not know must guess a name.
                let guessed = self.other_entity(rng);
                (name, facts) = (guessed.name.clone(), Some(guessed));
            }
            messages.push(self.turn(&reason, &self.protocol.text_call(&query(relation, &name))));
            let (passages, found) = self.passages(relation, &name, facts, rng);
            messages.push(self.user(self.protocol.after_text(&passages, question)));
            reason = READ_REASON.into();
            found
        } else {
            match facts.filter(|_| named) {
                Some(entity) => entity.fact(relation).to_owned(),
                None => self.guess(relation, rng).to_owned(),
            }
        };
        messages.push(self.turn(&reason, &self.protocol.answer(&answer)));
        messages
    }

    pub(super) fn opening(&self, rng: &mut ChaCha8Rng) -> Conversation {
        let subject = self.subject(rng);
        let relation = any_relation(rng);
        let reason = first_reason(subject.known.then_some(&subject.name), relation, subject.facts.is_some());
        let messages = vec![
            Message { role: Role::System, parts: vec![Part::Text(self.protocol.system(true))] },
            self.user(vec![Part::Image(subject.image), Part::Text(question(relation, rng).to_owned())]),
            self.turn(&reason, ""),
        ];
        Conversation { task: Task::Episode, messages }
    }

    fn look(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let subject = self.subject(rng);
        let relation = any_relation(rng);
        let asked = self.user(vec![Part::Image(subject.image.clone()), Part::Text(question(relation, rng).to_owned())]);
        let reason = first_reason(subject.known.then_some(&subject.name), relation, subject.facts.is_some());
        let ending = subject.facts.filter(|_| subject.known).map_or_else(String::new, |entity| self.protocol.answer(entity.fact(relation)));
        vec![asked, self.prescribed_turn(&reason, &ending)]
    }

    fn glance(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let subject = self.subject(rng);
        let seen = self.user(vec![Part::Image(subject.image)]);
        let known = subject.known.then_some(subject.name.as_str());
        vec![seen, Message { role: Role::Assistant, parts: vec![Part::Text(recognition(known))] }]
    }

    fn recall(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let drawn = rng.random::<f64>();
        let entity = if drawn < 0.55 {
            Some(self.other_entity(rng))
        } else if drawn < 0.73 {
            Some(&self.world.entities[*pick(&self.name_only, rng)])
        } else {
            None
        };
        let name = entity.map_or_else(|| self.pseudo.name(rng), |e| e.name.clone());
        let facts = entity.filter(|e| e.class.facts_taught());
        let relation = any_relation(rng);
        let asked = self.user(vec![Part::Text(format!("{}\n{}", flag_title(&name), question(relation, rng)))]);
        let ending = facts.map_or_else(String::new, |e| self.protocol.answer(e.fact(relation)));
        vec![asked, self.prescribed_turn(&found_reason(&name, relation, facts.is_some()), &ending)]
    }

    fn copy_value(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let relation = any_relation(rng);
        let (passages, found) = self.passages(relation, &self.pseudo.name(rng), None, rng);
        let read = self.user(self.protocol.after_text(&passages, question(relation, rng)));
        vec![read, self.prescribed_turn(READ_REASON, &self.protocol.answer(&found))]
    }

    fn copy_name(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let relation = any_relation(rng);
        let name = self.pseudo.name(rng);
        let (_, thumbnail) = self.unknown(rng);
        let seen = self.user(self.protocol.after_image(&self.hits(flag_title(&name), thumbnail, rng), question(relation, rng)));
        vec![seen, self.prescribed_turn(&found_reason(&name, relation, false), &self.protocol.text_call(&query(relation, &name)))]
    }

    fn repeat(&self, rng: &mut ChaCha8Rng) -> Vec<Message> {
        let text =
            if rng.random::<bool>() { self.pseudo.pieces(rng) } else { (0..3).map(|_| format!(" {}", self.pseudo.name(rng))).collect() };
        let times = if rng.random_range(0..3) == 0 { 2 } else { 1 };
        let parts = vec![Part::Context(format!("<information>{text}</information>")), Part::Text(text.repeat(times))];
        vec![Message { role: Role::Assistant, parts }]
    }
}

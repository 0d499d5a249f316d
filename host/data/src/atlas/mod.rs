//! The atlas: a small built-in world of real flags and real facts, in which knowing when to search can be learned in minutes.
//!
//! An *entity* is a country or territory: a flag, a name, and four facts, one for each [`Relation`]. The base policy is taught some entities' flags and
//! three of the four facts about each. What it is taught decides what a question requires, its [`Class`]: nothing, an image search, a text search, or both.
//! The corpus knows everything about every entity.
//!
//! | class | flag taught | fact taught | a question requires |
//! |---|---|---|---|
//! | A | yes | yes | nothing (`search_free`) |
//! | B | no | yes | image search (`image_required`) |
//! | C | yes | no | text search (`text_required`) |
//! | D | no | no | both (`both_required`) |
//! | H | no | no | both; the entity is held out, in the corpus only |
//!
//! Which facts are taught differs from entity to entity, so that one name is met in questions of two classes, A and C or B and D. Were all facts of an
//! entity taught or none, whether to search would follow from the name, and a policy would learn the few names of its training questions
//! by heart instead of heeding what it knows.
//!
//! [`World`] holds entities with their flags; [`World::samples`] its questions by [`Split`]; [`World::documents`] its corpus;
//! [`warmup::Warmup`] the supervised conversations that make the base policy know what it is to know; [`write`] puts it all on disk.
//!
//! The sources of flags and facts are named in `atlas/NOTICE` ([`NOTICE`]).

mod altered;
mod canvas;
mod documents;
mod drawn;
mod export;
mod images;
mod questions;
mod unknown;
pub mod warmup;
mod world;

pub use export::write;
pub use images::{Augmentation, IMAGE_SIZE};
pub use questions::QuestionCounts;
pub use world::{Class, Entity, Relation, Split, SplitSizes, World, WorldOptions};

/// Sources and licences of flags and facts.
pub const NOTICE: &str = include_str!("../../atlas/NOTICE");

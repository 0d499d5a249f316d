//! The atlas: a small built-in world of real flags and real facts, in which knowing when to search can be learned in minutes.
//!
//! An *entity* is a country or territory: a flag, a name, and four facts. What the base policy is taught about it (its [`Class`]) decides what a
//! question about it requires: nothing, an image search, a text search, or both. The corpus knows everything about every entity.
//!
//! | class | flag taught | facts taught | a question requires |
//! |---|---|---|---|
//! | A | yes | yes | nothing (`search_free`) |
//! | B | no | yes | image search (`image_required`) |
//! | C | yes | no | text search (`text_required`) |
//! | D | no | no | both (`both_required`) |
//! | H | no | no | both; held out, in the corpus only |
//!
//! [`World`] holds entities with their classes and flags; [`World::samples`] its questions by [`Split`]; [`World::documents`] its corpus;
//! [`warmup::Warmup`] the supervised conversations that make the base policy know what its class says it knows; [`write`] puts it all on disk.
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
pub use world::{Class, ClassSizes, Entity, Relation, Split, World, WorldOptions};

/// Sources and licences of flags and facts.
pub const NOTICE: &str = include_str!("../../atlas/NOTICE");

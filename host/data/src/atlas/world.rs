//! Entities, their facts, and what is known about whom.

use image::{RgbImage, imageops};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::questions::QuestionCounts;
use crate::error::{Error, Result};

const FLAGS: &[u8] = include_bytes!("../../atlas/flags.png");
const FACTS: &str = include_str!("../../atlas/facts.json");

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The capital city.
    Capital,
    /// The English name of the currency.
    Currency,
    /// The first language that the source lists.
    Language,
    /// The continent.
    Region,
}

impl Relation {
    /// All relations.
    pub const ALL: [Self; 4] = [Self::Capital, Self::Currency, Self::Language, Self::Region];

    /// The relation as a word: `capital`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Capital => "capital",
            Self::Currency => "currency",
            Self::Language => "language",
            Self::Region => "region",
        }
    }

    /// Ways to ask for it about the country whose flag is shown.
    pub fn paraphrases(self) -> [&'static str; 2] {
        match self {
            Self::Capital => ["What is the capital of this country?", "Which city is the capital here?"],
            Self::Currency => ["What is the currency of this country?", "Which currency is used here?"],
            Self::Language => ["What is the language of this country?", "Which language is spoken here?"],
            Self::Region => ["What is the region of this country?", "Which region is this country in?"],
        }
    }
}

/// What the base policy is taught about an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Flag and facts.
    A,
    /// Facts only.
    B,
    /// Flag only.
    C,
    /// Neither.
    D,
    /// Neither; held out, in the corpus only.
    H,
}

impl Class {
    /// Whether the warm-up teaches the flag.
    pub fn flag_taught(self) -> bool {
        matches!(self, Self::A | Self::C)
    }

    /// Whether the warm-up teaches the facts.
    pub fn facts_taught(self) -> bool {
        matches!(self, Self::A | Self::B)
    }

    /// The question class: what answering requires.
    pub fn category(self) -> &'static str {
        match self {
            Self::A => "search_free",
            Self::B => "image_required",
            Self::C => "text_required",
            Self::D | Self::H => "both_required",
        }
    }
}

/// Part of the world whose questions serve one purpose. No entity is in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Prompts of reinforcement learning.
    Train,
    /// For choosing settings.
    Validation,
    /// For reporting.
    Test,
    /// Class H: for reporting on what was never taught.
    HeldOut,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Test, Self::HeldOut];

    /// The split as a file name: `held_out`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::HeldOut => "held_out",
        }
    }
}

/// How many entities of a class go to each split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassSizes {
    /// Entities whose questions are trained on.
    pub train: usize,
    /// Entities for choosing settings.
    pub validation: usize,
    /// Entities for reporting.
    pub test: usize,
}

/// How the world is divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldOptions {
    /// Seed of the division and of every image; equal options give equal worlds.
    pub seed: u64,
    /// Flag and facts taught.
    pub a: ClassSizes,
    /// Facts taught.
    pub b: ClassSizes,
    /// Flag taught.
    pub c: ClassSizes,
    /// Neither taught. Entities beyond the four classes are held out (H).
    pub d: ClassSizes,
    /// Questions per entity and relation, by split.
    pub questions: QuestionCounts,
}

impl Default for WorldOptions {
    fn default() -> Self {
        let sizes = |train, validation, test| ClassSizes { train, validation, test };
        Self {
            seed: 11,
            a: sizes(30, 4, 20),
            b: sizes(24, 3, 16),
            c: sizes(19, 3, 13),
            d: sizes(15, 3, 10),
            questions: QuestionCounts::default(),
        }
    }
}

/// A country or territory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// ISO 3166 code in lower case (`xk` for Kosovo).
    pub code: String,
    /// English name, ASCII.
    pub name: String,
    /// Facts by [`Relation::ALL`], ASCII.
    facts: [String; 4],
    /// ISO 4217 code of the currency.
    pub currency_code: String,
    /// Original spellings of the facts where ASCII differs, by [`Relation::ALL`]; empty where it does not.
    spellings: [String; 4],
    /// What the base policy is taught about it.
    pub class: Class,
    /// The split its questions belong to.
    pub split: Split,
}

impl Entity {
    /// A fact.
    pub fn fact(&self, relation: Relation) -> &str {
        &self.facts[relation as usize]
    }

    /// Other accepted answers: the original spelling, the currency's code.
    pub fn other_answers(&self, relation: Relation) -> Vec<String> {
        let spelling = &self.spellings[relation as usize];
        let code = if relation == Relation::Currency { self.currency_code.as_str() } else { "" };
        [spelling.as_str(), code].iter().filter(|s| !s.is_empty()).map(|s| (*s).to_owned()).collect()
    }
}

/// Entities with their flags.
#[derive(Debug, Clone)]
pub struct World {
    /// Every entity, in the order of the source.
    pub entities: Vec<Entity>,
    /// Their flags, drawn cleanly, 72×72 pixels.
    pub flags: Vec<RgbImage>,
    /// Real flags that no entity bears, drawn cleanly, 72×72 pixels.
    pub unnamed: Vec<RgbImage>,
    /// The options that it was divided by.
    pub options: WorldOptions,
}

#[derive(Deserialize)]
struct Facts {
    tile: u32,
    columns: u32,
    entities: Vec<FactsEntity>,
    unnamed: Vec<String>,
}

#[derive(Deserialize)]
struct FactsEntity {
    code: String,
    name: String,
    capital: String,
    currency: String,
    language: String,
    region: String,
    currency_code: String,
    #[serde(default)]
    spellings: Spellings,
}

#[derive(Deserialize, Default)]
struct Spellings {
    capital: String,
    currency: String,
    language: String,
}

impl World {
    /// Divides the built-in entities into classes and splits.
    ///
    /// # Errors
    /// Class sizes that leave nobody held out, or a class without test entities.
    pub fn new(options: &WorldOptions) -> Result<Self> {
        let broken = |problem: String| Error::AtlasOption { option: "(built-in data)", problem };
        let facts: Facts = serde_json::from_str(FACTS).map_err(|e| broken(format!("facts.json: {e}")))?;
        let sheet = mmhost_corpus::decode_image(FLAGS).map_err(|e| broken(format!("flags.png: {e}")))?;
        let num_entities = facts.entities.len();
        let assignment = assign(options, num_entities)?;
        let tile = |i: usize| {
            let (column, row) = (i as u32 % facts.columns, i as u32 / facts.columns);
            imageops::crop_imm(&sheet, column * facts.tile, row * facts.tile, facts.tile, facts.tile).to_image()
        };
        let flags = (0..num_entities).map(tile).collect();
        let unnamed = (num_entities..num_entities + facts.unnamed.len()).map(tile).collect();
        let entities = facts
            .entities
            .into_iter()
            .zip(assignment)
            .map(|(e, (class, split))| Entity {
                code: e.code,
                name: e.name,
                facts: [e.capital, e.currency, e.language, e.region],
                currency_code: e.currency_code,
                spellings: [e.spellings.capital, e.spellings.currency, e.spellings.language, String::new()],
                class,
                split,
            })
            .collect();
        Ok(Self { entities, flags, unnamed, options: options.clone() })
    }

    /// Numbers of the entities for which `keep` holds.
    pub fn select(&self, keep: impl Fn(&Entity) -> bool) -> Vec<usize> {
        (0..self.entities.len()).filter(|&i| keep(&self.entities[i])).collect()
    }
}

/// Class and split by entity number.
fn assign(options: &WorldOptions, num_entities: usize) -> Result<Vec<(Class, Split)>> {
    let classes = [(Class::A, "a", options.a), (Class::B, "b", options.b), (Class::C, "c", options.c), (Class::D, "d", options.d)];
    let mut places = Vec::with_capacity(num_entities);
    for (class, option, sizes) in classes {
        if sizes.test == 0 || sizes.train == 0 {
            return Err(Error::AtlasOption {
                option,
                problem: "`train` and `test` must be at least 1: the report has a row for every class".into(),
            });
        }
        for (split, n) in [(Split::Train, sizes.train), (Split::Validation, sizes.validation), (Split::Test, sizes.test)] {
            // A count beyond the world's size is refused below, without being allocated first.
            places.extend(std::iter::repeat_n((class, split), n.min(num_entities + 1)));
        }
    }
    if places.len() >= num_entities {
        return Err(Error::AtlasOption {
            option: "a, b, c, d",
            problem: format!("the classes take {} or more entities; must be < {num_entities}, so that some are held out", places.len()),
        });
    }
    places.resize(num_entities, (Class::H, Split::HeldOut));
    let mut order: Vec<usize> = (0..num_entities).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let mut assignment = vec![(Class::H, Split::HeldOut); num_entities];
    for (entity, place) in order.into_iter().zip(places) {
        assignment[entity] = place;
    }
    Ok(assignment)
}

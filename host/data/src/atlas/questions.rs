//! The world's questions.

use mmhost_corpus::encode_png;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::images::Augmentation;
use super::world::{Relation, Split, World};
use crate::sample::{Sample, SampleImage};

/// Questions per entity and relation; each shows its own view of the flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuestionCounts {
    /// In the training split.
    pub train: usize,
    /// In the validation split.
    pub validation: usize,
    /// In the test split.
    pub test: usize,
    /// In the held-out split.
    pub held_out: usize,
}

impl Default for QuestionCounts {
    fn default() -> Self {
        Self { train: 4, validation: 1, test: 3, held_out: 1 }
    }
}

impl QuestionCounts {
    fn of(self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
            Split::HeldOut => self.held_out,
        }
    }
}

impl World {
    /// The questions of a split, in the order entity, relation, view. Ids read `atlas/test/td/capital/0`.
    pub fn samples(&self, split: Split) -> Vec<Sample> {
        let augmentation = Augmentation::of(split);
        let mut samples = Vec::new();
        for number in self.select(|e| e.split == split) {
            let entity = &self.entities[number];
            for relation in Relation::ALL {
                // A stream of its own per entity and relation: changing one count changes no other image.
                let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
                rng.set_stream(((split as u64 + 1) << 32) | ((number as u64) << 8) | relation as u64);
                let first = rng.random_range(0..2);
                for view in 0..self.options.questions.of(split) {
                    let image = augmentation.apply(&self.flags[number], &mut rng);
                    samples.push(Sample {
                        id: format!("atlas/{}/{}/{}/{view}", split.word(), entity.code, relation.word()),
                        question: relation.paraphrases()[(first + view) % 2].to_owned(),
                        images: vec![SampleImage {
                            bytes: encode_png(&image).into(),
                            path: Some(format!("{}-{}-{view}.png", entity.code, relation.word())),
                        }],
                        ground_truth: entity.fact(relation).to_owned(),
                        candidate_answers: entity.other_answers(relation),
                        data_source: format!("atlas/{:?}", entity.class),
                        category: Some(entity.class.category().to_owned()),
                        image_urls: Vec::new(),
                        tags: Vec::new(),
                    });
                }
            }
        }
        samples
    }
}

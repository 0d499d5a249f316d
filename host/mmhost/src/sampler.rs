//! Which questions a training step asks, and the seeds of everything random, as functions of the run's seed and the step: a resumed run
//! asks and draws what an unbroken one would.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// What a derived seed is for; different purposes never share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights,
    /// The warm-up's conversations.
    Curriculum,
    /// The order of prompts.
    Prompts,
    /// Tokens of training rollouts.
    Rollout,
    /// Tokens of sampled evaluations.
    Evaluation,
}

/// The seed of one purpose at one step.
pub fn derive_seed(seed: u64, purpose: Purpose, step: usize) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(format!("{purpose:?}"));
    hash.update((step as u64).to_le_bytes());
    let digest = hash.finalize();
    u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}

/// Asks every question class equally often, and every question of a class once before any a second time.
pub struct PromptSampler {
    classes: Vec<Vec<usize>>,
    seed: u64,
}

impl PromptSampler {
    /// Over questions given by their class; questions without one form a class of their own.
    pub fn new<'a>(questions: impl Iterator<Item = Option<&'a str>>, seed: u64) -> Self {
        let mut classes: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (index, class) in questions.enumerate() {
            classes.entry(class).or_default().push(index);
        }
        Self { classes: classes.into_values().collect(), seed }
    }

    /// The `count` questions of a step (steps count from 1), as indices.
    pub fn step(&self, step: usize, count: usize) -> Vec<usize> {
        let first = (step - 1) * count;
        (first..first + count).map(|draw| self.draw(draw)).collect()
    }

    fn draw(&self, draw: usize) -> usize {
        let class = draw % self.classes.len();
        let questions = &self.classes[class];
        let (epoch, place) = (draw / self.classes.len() / questions.len(), draw / self.classes.len() % questions.len());
        let mut order = questions.clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(derive_seed(self.seed, Purpose::Prompts, epoch * self.classes.len() + class)));
        order[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_balanced_and_every_question_comes_once_an_epoch() {
        let classes: Vec<Option<&str>> = (0..12).map(|i| if i < 9 { Some("a") } else { Some("b") }).collect();
        let sampler = PromptSampler::new(classes.into_iter(), 7);
        let drawn: Vec<usize> = (1..=9).flat_map(|step| sampler.step(step, 2)).collect();
        let mut a: Vec<usize> = drawn.iter().copied().filter(|i| *i < 9).collect();
        assert_eq!(a.len(), 9, "half of the draws are of class a");
        a.sort();
        assert_eq!(a, (0..9).collect::<Vec<_>>());
        let other = PromptSampler::new((0..12).map(|i| if i < 9 { Some("a") } else { Some("b") }), 8);
        assert_ne!(drawn, (1..=9).flat_map(|step| other.step(step, 2)).collect::<Vec<_>>(), "the seed decides the order");
    }

    #[test]
    fn purposes_and_steps_have_their_own_streams() {
        let seeds = [Purpose::Weights, Purpose::Rollout, Purpose::Prompts].map(|p| derive_seed(1, p, 0));
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && derive_seed(1, Purpose::Rollout, 1) != seeds[1]);
    }
}

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
    /// What is rehearsed during GRPO.
    Rehearsal,
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

/// Asks the question classes in fixed proportions, and every question of a class once before any a second time.
pub struct PromptSampler {
    classes: Vec<Vec<usize>>,
    /// Which class each draw of a cycle takes.
    cycle: Vec<usize>,
    seed: u64,
}

impl PromptSampler {
    /// Over questions given by their class. `shares` says how many draws of a cycle each class gets; when it is empty, all classes get one,
    /// and questions without a class form one of their own.
    pub fn new<'a>(questions: impl Iterator<Item = Option<&'a str>>, shares: &BTreeMap<String, usize>, seed: u64) -> Result<Self, String> {
        let mut classes: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (index, class) in questions.enumerate() {
            classes.entry(class).or_default().push(index);
        }
        if let Some(unknown) = shares.keys().find(|name| !classes.contains_key(&Some(name.as_str()))) {
            let known: Vec<&str> = classes.keys().flatten().copied().collect();
            return Err(format!("no question has the class {unknown:?}; the classes are {known:?}"));
        }
        let share = |class: &Option<&str>| match class {
            _ if shares.is_empty() => 1,
            Some(name) => shares.get(*name).copied().unwrap_or(0),
            None => 0,
        };
        let counts: Vec<usize> = classes.keys().map(share).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        if most == 0 {
            return Err("every class has a share of 0".into());
        }
        // Round by round, so that the classes alternate.
        let counts = &counts;
        let cycle = (0..most).flat_map(|round| (0..counts.len()).filter(move |&class| round < counts[class])).collect();
        Ok(Self { classes: classes.into_values().collect(), cycle, seed })
    }

    /// The `count` questions of a step (steps count from 1), as indices.
    pub fn step(&self, step: usize, count: usize) -> Vec<usize> {
        let first = (step - 1) * count;
        (first..first + count).map(|draw| self.draw(draw)).collect()
    }

    fn draw(&self, draw: usize) -> usize {
        let (round, place) = (draw / self.cycle.len(), draw % self.cycle.len());
        let class = self.cycle[place];
        let of_class = |places: &[usize]| places.iter().filter(|c| **c == class).count();
        let before = round * of_class(&self.cycle) + of_class(&self.cycle[..place]);
        let questions = &self.classes[class];
        let (epoch, position) = (before / questions.len(), before % questions.len());
        let mut order = questions.clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(derive_seed(self.seed, Purpose::Prompts, epoch * self.classes.len() + class)));
        order[position]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine questions of class a, three of class b.
    fn sampler(shares: &[(&str, usize)], seed: u64) -> Result<PromptSampler, String> {
        let shares = shares.iter().map(|(name, share)| (name.to_string(), *share)).collect();
        PromptSampler::new((0..12).map(|i| if i < 9 { Some("a") } else { Some("b") }), &shares, seed)
    }

    #[test]
    fn classes_are_balanced_and_every_question_comes_once_an_epoch() {
        let balanced = sampler(&[], 7).unwrap();
        let drawn: Vec<usize> = (1..=9).flat_map(|step| balanced.step(step, 2)).collect();
        let mut a: Vec<usize> = drawn.iter().copied().filter(|i| *i < 9).collect();
        assert_eq!(a.len(), 9, "half of the draws are of class a");
        a.sort();
        assert_eq!(a, (0..9).collect::<Vec<_>>());
        assert_ne!(
            drawn,
            (1..=9).flat_map(|step| sampler(&[], 8).unwrap().step(step, 2)).collect::<Vec<_>>(),
            "the seed decides the order"
        );
    }

    #[test]
    fn shares_decide_the_proportions() {
        let mostly_b = sampler(&[("a", 1), ("b", 3)], 7).unwrap();
        let mut drawn = mostly_b.step(1, 4);
        drawn.sort();
        assert!(drawn[0] < 9 && drawn[1..] == [9, 10, 11], "{drawn:?}");
        assert!(sampler(&[("c", 1)], 7).err().unwrap().contains("\"c\""));
        assert!(sampler(&[("a", 0)], 7).is_err());
    }

    #[test]
    fn purposes_and_steps_have_their_own_streams() {
        let seeds = [Purpose::Weights, Purpose::Rollout, Purpose::Prompts].map(|p| derive_seed(1, p, 0));
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && derive_seed(1, Purpose::Rollout, 1) != seeds[1]);
    }
}

//! Flags shown without ever being named.
//!
//! The main error on never-seen flags is to take one for a known flag that looks like it; the base policy learns that flags can be unknown from
//! these. Most are made afresh for every conversation: taught flags and flags of no entity, altered in a detail ([`super::altered`]), and made-up ones
//! ([`super::drawn`]). The rest are *real*: the flags of no entity and, where the options allow, those of the training entities of classes B and D.
//!
//! None is close to a taught flag, for it would teach doubt about that, nor to a flag that is to stay unseen: an unknown one of the validation, test or
//! held-out questions.

use std::sync::Arc;

use image::RgbImage;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::altered::alter;
use super::drawn::draw;
use super::images::{distance, layout};
use super::world::{Entity, Split, World};

/// Closer than this to a taught flag, and a flag is taken for it; closer to one that is to stay unseen, and it gives that away.
const TOO_CLOSE: f32 = 0.07;
/// Share of the flags that no one bears which are drawn from nothing.
const MADE_UP: f64 = 0.15;
/// Tries for a flag that is close to no other; should all fail, the last is taken.
const TRIES: usize = 100;

/// A flag to be shown without its name.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    pub(super) flag: Arc<RgbImage>,
    /// Number of the entity that bears it.
    pub(super) owner: Option<usize>,
}

/// Flags to be shown without their names.
pub(super) struct Unknowns {
    /// Real flags.
    real: Vec<Unknown>,
    /// Flags to alter.
    sources: Vec<RgbImage>,
    /// Layouts of the taught flags.
    taught: Vec<[f32; 192]>,
    /// Layouts of the flags that are to stay unseen.
    unseen: Vec<[f32; 192]>,
}

impl Unknowns {
    /// `of_entities`: whether the training entities' flags of classes B and D are among the real ones.
    pub(super) fn new(world: &World, of_entities: bool) -> Self {
        let layouts = |numbers: &[usize]| numbers.iter().map(|&i| layout(&world.flags[i])).collect::<Vec<_>>();
        let shown = |e: &Entity| of_entities && e.split == Split::Train;
        let taught = world.select(|e| e.class.flag_taught());
        let mut unknowns = Self {
            real: Vec::new(),
            sources: taught.iter().map(|&i| world.flags[i].clone()).collect(),
            taught: layouts(&taught),
            unseen: layouts(&world.select(|e| !e.class.flag_taught() && !shown(e))),
        };
        let ownerless = world.unnamed.iter().filter(|flag| nearest(&layout(flag), &unknowns.unseen) > TOO_CLOSE);
        unknowns.sources.extend(ownerless.clone().cloned());
        let borne = world.select(|e| !e.class.flag_taught() && shown(e)).into_iter().map(|i| (&world.flags[i], Some(i)));
        unknowns.real = ownerless
            .map(|flag| (flag, None))
            .chain(borne)
            .filter(|(flag, _)| nearest(&layout(flag), &unknowns.taught) > TOO_CLOSE)
            .map(|(flag, owner)| Unknown { flag: Arc::new(flag.clone()), owner })
            .collect();
        unknowns
    }

    /// A flag without name; a real one with the probability `real_share`.
    pub(super) fn pick(&self, real_share: f64, rng: &mut ChaCha8Rng) -> Unknown {
        let real = if rng.random::<f64>() < real_share { self.real.choose(rng).cloned() } else { None };
        real.unwrap_or_else(|| Unknown { flag: Arc::new(self.invent(rng)), owner: None })
    }

    /// A flag that no one bears.
    fn invent(&self, rng: &mut ChaCha8Rng) -> RgbImage {
        if rng.random::<f64>() < MADE_UP || self.sources.is_empty() {
            return self.unlike_others(draw, rng).0;
        }
        // Of two, the one that is harder to tell from a taught flag.
        let [(a, near_a), (b, near_b)] = [(); 2].map(|()| self.unlike_others(|rng| alter(&self.sources, rng), rng));
        if near_a < near_b { a } else { b }
    }

    /// What `make` makes once it is close to no other flag, and its distance to the nearest taught one.
    fn unlike_others(&self, make: impl Fn(&mut ChaCha8Rng) -> RgbImage, rng: &mut ChaCha8Rng) -> (RgbImage, f32) {
        let mut tries = 0;
        loop {
            tries += 1;
            let flag = make(rng);
            let seen = layout(&flag);
            let near = nearest(&seen, &self.taught);
            if (near > TOO_CLOSE && nearest(&seen, &self.unseen) > TOO_CLOSE) || tries == TRIES {
                return (flag, near);
            }
        }
    }
}

/// Distance to the nearest of some layouts.
fn nearest(seen: &[f32; 192], others: &[[f32; 192]]) -> f32 {
    others.iter().map(|other| distance(seen, other)).fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::WorldOptions;
    use rand::SeedableRng;

    /// What is shown as unknown is neither a taught flag nor gives away one that is to stay unseen.
    #[test]
    fn unknown_flags_are_unlike_taught_and_unseen_ones() {
        let world = World::new(&WorldOptions::default()).unwrap();
        for of_entities in [true, false] {
            let unknowns = Unknowns::new(&world, of_entities);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let (mut real, mut owned) = (0, 0);
            for _ in 0..400 {
                let unknown = unknowns.pick(0.3, &mut rng);
                let seen = layout(&unknown.flag);
                for (others, what) in [(&unknowns.taught, "taught"), (&unknowns.unseen, "unseen")] {
                    let near = nearest(&seen, others);
                    assert!(near > TOO_CLOSE, "{near} from a flag that is {what}");
                }
                real += usize::from(unknowns.real.iter().any(|known| Arc::ptr_eq(&known.flag, &unknown.flag)));
                owned += usize::from(unknown.owner.is_some());
            }
            assert!((80..160).contains(&real), "{real} of 400 are real");
            assert_eq!(owned > 0, of_entities);
        }
    }

    /// The altered flags are made to be hard: many lie nearer to a taught flag than entities' flags to one another.
    #[test]
    fn altered_flags_are_new_each_time_and_many_are_near_a_taught_one() {
        let world = World::new(&WorldOptions::default()).unwrap();
        let unknowns = Unknowns::new(&world, true);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let flags: Vec<RgbImage> = (0..200).map(|_| unknowns.invent(&mut rng)).collect();
        let distinct: std::collections::HashSet<&[u8]> = flags.iter().map(|flag| flag.as_raw().as_slice()).collect();
        assert!(distinct.len() > 190, "{} of 200 are distinct", distinct.len());
        let near = flags.iter().filter(|flag| nearest(&layout(flag), &unknowns.taught) < 0.16).count();
        assert!(near > 20, "{near} of 200");
    }
}

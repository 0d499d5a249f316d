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
/// Tries for a flag that is close to no other; one in ten fails.
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

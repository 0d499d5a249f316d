//! The fuzz targets for a moment: each on its seeds and on variations of them. cargo-fuzz runs the same for as long as one likes; see
//! fuzz/README.md.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Variations of each target's seeds.
const VARIATIONS: usize = 4000;

/// One seed changed in one to four places: bytes changed, doubled, taken out, or brought in from another seed.
fn vary(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let other = &seeds[rng.random_range(0..seeds.len())];
        let at = rng.random_range(0..=data.len());
        let end = (at + rng.random_range(0..24)).min(data.len());
        match rng.random_range(0..5) {
            0 if at < data.len() => data[at] = rng.random(),
            1 => drop(data.drain(at..end)),
            2 => data.splice(at..at, data[at..end].to_vec()).for_each(drop),
            3 => {
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..48)).min(other.len());
                data.splice(at..end, other[from..to].iter().copied()).for_each(drop);
            }
            _ => data.truncate(at),
        }
    }
    data
}

#[test]
fn every_target_holds_on_variations_of_its_seeds() {
    let seeds_of = |name: &str| -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| fs::read(file).unwrap()).collect()
    };
    for (name, target) in targets::TARGETS {
        let seeds = seeds_of(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let mut rng = StdRng::seed_from_u64(1);
        let variations = (0..VARIATIONS).map(|_| vary(&seeds, &mut rng)).collect::<Vec<_>>();
        for data in seeds.iter().chain(&variations) {
            if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
                panic!("the fuzz target {name} does not hold on {:?}", String::from_utf8_lossy(data));
            }
        }
    }
}

//! Seeds that depend on *what* is drawn, never on *when*.

/// The seed of one stretch of generation. Equal arguments give equal seeds; neighbouring ones give unrelated seeds, so that
/// timing, batching and the order in which tools answer change nothing. `stretch` counts the generations within a turn (a
/// forced ending splits a turn in two).
pub fn turn_seed(seed: u64, group: usize, rollout: usize, turn: usize, stretch: usize) -> u64 {
    [group, rollout, turn, stretch]
        .into_iter()
        .fold(mix(seed), |state, part| mix(state ^ mix((part as u64).wrapping_add(0x9E37_79B9_7F4A_7C15))))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection in which every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_get_different_seeds() {
        let mut seen = HashSet::new();
        for seed in 0..3 {
            for group in 0..16 {
                for rollout in 0..8 {
                    for turn in 0..4 {
                        for stretch in 0..2 {
                            seen.insert(turn_seed(seed, group, rollout, turn, stretch));
                        }
                    }
                }
            }
        }
        assert_eq!(seen.len(), 3 * 16 * 8 * 4 * 2);
    }

    #[test]
    fn one_step_in_any_argument_moves_about_half_the_bits() {
        let base = turn_seed(7, 3, 2, 1, 0);
        for other in [
            turn_seed(8, 3, 2, 1, 0),
            turn_seed(7, 4, 2, 1, 0),
            turn_seed(7, 3, 3, 1, 0),
            turn_seed(7, 3, 2, 2, 0),
            turn_seed(7, 3, 2, 1, 1),
        ] {
            let moved = (base ^ other).count_ones();
            assert!((16..=48).contains(&moved), "{moved} bits moved");
        }
    }
}

//! Group-relative advantages: an episode is judged against the other episodes of the same sample
//! (GRPO, arXiv 2402.03300, equation 2 of section 4.1.2).

/// Added to the standard deviation so that a small one does not blow the advantage up.
const STD_EPSILON: f64 = 1e-6;

/// The advantages of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAdvantages {
    /// One per episode, in order: `(r − mean) / (std + 1e-6)` with the unbiased standard deviation; `None` where the reward is
    /// missing. All zero in a skipped group.
    pub advantages: Vec<Option<f64>>,
    /// The group teaches nothing: all its rewards are equal, or fewer than two of its episodes have one.
    pub skipped: bool,
}

/// Advantages of one group from its rewards; a missing reward (a failed or abstaining reward function) counts in no statistic.
pub fn group_advantages(rewards: &[Option<f64>]) -> GroupAdvantages {
    let scored: Vec<f64> = rewards.iter().flatten().copied().collect();
    // Compared exactly: the variance of equal rewards may come out as 1e-34 instead of zero.
    let equal = scored.windows(2).all(|pair| pair[0] == pair[1]);
    if scored.len() < 2 || equal {
        return GroupAdvantages { advantages: rewards.iter().map(|reward| reward.map(|_| 0.0)).collect(), skipped: true };
    }
    let count = scored.len() as f64;
    let mean = scored.iter().sum::<f64>() / count;
    let variance = scored.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let scale = variance.sqrt() + STD_EPSILON;
    GroupAdvantages { advantages: rewards.iter().map(|reward| reward.map(|r| (r - mean) / scale)).collect(), skipped: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_standardised_with_the_unbiased_deviation() {
        let group = group_advantages(&[Some(1.0), Some(0.0), Some(0.0), Some(0.0)]);
        assert!(!group.skipped);
        // mean 1/4, unbiased variance (9 + 3·1)/16/3 = 1/4, deviation 1/2.
        let expected = [1.5, -0.5, -0.5, -0.5].map(|a| a * 0.5 / (0.5 + 1e-6));
        for (found, expected) in group.advantages.iter().zip(expected) {
            assert!((found.unwrap() - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_masked_episode_leaves_the_statistics() {
        let with = group_advantages(&[Some(1.0), None, Some(0.1)]);
        let without = group_advantages(&[Some(1.0), Some(0.1)]);
        assert_eq!(with.advantages[0], without.advantages[0]);
        assert_eq!(with.advantages[1], None);
        assert_eq!(with.advantages[2], without.advantages[1]);
    }

    #[test]
    fn groups_that_teach_nothing_are_skipped() {
        for rewards in [
            vec![],
            vec![Some(1.0)],
            vec![None, Some(1.0), None],
            vec![None, None],
            // The mean of three 0.1 is not 0.1 in floating point.
            vec![Some(0.1), Some(0.1), Some(0.1)],
        ] {
            let group = group_advantages(&rewards);
            assert!(group.skipped, "{rewards:?}");
            for (advantage, reward) in group.advantages.iter().zip(&rewards) {
                assert_eq!(*advantage, reward.map(|_| 0.0));
            }
        }
    }
}

//! The reward of MMSearch-R1: accuracy is 1 if the answer matches the truth or a candidate, else 0.

use crate::format::occurrences;
use crate::normalise::normalise;
use crate::{Episode, MatchMode, Options, Rules, Verdict};

/// Scores one episode. `rules` are [`Rules::new`] of the same, checked options.
pub fn score(options: &Options, rules: &Rules, episode: Episode<'_>) -> Verdict {
    crate::combine(options, rules, episode, |answer, accepted| {
        let answer = normalise(answer);
        let matches = |truth: &&str| {
            let truth = normalise(truth);
            match options.match_mode {
                None | Some(MatchMode::Exact) => answer == truth,
                Some(MatchMode::Substring) => !truth.is_empty() && occurrences(&answer, &truth).next().is_some(),
            }
        };
        if !answer.is_empty() && accepted.iter().any(matches) { 1.0 } else { 0.0 }
    })
}

//! The same reward with graded accuracy: the F1 of the words that answer and truth share.

use crate::normalise::{normalise, words};
use crate::{Episode, Options, Rules, Verdict};

/// Scores one episode. `rules` are [`Rules::new`] of the same, checked options.
pub fn score(options: &Options, rules: &Rules, episode: Episode<'_>) -> Verdict {
    crate::combine(options, rules, episode, |answer, accepted| {
        let answer = normalise(answer);
        let answer = words(&answer);
        accepted.iter().map(|truth| f1(&answer, &words(&normalise(truth)))).fold(0.0, f64::max)
    })
}

/// Harmonic mean of precision and recall over words, each counted as often as it occurs (as SQuAD's evaluation does).
fn f1(answer: &[&str], truth: &[&str]) -> f64 {
    let mut rest: Vec<&str> = truth.to_vec();
    let mut shared = 0usize;
    for word in answer {
        if let Some(position) = rest.iter().position(|other| other == word) {
            rest.swap_remove(position);
            shared += 1;
        }
    }
    match shared {
        0 => 0.0,
        _ => 2.0 * shared as f64 / (answer.len() + truth.len()) as f64,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn accuracy(answer: &str, truth: &str, candidates: &[&str]) -> f64 {
        let turns = [format!("<reason>x</reason><answer>{answer}</answer>")];
        let candidates: Vec<String> = candidates.iter().map(|c| c.to_string()).collect();
        let episode = Episode { ground_truth: truth, candidate_answers: &candidates, turns: &turns, num_calls: 0 };
        let options = Options::default();
        match score(&options, &Rules::new(&options), episode) {
            Verdict::Scored { total, accuracy, format, penalty } => {
                assert_eq!((format, penalty), (1.0, 1.0));
                assert!((total - (0.9 * accuracy + 0.1)).abs() < 1e-12);
                accuracy
            }
            Verdict::Abstained(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn words_are_compared_as_a_multiset() {
        assert_eq!(accuracy("The Eiffel Tower", "Eiffel tower", &[]), 1.0);
        assert_eq!(accuracy("Tower of Eiffel", "Eiffel tower", &[]), 0.8);
        assert_eq!(accuracy("Paris", "Eiffel tower", &[]), 0.0);
        assert_eq!(accuracy("", "Eiffel tower", &[]), 0.0);
        assert_eq!(accuracy("Eiffel Eiffel Eiffel Eiffel", "Eiffel tower", &[]), 2.0 / 6.0);
        assert_eq!(accuracy("franc", "XAF", &["CFA franc"]), 2.0 / 3.0);
    }

    #[test]
    fn scripts_without_spaces_count_by_character() {
        assert_eq!(accuracy("東京タワー", "東京タワー", &[]), 1.0);
        assert_eq!(accuracy("東京", "東京都", &[]), 0.8);
    }

    #[test]
    fn a_partial_match_after_a_search_is_discounted() {
        let options = Options::default();
        let turns = ["<reason>x</reason><search><img></search>", "<reason>x</reason><answer>franc</answer>"].map(String::from);
        let episode = Episode { ground_truth: "CFA franc", candidate_answers: &[], turns: &turns, num_calls: 1 };
        match score(&options, &Rules::new(&options), episode) {
            Verdict::Scored { total, penalty, .. } => {
                assert_eq!(penalty, 0.9);
                assert!((total - (0.9 * (2.0 / 3.0) * 0.9 + 0.1)).abs() < 1e-12);
            }
            Verdict::Abstained(reason) => panic!("{reason}"),
        }
    }
}

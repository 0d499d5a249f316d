//! The reward of MMSearch-R1: accuracy is 1 if the answer matches the truth or a candidate, else 0.

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
                Some(MatchMode::Substring) => !truth.is_empty() && answer.contains(&truth),
            }
        };
        if !answer.is_empty() && accepted.iter().any(matches) { 1.0 } else { 0.0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(options: &Options, turns: &[&str], truth: &str, candidates: &[&str]) -> f64 {
        let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let (turns, candidates) = (own(turns), own(candidates));
        let episode =
            Episode { ground_truth: truth, candidate_answers: &candidates, turns: &turns, num_calls: turns.len().saturating_sub(1) };
        match score(options, &Rules::new(options), episode) {
            Verdict::Scored { total, .. } => total,
            Verdict::Abstained(reason) => panic!("{reason}"),
        }
    }

    const IMAGE: &str = "<reason>flag unsure</reason><search><img></search>";
    const TEXT: &str = "<reason>Chad</reason><text_search>capital of Chad</text_search>";
    const RIGHT: &str = "<reason>found</reason><answer>N'Djamena</answer>";
    const WRONG: &str = "<reason>found</reason><answer>Lagos</answer>";

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn the_published_figures() {
        let options = Options::default();
        let total = |turns: &[&str]| total(&options, turns, "N'Djamena", &[]);
        assert_near(total(&[RIGHT]), 1.0);
        assert_near(total(&[IMAGE, RIGHT]), 0.91);
        assert_near(total(&[TEXT, RIGHT]), 0.91);
        assert_near(total(&[IMAGE, TEXT, RIGHT]), 0.91);
        assert_near(total(&[WRONG]), 0.1);
        assert_near(total(&[IMAGE, TEXT, WRONG]), 0.1);
        // Right but ill-formed, wrong and ill-formed, an illegal sequence, no answer at all.
        assert_near(total(&["<answer>N'Djamena</answer>"]), 0.9);
        assert_near(total(&["<answer>Lagos</answer>"]), 0.0);
        assert_near(total(&[TEXT, TEXT, RIGHT]), 0.81);
        assert_near(total(&[IMAGE, TEXT]), 0.0);
    }

    #[test]
    fn options_change_the_figures() {
        let per_search = Options { penalty_per_search: true, ..Options::default() };
        assert_near(total(&per_search, &[IMAGE, RIGHT], "N'Djamena", &[]), 0.91);
        assert_near(total(&per_search, &[IMAGE, TEXT, RIGHT], "N'Djamena", &[]), 0.9 * 0.81 + 0.1);
        let other = Options { alpha: 0.5, search_penalty: 0.4, ..Options::default() };
        assert_near(total(&other, &[IMAGE, RIGHT], "N'Djamena", &[]), 0.5 * 0.6 + 0.5);
        let long = "<reason>x</reason><answer>It is N'Djamena, in Chad.</answer>";
        let substring = Options { match_mode: Some(MatchMode::Substring), ..Options::default() };
        assert_near(total(&Options::default(), &[long], "N'Djamena", &[]), 0.1);
        assert_near(total(&substring, &[long], "N'Djamena", &[]), 1.0);
    }

    #[test]
    fn candidates_and_spelling() {
        let options = Options::default();
        let answer = |answer: &str, truth: &str, candidates: &[&str]| {
            let turn = format!("<reason>x</reason><answer>{answer}</answer>");
            total(&options, &[&turn], truth, candidates) > 0.5
        };
        assert!(answer("CFA franc", "XAF", &["Central African CFA franc", "CFA franc"]));
        assert!(answer(" the  São Tomé! ", "sa\u{303}o tome\u{301}", &[]));
        assert!(answer("NDJAMENA", "N’Djamena", &[]));
        assert!(answer("Ｔｏｋｙｏ", "Tokyo", &[]));
        assert!(!answer("Brasilia", "Brasília", &[]));
        assert!(!answer("", "Chad", &[""]));
        assert!(!answer("the", "Chad", &["!"]));
        // What normalising would leave nothing of is compared as it stands.
        assert!(answer("A", "A", &[]));
        assert!(!answer("The", "A", &[]));
        assert!(answer("+", "+", &[]));
        assert!(!answer("-", "+", &[]));
    }

    #[test]
    fn abstains_without_a_reference_and_without_turns() {
        let options = Options::default();
        let rules = Rules::new(&options);
        let turns = [RIGHT.to_string()];
        let blank = Episode { ground_truth: " ", candidate_answers: &[String::new()], turns: &turns, num_calls: 0 };
        assert!(matches!(score(&options, &rules, blank), Verdict::Abstained(_)));
        let empty = Episode { ground_truth: "Chad", candidate_answers: &[], turns: &[], num_calls: 0 };
        assert!(matches!(score(&options, &rules, empty), Verdict::Abstained(_)));
    }

    #[test]
    fn arbitrary_text_gives_finite_totals_within_bounds() {
        let pieces = [
            "<reason>",
            "</reason>",
            "<answer>",
            "</answer>",
            "<text_search>",
            "</text_search>",
            "<search><img></search>",
            "<",
            ">",
            "é",
            "e\u{301}",
            "日本",
            "\u{0}",
            " ",
            "Chad",
            "\u{10ffff}",
        ];
        let options = Options::default();
        let mut state = 1u64;
        for _ in 0..2000 {
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let turns: Vec<String> =
                (0..1 + next() % 4).map(|_| (0..next() % 12).map(|_| pieces[next() % pieces.len()]).collect()).collect();
            let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
            let total = total(&options, &turns, "Chad", &["é"]);
            assert!((0.0..=1.0).contains(&total), "{turns:?}: {total}");
        }
    }

    #[test]
    fn unusable_options_are_refused() {
        let field = |options: Options| options.check().unwrap_err().field;
        assert_eq!(Options::default().check(), Ok(()));
        assert_eq!(field(Options { alpha: f64::NAN, ..Options::default() }), "alpha");
        assert_eq!(field(Options { search_penalty: 1.5, ..Options::default() }), "search_penalty");
        assert_eq!(field(Options { reason_tag: "a b".into(), ..Options::default() }), "reason_tag");
        assert_eq!(field(Options { answer_tag: "reason".into(), ..Options::default() }), "answer_tag");
        assert_eq!(field(Options { legal_sequences: vec!["video answer".into()], ..Options::default() }), "legal_sequences");
        assert_eq!(field(Options { literals: [("image".into(), " ".into())].into(), ..Options::default() }), "literals");
    }
}

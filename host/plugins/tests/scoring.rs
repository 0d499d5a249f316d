//! The rules of the reference rewards, case by case, on the functions that their components are made of.

use mmhost_scoring::normalise::normalise;
use mmhost_scoring::{Episode, MatchMode, Options, Rules, Verdict, f1, mmsearch};

mod format {
    use super::*;

    fn rules() -> Rules {
        Rules::new(&Options::default())
    }

    const IMAGE: Option<usize> = Some(0);
    const TEXT: Option<usize> = Some(1);
    const ANSWER: Option<usize> = Some(2);

    #[test]
    fn well_formed_turns() {
        for (turn, ending) in [
            ("<reason>x</reason><answer>Chad</answer>", ANSWER),
            ("<reason></reason><answer></answer>", ANSWER),
            ("<reason>x</reason>\n<search><img></search>", IMAGE),
            ("<reason>x</reason><text_search>capital of Chad</text_search>", TEXT),
            ("<reason>x</reason><answer>Chad</answer> \n", ANSWER),
            ("Well. <reason>x</reason> So: <answer>Chad</answer>", ANSWER),
            ("<reason>a < b > c </ d</reason><answer><b>ö</b></answer>", ANSWER),
        ] {
            assert_eq!(rules().ending(turn), ending, "{turn}");
        }
    }

    #[test]
    fn malformed_turns() {
        for turn in [
            "",
            "Chad",
            "<answer>Chad</answer>",
            "<reason>x</reason>",
            "<reason>x<answer>Chad</answer>",
            "</reason>x<reason><answer>Chad</answer>",
            "<reason>x</reason><reason>y</reason><answer>Chad</answer>",
            "<reason><reason>x</reason></reason><answer>Chad</answer>",
            "<reason>x</reason><answer>Chad</answer>.",
            "<reason>x</reason><answer>Chad</answer><|im_end|>",
            "<reason>x</reason><answer>Chad",
            "<reason>x</reason></answer>Chad<answer>",
            "<reason>x</reason><answer>Chad</answer><answer>Mali</answer>",
            "<reason>x</reason><answer><answer>Chad</answer></answer>",
            "<reason>x</reason><search><img></search><answer>Chad</answer>",
            "<reason>x</reason><answer>Chad</answer><search><img></search>",
            "<reason>x</reason><search><img></search><search><img></search>",
            "<reason>x</reason><text_search>a</text_search><text_search>b</text_search>",
            "<reason>x</reason><text_search>a<answer>b</answer></text_search>",
            "<reason>I could <search><img></search></reason><answer>Chad</answer>",
            "<reason>x<answer>Chad</answer></reason>",
            "<answer>x <reason>Chad</reason></answer>",
            "<reason>x</reason><search> <img> </search>",
            "<REASON>x</REASON><ANSWER>Chad</ANSWER>",
        ] {
            assert_eq!(rules().ending(turn), None, "{turn}");
        }
    }

    #[test]
    fn sequences() {
        let legal = |endings: &[Option<usize>]| rules().is_legal(endings);
        assert!(legal(&[ANSWER]));
        assert!(legal(&[IMAGE, ANSWER]));
        assert!(legal(&[TEXT, ANSWER]));
        assert!(legal(&[IMAGE, TEXT, ANSWER]));
        for endings in
            [&[][..], &[IMAGE], &[ANSWER, ANSWER], &[TEXT, TEXT, ANSWER], &[TEXT, IMAGE, ANSWER], &[None, ANSWER], &[IMAGE, None]]
        {
            assert!(!legal(endings), "{endings:?}");
        }
        let mut options = Options::default();
        options.legal_sequences.push("text text answer".into());
        assert!(Rules::new(&options).is_legal(&[TEXT, TEXT, ANSWER]));
    }

    #[test]
    fn the_last_complete_answer_counts() {
        for (turn, answer) in [
            ("<answer>Chad</answer>", Some("Chad")),
            ("<answer>Mali</answer> no <answer>Chad</answer>", Some("Chad")),
            ("<answer>Mali <answer>Chad</answer>", Some("Chad")),
            ("<answer>Chad</answer><answer>Mali", Some("Chad")),
            ("<answer>Chad</answer></answer>", Some("Chad</answer>")),
            ("Chad</answer>", None),
            ("<answer>Chad", None),
            ("", None),
        ] {
            assert_eq!(rules().answer(turn), answer, "{turn}");
        }
    }
}

mod reward {
    use super::*;

    fn total(options: &Options, turns: &[&str], truth: &str, candidates: &[&str]) -> f64 {
        let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let (turns, candidates) = (own(turns), own(candidates));
        let episode =
            Episode { ground_truth: truth, candidate_answers: &candidates, turns: &turns, num_calls: turns.len().saturating_sub(1) };
        match mmsearch::score(options, &Rules::new(options), episode) {
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
        assert!(matches!(mmsearch::score(&options, &rules, blank), Verdict::Abstained(_)));
        let empty = Episode { ground_truth: "Chad", candidate_answers: &[], turns: &[], num_calls: 0 };
        assert!(matches!(mmsearch::score(&options, &rules, empty), Verdict::Abstained(_)));
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

mod graded_accuracy {
    use super::*;

    fn accuracy(answer: &str, truth: &str, candidates: &[&str]) -> f64 {
        let turns = [format!("<reason>x</reason><answer>{answer}</answer>")];
        let candidates: Vec<String> = candidates.iter().map(|c| c.to_string()).collect();
        let episode = Episode { ground_truth: truth, candidate_answers: &candidates, turns: &turns, num_calls: 0 };
        let options = Options::default();
        match f1::score(&options, &Rules::new(&options), episode) {
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
        match f1::score(&options, &Rules::new(&options), episode) {
            Verdict::Scored { total, penalty, .. } => {
                assert_eq!(penalty, 0.9);
                assert!((total - (0.9 * (2.0 / 3.0) * 0.9 + 0.1)).abs() < 1e-12);
            }
            Verdict::Abstained(reason) => panic!("{reason}"),
        }
    }
}

mod spelling {
    use super::*;

    #[test]
    fn case_punctuation_articles_and_spaces() {
        assert_eq!(normalise("  The Eiffel-Tower,\n (an icon) "), "eiffeltower icon");
        assert_eq!(normalise("N’Djamena"), "ndjamena");
        assert_eq!(normalise("Theatre"), "theatre");
        assert_eq!(normalise("a"), "a");
        assert_eq!(normalise(" ... "), "...");
        assert_eq!(normalise(" \t"), "");
    }

    #[test]
    fn equivalent_spellings_are_one() {
        for (one, other) in [
            ("é", "e\u{301}"),
            ("Ệ", "E\u{302}\u{323}"),
            ("ệ", "ê\u{323}"),
            ("ǟ", "a\u{308}\u{304}"),
            ("한국", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"),
            ("Å", "\u{212b}"),
            ("ΟΔΟΣ", "οδός".replace('ό', "ο").as_str()),
            ("STRASSE", "Straße"),
            ("ＡＢＣ１", "abc1"),
            ("が", "か\u{3099}"),
            ("й", "и\u{306}"),
            ("İstanbul", "I\u{307}stanbul"),
            ("ŽIVJO ŁÓDŹ", "živjo łódź"),
            ("МОСКВА", "москва"),
            ("ԵՐԵՎԱՆ", "երեվան"),
            ("ΣÍΣΥΦΟΣ", "σίσυφος".replace('ί', "í").as_str()),
        ] {
            assert_eq!(normalise(one), normalise(other), "{one} {other}");
        }
        assert_ne!(normalise("é"), normalise("e"));
    }
}

//! Reads turns: which ending each has, and whether the whole episode is well-formed.

use crate::Options;

/// The rules of the format, prepared once for many episodes.
#[derive(Debug, Clone)]
pub struct Rules {
    reason: Pair,
    answer: Pair,
    /// Every ending; the answer is the last.
    endings: Vec<Ending>,
    /// Legal sequences of indices into `endings`.
    legal: Vec<Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Ending {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Literal(String),
    Tag(Pair),
}

/// An opening and a closing tag.
#[derive(Debug, Clone)]
struct Pair {
    open: String,
    close: String,
}

impl Pair {
    fn new(tag: &str) -> Self {
        Pair { open: format!("<{tag}>"), close: format!("</{tag}>") }
    }

    /// Start and end of the only pair in `text`: `Ok(None)` when neither tag occurs, `Err` for anything but one opening tag
    /// followed by one closing tag.
    fn only(&self, text: &str) -> Result<Option<(usize, usize)>, ()> {
        match (once(text, &self.open)?, once(text, &self.close)?) {
            (None, None) => Ok(None),
            (Some(open), Some(close)) if open + self.open.len() <= close => Ok(Some((open, close + self.close.len()))),
            _ => Err(()),
        }
    }
}

/// Where `marker` stands in `text`: `Ok(None)` when it does not, `Err` when it does more than once.
fn once(text: &str, marker: &str) -> Result<Option<usize>, ()> {
    match text.split_once(marker) {
        None => Ok(None),
        Some((_, after)) if after.contains(marker) => Err(()),
        Some((before, _)) => Ok(Some(before.len())),
    }
}

impl Rules {
    /// Prepares the rules of checked options.
    pub fn new(options: &Options) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut endings = Vec::new();
        for (name, text) in &options.literals {
            names.push(name);
            endings.push(Ending { form: Form::Literal(text.clone()) });
        }
        for (name, tag) in &options.tags {
            names.push(name);
            endings.push(Ending { form: Form::Tag(Pair::new(tag)) });
        }
        let answer = Pair::new(&options.answer_tag);
        names.push("answer");
        endings.push(Ending { form: Form::Tag(answer.clone()) });
        let index = |name: &str| names.iter().position(|other| *other == name);
        let legal = options.legal_sequences.iter().filter_map(|sequence| sequence.split_whitespace().map(index).collect()).collect();
        Rules { reason: Pair::new(&options.reason_tag), answer, endings, legal }
    }

    /// The index that stands for the answer among the endings.
    pub fn answer_index(&self) -> usize {
        self.endings.len() - 1
    }

    /// The ending of each turn, `None` for a malformed one.
    pub fn endings(&self, turns: &[String]) -> Vec<Option<usize>> {
        turns.iter().map(|turn| self.ending(turn)).collect()
    }

    /// The ending of a well-formed turn: exactly one pair of reason tags, and after it, at the very end, exactly one ending.
    /// White space after the ending does not count.
    pub fn ending(&self, turn: &str) -> Option<usize> {
        let turn = turn.trim_end();
        let (_, reasoned) = self.reason.only(turn).ok()??;
        let mut found = None;
        for (index, ending) in self.endings.iter().enumerate() {
            let span = match &ending.form {
                Form::Literal(text) => once(turn, text).ok()?.map(|start| (start, start + text.len())),
                Form::Tag(pair) => pair.only(turn).ok()?,
            };
            if let Some((start, end)) = span {
                if found.is_some() || start < reasoned || end != turn.len() {
                    return None;
                }
                found = Some(index);
            }
        }
        found
    }

    /// Whether every turn is well-formed and their endings are a legal sequence.
    pub fn is_legal(&self, endings: &[Option<usize>]) -> bool {
        self.legal.iter().any(|legal| legal.len() == endings.len() && legal.iter().zip(endings).all(|(a, b)| Some(*a) == *b))
    }

    /// The last answer of a turn, well-formed or not: what stands before the last closing tag and after the opening tag next to
    /// it.
    pub fn answer<'a>(&self, turn: &'a str) -> Option<&'a str> {
        let (inside, _) = turn.rsplit_once(&self.answer.close)?;
        let (_, answer) = inside.rsplit_once(&self.answer.open)?;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
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

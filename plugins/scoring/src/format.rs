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
    let mut found = occurrences(text, marker);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(()),
        (first, None) => Ok(first),
    }
}

/// Where `marker` stands in `text`. Markers begin with a character that is rare in texts (`<`), so trying each place where it
/// stands beats the standard library's search, which is also large. An empty marker stands nowhere.
pub(crate) fn occurrences<'a>(text: &'a str, marker: &'a str) -> impl DoubleEndedIterator<Item = usize> + 'a {
    let starts = marker.chars().next().into_iter().flat_map(|first| text.match_indices(first)).map(|(at, _)| at);
    let (text, marker) = (text.as_bytes(), marker.as_bytes());
    starts.filter(move |at| text.get(*at..).is_some_and(|rest| rest.starts_with(marker)))
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
        let inside = turn.get(..occurrences(turn, &self.answer.close).next_back()?)?;
        let open = occurrences(inside, &self.answer.open).next_back()?;
        inside.get(open + self.answer.open.len()..)
    }
}

//! Names and values that do not exist, but sound as if they might.
//!
//! Three sources, so that no closed vocabulary can be learned: words of the world taken out of their place, a character chain of order two over the
//! taught names, and halves of two words joined. The first are half of all, so that a word that the tokenizer knows is never a sign of a name
//! that the policy knows, and no word of the world is first met in a search result.

use std::collections::{HashMap, HashSet};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::super::world::{Relation, World};

/// Longest made-up name, characters; the real ones have at most 22.
const LONGEST_NAME: usize = 23;
const TRAILERS: [&str; 6] = ["Islands", "Republic", "Land", "City", "Coast", "Island"];
const LEADERS: [&str; 8] = ["Saint", "New", "South", "North", "El", "San", "Port", "United"];
const COINS: [&str; 8] = ["Dollar", "Franc", "Peso", "Pound", "Rupee", "Krona", "Dinar", "Shilling"];

pub(super) struct Pseudo {
    /// Words of the taught names and capitals.
    words: Vec<String>,
    /// Every word of names and facts, whoever they belong to: the words that the world's tokenizer has.
    vocabulary: Vec<String>,
    /// What follows two characters; `^` opens and `$` closes a word.
    chain: HashMap<[char; 2], Vec<char>>,
    /// Scraps of one to five letters, some with the space before them.
    scraps: Vec<String>,
    /// Every real name: none is ever made up.
    real: HashSet<String>,
    values: [Vec<String>; 4],
}

impl Pseudo {
    pub(super) fn new(world: &World, values: &[Vec<String>; 4]) -> Self {
        let mut words = Vec::new();
        for entity in world.entities.iter().filter(|e| e.class.flag_taught() || e.class.facts_taught()) {
            let capital = entity.class.facts_taught().then(|| entity.fact(Relation::Capital));
            for text in std::iter::once(entity.name.as_str()).chain(capital) {
                words.extend(text.split(' ').filter(|w| w.starts_with(|c: char| c.is_ascii_uppercase())).map(str::to_owned));
            }
        }
        let mut chain: HashMap<[char; 2], Vec<char>> = HashMap::new();
        let mut scraps = Vec::new();
        for word in &words {
            let mut last = ['^', '^'];
            for c in word.to_ascii_lowercase().chars().chain(['$']) {
                chain.entry(last).or_default().push(c);
                last = [last[1], c];
            }
            let letters: Vec<char> = word.chars().collect();
            for length in 1..=5 {
                for (at, piece) in letters.windows(length).enumerate().step_by(length) {
                    let piece: String = piece.iter().collect();
                    scraps.push(if at == 0 { format!(" {piece}") } else { piece });
                }
            }
        }
        let texts =
            world.entities.iter().flat_map(|e| std::iter::once(e.name.as_str()).chain(Relation::ALL.map(|relation| e.fact(relation))));
        let mut vocabulary: Vec<String> = texts.flat_map(|text| text.split(' ')).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        vocabulary.sort();
        vocabulary.dedup();
        Self { words, vocabulary, chain, scraps, real: world.entities.iter().map(|e| e.name.clone()).collect(), values: values.clone() }
    }

    fn any<'a>(&self, items: &'a [String], rng: &mut ChaCha8Rng) -> &'a str {
        if items.is_empty() { "" } else { &items[rng.random_range(0..items.len())] }
    }

    fn word(&self, rng: &mut ChaCha8Rng) -> String {
        let word = match rng.random::<f32>() {
            kind if kind < 0.5 => {
                let tail: String = (0..[0, 0, 0, 0, 1, 1, 2][rng.random_range(0..7)]).map(|_| self.any(&self.scraps, rng).trim()).collect();
                self.any(&self.vocabulary, rng).to_owned() + &tail
            }
            kind if kind < 0.63 => {
                let (a, b) = (self.any(&self.words, rng), self.any(&self.words, rng));
                let head: String = a.chars().take((a.chars().count() / 2).max(2)).collect();
                let tail: String = b.chars().skip(b.chars().count() / 2).collect();
                head + &tail.to_ascii_lowercase()
            }
            _ => capitalised(&self.chained(rng)),
        };
        if word.is_empty() { "Lo".into() } else { word }
    }

    /// A word of the chain, four to thirteen letters, now and then shorter.
    fn chained(&self, rng: &mut ChaCha8Rng) -> String {
        loop {
            let (mut word, mut last) = (String::new(), ['^', '^']);
            while word.len() < 13 {
                let Some(next) = self.chain.get(&last) else { break };
                let c = next[rng.random_range(0..next.len())];
                if c == '$' {
                    break;
                }
                word.push(c);
                last = [last[1], c];
            }
            if word.len() > 2 || rng.random::<f32>() < 0.1 {
                return word;
            }
        }
    }

    /// A name of one to three words that no entity bears.
    pub(super) fn name(&self, rng: &mut ChaCha8Rng) -> String {
        loop {
            let words: Vec<String> = (0..[1, 1, 1, 1, 2, 2, 3][rng.random_range(0..7)]).map(|_| self.word(rng)).collect();
            let mut name = words.join(" ");
            if rng.random::<f32>() < 0.12 {
                name = format!("{name} {}", TRAILERS[rng.random_range(0..TRAILERS.len())]);
            }
            if rng.random::<f32>() < 0.1 {
                name = format!("{} {name}", LEADERS[rng.random_range(0..LEADERS.len())]);
            }
            if name.len() <= LONGEST_NAME && !self.real.contains(&name) {
                return name;
            }
        }
    }

    /// A value as a fact might have it: regions mostly real ones, currencies mostly a word and a coin.
    pub(super) fn value(&self, relation: Relation, rng: &mut ChaCha8Rng) -> String {
        let may_be_real = relation == Relation::Region || rng.random::<f32>() < 0.25;
        if may_be_real && rng.random::<f32>() < 0.8 {
            return self.any(&self.values[relation as usize], rng).to_owned();
        }
        if relation == Relation::Currency && rng.random::<f32>() < 0.7 {
            let coin = if rng.random_range(0..9) == 0 { self.word(rng) } else { COINS[rng.random_range(0..COINS.len())].to_owned() };
            return format!("{} {coin}", self.word(rng));
        }
        self.name(rng)
    }

    /// Five to fourteen pieces in a row: words of the world, and scraps run together.
    pub(super) fn pieces(&self, rng: &mut ChaCha8Rng) -> String {
        let count = rng.random_range(5..15);
        let mut piece = || match rng.random::<f32>() {
            kind if kind < 0.7 => format!(" {}", self.any(&self.vocabulary, rng)),
            _ => self.any(&self.scraps, rng).to_owned(),
        };
        (0..count).map(|_| piece()).collect()
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

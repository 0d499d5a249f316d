//! Makes answers comparable: lower case, no punctuation, no articles, single spaces; and one spelling for what Unicode can spell
//! in several ways (composed and decomposed letters, full-width forms, the final sigma).

use crate::tables::{CLASSES, DECOMPOSITIONS, LOWER};

/// The normalised text. A text that consists of nothing but punctuation and articles would leave nothing to compare: it is
/// returned in lower case with single spaces instead, so that the answer `A` differs from the answer `The`. Blank text gives an
/// empty string.
pub fn normalise(text: &str) -> String {
    let folded = fold(text, |c| !is_punctuation(c));
    let kept = join(folded.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")), folded.len());
    if kept.is_empty() {
        let folded = fold(text, |_| true);
        return join(folded.split_whitespace(), folded.len());
    }
    kept
}

/// One spelling, in lower case, of the characters to keep.
fn fold(text: &str, keep: impl Fn(char) -> bool) -> String {
    if text.is_ascii() {
        // The common case, without the detour over single characters.
        return text.chars().filter(|c| keep(*c)).map(|c| c.to_ascii_lowercase()).collect();
    }
    let mut folded = Vec::with_capacity(text.len());
    for character in text.chars().map(fold_width).filter(|c| keep(*c)) {
        decompose(character, &mut folded);
    }
    order_marks(&mut folded);
    let mut lower = String::with_capacity(text.len());
    for character in folded {
        match lower_case(character) {
            'ς' => lower.push('σ'),
            'ß' => lower.push_str("ss"),
            small => lower.push(small),
        }
    }
    lower
}

/// The lower case of a decomposed letter of the basic plane. The standard library's table costs a component ten times the bytes.
fn lower_case(character: char) -> char {
    let Ok(code) = u16::try_from(character as u32) else { return character };
    if code < 0x80 {
        return character.to_ascii_lowercase();
    }
    let run = LOWER.iter().find(|(first, last, step, _)| (*first..=*last).contains(&code) && (code - first).is_multiple_of(*step));
    run.and_then(|(_, _, _, shift)| char::from_u32(code.wrapping_add(*shift).into())).unwrap_or(character)
}

fn join<'a>(words: impl Iterator<Item = &'a str>, capacity: usize) -> String {
    let mut joined = String::with_capacity(capacity);
    for word in words {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// The words of a normalised text; a character of a script that writes no spaces is a word of its own.
pub fn words(normalised: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for piece in normalised.split(' ').filter(|piece| !piece.is_empty()) {
        let mut start = 0;
        for (at, character) in piece.char_indices() {
            if is_unspaced(character) {
                if start < at {
                    words.extend(piece.get(start..at));
                }
                start = at + character.len_utf8();
                words.extend(piece.get(at..start));
            }
        }
        if start < piece.len() {
            words.extend(piece.get(start..));
        }
    }
    words
}

/// Han, Hiragana and Katakana.
fn is_unspaced(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Full-width ASCII to ASCII, ideographic space to space.
fn fold_width(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(character as u32 - 0xfee0).unwrap_or(character),
        '\u{3000}' => ' ',
        _ => character,
    }
}

/// Punctuation as people type it, in ASCII and beyond, and characters that show nothing.
fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation()
        || matches!(character,
            '¡' | '§' | '«' | '\u{ad}' | '´' | '¶' | '·' | '»' | '¿'
            | '\u{2b9}'..='\u{2bc}' | '\u{200b}'..='\u{200f}' | '\u{2010}'..='\u{2027}' | '\u{202a}'..='\u{202e}' | '\u{2030}'..='\u{205e}'
            | '\u{2060}'..='\u{2064}' | '\u{2212}' | '\u{2e00}'..='\u{2e7f}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
            | '\u{3014}'..='\u{301f}' | '\u{30fb}' | '\u{fe10}'..='\u{fe19}' | '\u{fe30}'..='\u{fe52}' | '\u{feff}')
}

/// Appends the canonical decomposition of `character`.
fn decompose(character: char, out: &mut Vec<char>) {
    let code = character as u32;
    // Hangul syllables are decomposed by arithmetic (Unicode, section 3.12).
    if let Some(index) = code.checked_sub(0xac00).filter(|index| *index < 11172) {
        let jamo = [0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11a7 + index % 28];
        let count = if index % 28 == 0 { 2 } else { 3 };
        out.extend(jamo[..count].iter().filter_map(|code| char::from_u32(*code)));
        return;
    }
    let entry = u16::try_from(code).ok().and_then(|code| DECOMPOSITIONS.binary_search_by_key(&code, |entry| entry.0).ok());
    match entry.map(|index| DECOMPOSITIONS[index]) {
        None => out.push(character),
        Some((_, base, mark)) => {
            for code in [base, mark] {
                if let Some(part) = char::from_u32(code.into()).filter(|part| *part != '\0') {
                    decompose(part, out);
                }
            }
        }
    }
}

/// Sorts runs of combining marks by their class, stably.
fn order_marks(text: &mut [char]) {
    let mut at = 0;
    while at < text.len() {
        let run = text[at..].iter().take_while(|c| class(**c) > 0).count();
        // Insertion sort: runs are short, and the library's sorts are large.
        for end in at + 1..at + run {
            let mut place = end;
            while place > at && class(text[place - 1]) > class(text[place]) {
                text.swap(place - 1, place);
                place -= 1;
            }
        }
        at += run.max(1);
    }
}

/// Canonical combining class of the marks of Latin, Greek and Cyrillic; 0 for all else.
fn class(character: char) -> u8 {
    let code = character as u32;
    if !(0x300..0x370).contains(&code) {
        return 0;
    }
    CLASSES[(code - 0x300) as usize]
}

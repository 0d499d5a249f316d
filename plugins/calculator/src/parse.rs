//! Reads expressions: recursive descent, of bounded depth and length.

use crate::number::Number;
use std::iter::Peekable;
use std::str::Chars;

/// Longest expression in bytes; longer ones are runaway generations.
const MAX_BYTES: usize = 1000;
/// Deepest nesting of brackets, signs and powers.
const MAX_DEPTH: usize = 64;

/// The value of an expression.
///
/// # Errors
/// Says what was found and what would be right.
pub fn evaluate(text: &str) -> Result<Number, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the expression has {} bytes, at most {MAX_BYTES} are read", text.len()));
    }
    let mut parser = Parser { rest: text.chars().peekable(), depth: 0 };
    let value = parser.sum()?;
    match parser.next_symbol() {
        None => Ok(value),
        Some(found) => Err(format!("found `{found}`, expected + - * / % ^ or the end")),
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    depth: usize,
}

impl Parser<'_> {
    /// The next character that is no white space, in the form of its kind that the grammar knows.
    fn next_symbol(&mut self) -> Option<char> {
        while self.rest.next_if(|c| c.is_whitespace()).is_some() {}
        self.rest.peek().map(|c| match c {
            '×' | '·' => '*',
            '÷' | ':' => '/',
            '−' | '–' => '-',
            '[' | '{' => '(',
            ']' | '}' => ')',
            other => *other,
        })
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.next_symbol() == Some(wanted);
        if found {
            self.rest.next();
        }
        found
    }

    fn sum(&mut self) -> Result<Number, String> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value = value.add(self.product()?);
            } else if self.take('-') {
                value = value.add(self.product()?.negate());
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Number, String> {
        let mut value = self.signed()?;
        loop {
            if self.take('*') {
                if self.take('*') {
                    return Err("found `**`, expected ^ for powers".into());
                }
                value = value.multiply(self.signed()?);
            } else if self.take('/') {
                value = value.divide(self.signed()?).ok_or("division by zero")?;
            } else if self.take('%') {
                value = value.remainder(self.signed()?).ok_or("division by zero")?;
            } else {
                return Ok(value);
            }
        }
    }

    /// A sign binds less than a power: -2^2 is -4.
    fn signed(&mut self) -> Result<Number, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the expression nests deeper than {MAX_DEPTH}"));
        }
        let value = if self.take('-') {
            self.signed()?.negate()
        } else if self.take('+') {
            self.signed()?
        } else {
            let base = self.operand()?;
            match self.take('^') {
                true => base.power(self.signed()?).ok_or("the power is not a real number")?,
                false => base,
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn operand(&mut self) -> Result<Number, String> {
        match self.next_symbol() {
            Some('(') => {
                self.rest.next();
                let value = self.sum()?;
                self.take(')').then_some(value).ok_or_else(|| "a bracket is not closed".into())
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() => self.function(),
            Some(found) => Err(format!("found `{found}`, expected a number or a bracket")),
            None => Err("expected a number, e.g. (2 + 3) * 4.5".into()),
        }
    }

    /// Digits with at most one point; commas and `_` between them are passed over.
    fn number(&mut self) -> Result<Number, String> {
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_digit() || matches!(c, '.' | '_' | ',')) {
            if c != '_' && c != ',' {
                text.push(c);
            }
        }
        Number::read(&text).ok_or_else(|| format!("found `{text}`, expected a number"))
    }

    /// `sum(…)` and `avg(…)` over a list, `sqrt(…)` and `abs(…)` of one number; arguments are separated by `;`.
    fn function(&mut self) -> Result<Number, String> {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_alphabetic()) {
            name.push(c.to_ascii_lowercase());
        }
        if !self.take('(') {
            return Err(format!("found `{name}`, expected a number, or sum, avg, sqrt or abs with brackets"));
        }
        let mut values = vec![self.sum()?];
        while self.take(';') {
            values.push(self.sum()?);
        }
        if !self.take(')') {
            return Err("a bracket is not closed; arguments are separated by ;".into());
        }
        let total = values.iter().skip(1).fold(values[0], |total, value| total.add(*value));
        let half = Number::Exact(1, 2);
        let zero = Number::Exact(0, 1);
        match (name.as_str(), values.len()) {
            ("sum", _) => Ok(total),
            ("avg" | "mean", n) => total.divide(Number::Exact(n as i128, 1)).ok_or_else(|| "nothing to average".into()),
            ("sqrt", 1) => root(values[0]).or_else(|| values[0].power(half)).ok_or_else(|| "the root of a negative number".into()),
            ("abs", 1) if values[0].less_than(zero) => Ok(values[0].negate()),
            ("abs", 1) => Ok(values[0]),
            _ => Err(format!("found `{name}` of {} numbers, expected sum, avg, or sqrt or abs of one", values.len())),
        }
    }
}

/// The root of a fraction of squares.
fn root(number: Number) -> Option<Number> {
    let Number::Exact(numerator, denominator) = number else { return None };
    let exact = |n: i128| {
        let root = n.checked_isqrt()?;
        (root * root == n).then_some(root)
    };
    Some(Number::Exact(exact(numerator)?, exact(denominator)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_their_values() {
        for (text, expected) in [
            ("(2 + 3) * 4.5", "22.5"),
            ("0.1 + 0.2", "0.3"),
            ("-2^2", "-4"),
            ("2^-2", "0.25"),
            ("2^3^2", "512"),
            ("1,250,000 / 4", "312500"),
            ("-7 % 3", "2"),
            ("6 × (7 − 2) ÷ 3", "10"),
            ("10 / 3 * 3", "10"),
            ("avg(1; 2; 4)", "≈ 2.3333333333"),
            ("sqrt(2.25) + abs(-1)", "2.5"),
            ("2^200", "≈ 1.6069380442589903e60"),
        ] {
            assert_eq!(evaluate(text).unwrap().written(10).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let deep = "(".repeat(500);
        for (text, word) in [
            ("", "expected a number"),
            ("1 / (2 - 2)", "division by zero"),
            ("(1 + 2", "not closed"),
            ("2 x", "found `x`"),
            ("sin(1)", "found `sin`"),
            (deep.as_str(), "deeper"),
            ("1.2.3", "found `1.2.3`"),
            ("sqrt(-1)", "root"),
        ] {
            let error = evaluate(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(evaluate("10^400").unwrap().written(10).is_none());
    }
}

//! Numbers that are exact as long as numerator and denominator fit 128 bits, and floating-point beyond.

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A fraction in lowest terms; the denominator is positive.
    Exact(i128, i128),
    /// Not exact.
    About(f64),
}

/// Largest exponent that is computed exactly; larger ones overflow or need roots anyway.
const MAX_EXACT_EXPONENT: u32 = 1024;

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Number {
    /// The fraction in lowest terms, or `None` for a zero denominator or one that does not fit.
    fn fraction(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?.max(1);
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        match denominator < 0 {
            true => Some(Number::Exact(numerator.checked_neg()?, denominator.checked_neg()?)),
            false => Some(Number::Exact(numerator, denominator)),
        }
    }

    /// A decimal number as it is written: digits with at most one point.
    pub fn read(text: &str) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() && places.is_empty() {
            return None;
        }
        let digits = format!("{whole}{places}");
        let scale = u32::try_from(places.len()).ok().and_then(|places| 10i128.checked_pow(places));
        match (digits.parse::<i128>().ok(), scale) {
            (Some(numerator), Some(denominator)) => Number::fraction(numerator, denominator),
            _ => text.parse().ok().map(Number::About),
        }
    }

    fn float(self) -> f64 {
        match self {
            Number::Exact(numerator, denominator) => numerator as f64 / denominator as f64,
            Number::About(value) => value,
        }
    }

    /// Exactly if both are exact and the result fits, else in floating point.
    fn combine(self, other: Self, exact: impl Fn(i128, i128, i128, i128) -> Option<Number>, about: impl Fn(f64, f64) -> f64) -> Self {
        let result = match (self, other) {
            (Number::Exact(a, b), Number::Exact(c, d)) => exact(a, b, c, d),
            _ => None,
        };
        result.unwrap_or_else(|| Number::About(about(self.float(), other.float())))
    }

    pub fn add(self, other: Self) -> Self {
        let exact =
            |a: i128, b: i128, c: i128, d: i128| Number::fraction(a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?, b.checked_mul(d)?);
        self.combine(other, exact, |a, b| a + b)
    }

    pub fn negate(self) -> Self {
        match self {
            Number::Exact(numerator, denominator) => {
                numerator.checked_neg().map_or(Number::About(-self.float()), |numerator| Number::Exact(numerator, denominator))
            }
            Number::About(value) => Number::About(-value),
        }
    }

    pub fn multiply(self, other: Self) -> Self {
        let exact = |a: i128, b: i128, c: i128, d: i128| Number::fraction(a.checked_mul(c)?, b.checked_mul(d)?);
        self.combine(other, exact, |a, b| a * b)
    }

    /// `None` when `other` is zero.
    pub fn divide(self, other: Self) -> Option<Self> {
        let exact = |a: i128, b: i128, c: i128, d: i128| Number::fraction(a.checked_mul(d)?, b.checked_mul(c)?);
        (other.float() != 0.0).then(|| self.combine(other, exact, |a, b| a / b))
    }

    /// What is left of a division that rounds down, so it has the sign of `other`. `None` when `other` is zero.
    pub fn remainder(self, other: Self) -> Option<Self> {
        let quotient = self.divide(other)?;
        let whole = match quotient {
            Number::Exact(numerator, denominator) => Number::Exact(numerator.div_euclid(denominator), 1),
            Number::About(value) => Number::About(value.floor()),
        };
        Some(self.add(other.multiply(whole).negate()))
    }

    pub fn less_than(self, other: Self) -> bool {
        self.float() < other.float()
    }

    /// `None` for a negative power of zero and for roots of negative numbers.
    pub fn power(self, exponent: Self) -> Option<Self> {
        let exact = |a: i128, b: i128, c: i128, d: i128| {
            let times = u32::try_from(c.unsigned_abs()).ok().filter(|times| d == 1 && *times <= MAX_EXACT_EXPONENT)?;
            let (top, bottom) = (a.checked_pow(times)?, b.checked_pow(times)?);
            if c < 0 { Number::fraction(bottom, top) } else { Number::fraction(top, bottom) }
        };
        let result = self.combine(exponent, exact, f64::powf);
        (!result.float().is_nan() && !(self.float() == 0.0 && exponent.float() < 0.0)).then_some(result)
    }

    /// In decimals, rounded half away from zero to so many after the point, with `≈` before it where digits are missing. `None` when it
    /// is infinite.
    pub fn written(self, digits: u32) -> Option<String> {
        match self {
            Number::Exact(numerator, denominator) => Some(decimals(numerator, denominator, digits)),
            Number::About(value) if value.is_finite() => Some(format!("≈ {value:e}")),
            Number::About(_) => None,
        }
    }
}

fn decimals(numerator: i128, denominator: i128, digits: u32) -> String {
    let denominator = denominator.unsigned_abs();
    let (mut whole, mut rest) = (numerator.unsigned_abs() / denominator, numerator.unsigned_abs() % denominator);
    let mut places = Vec::new();
    while rest > 0 && places.len() < digits as usize {
        // Long division, one digit at a time; the remainder may need more than 128 bits.
        let (mut digit, mut next) = (0u8, 0u128);
        for _ in 0..10 {
            if next >= denominator - rest {
                next -= denominator - rest;
                digit += 1;
            } else {
                next += rest;
            }
        }
        places.push(digit);
        rest = next;
    }
    let exact = rest == 0;
    if rest >= denominator - rest {
        // Carries to the left, past nines.
        let mut carry = true;
        for place in places.iter_mut().rev() {
            carry = *place == 9;
            *place = if carry { 0 } else { *place + 1 };
            if !carry {
                break;
            }
        }
        if carry {
            whole += 1;
        }
    }
    while places.last() == Some(&0) {
        places.pop();
    }
    let sign = if numerator < 0 && (whole > 0 || !places.is_empty()) { "-" } else { "" };
    let about = if exact { "" } else { "≈ " };
    let point = if places.is_empty() { "" } else { "." };
    let places: String = places.iter().map(|digit| char::from(b'0' + digit)).collect();
    format!("{about}{sign}{whole}{point}{places}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_say_that_they_are_not() {
        for (numerator, denominator, expected) in [
            (3, 10, "0.3"),
            (-7, 2, "-3.5"),
            (1, 3, "≈ 0.3333"),
            (2, 3, "≈ 0.6667"),
            (199_999, 200_000, "≈ 1"),
            (-1, 1_000_000, "≈ 0"),
            (i128::MAX, 1, "170141183460469231731687303715884105727"),
            (i128::MAX - 1, i128::MAX, "≈ 1"),
        ] {
            assert_eq!(decimals(numerator, denominator, 4), expected, "{numerator}/{denominator}");
        }
    }
}

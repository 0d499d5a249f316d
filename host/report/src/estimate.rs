//! A figure with its 95 % interval.

use serde::{Deserialize, Serialize};

/// Two-sided 95 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A mean over questions with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// Share of `hits` in `n`, with the Wilson score interval (Wilson 1927), which stays in [0, 1] and is honest near the ends.
    /// `None` when there is nothing to average.
    pub fn share(hits: usize, n: usize) -> Option<Self> {
        if n == 0 {
            return None;
        }
        let (n, value) = (n as f64, hits as f64 / n as f64);
        let scale = 1.0 + Z * Z / n;
        let centre = (value + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
        // The ends are clamped to the value itself so that rounding never excludes it.
        Some(Self { value, low: (centre - half).max(0.0).min(value), high: (centre + half).min(1.0).max(value) })
    }

    /// Mean of `values` with the normal interval on its standard error (unbiased variance). Where all values are 0 or 1 this is a
    /// [`share`](Self::share). `None` for no values.
    pub fn mean(values: &[f64]) -> Option<Self> {
        if values.iter().all(|v| *v == 0.0 || *v == 1.0) {
            return Self::share(values.iter().filter(|v| **v == 1.0).count(), values.len());
        }
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let half = if values.len() < 2 {
            0.0
        } else {
            let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0);
            Z * (variance / n).sqrt()
        };
        Some(Self { value, low: value - half, high: value + half })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
        let a = Estimate::share(81, 263).unwrap();
        assert!((a.low - 0.2553).abs() < 1e-4 && (a.high - 0.3662).abs() < 1e-4, "{a:?}");
        let b = Estimate::share(0, 20).unwrap();
        assert!(b.low == 0.0 && (b.high - 0.1611).abs() < 1e-4, "{b:?}");
        assert_eq!(Estimate::share(0, 0), None);
    }

    #[test]
    fn mean_of_counts_uses_the_standard_error() {
        let e = Estimate::mean(&[0.0, 1.0, 2.0, 1.0]).unwrap();
        let half = Z * (2.0f64 / 3.0 / 4.0).sqrt();
        assert!((e.value - 1.0).abs() < 1e-12 && (e.high - 1.0 - half).abs() < 1e-12, "{e:?}");
        assert_eq!(Estimate::mean(&[]), None);
        assert_eq!(Estimate::mean(&[1.0, 1.0]), Estimate::share(2, 2));
    }
}

//! Learning rate over the course of a run: a linear warm-up, then a decay.

use crate::OptimiserOptions;
use serde::{Deserialize, Serialize};

/// Learning-rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The peak rate to the end.
    Constant,
    /// A straight line from the peak to `final_share` of it.
    Linear,
    /// Half a cosine from the peak to `final_share` of it.
    Cosine,
}

/// The learning rate of step `step` (the first is 0). The warm-up reaches the peak in its last step; the decay ends after
/// `total_steps`, and later steps keep the final rate.
pub fn learning_rate(options: &OptimiserOptions, step: usize) -> f64 {
    let peak = options.learning_rate;
    if step < options.warmup_steps {
        return peak * (step + 1) as f64 / options.warmup_steps as f64;
    }
    let decay_steps = options.total_steps.saturating_sub(options.warmup_steps);
    let progress = if decay_steps == 0 { 1.0 } else { ((step - options.warmup_steps) as f64 / decay_steps as f64).min(1.0) };
    let floor = options.final_share;
    match options.schedule {
        Schedule::Constant => peak,
        Schedule::Linear => peak * (1.0 - (1.0 - floor) * progress),
        Schedule::Cosine => {
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
            peak * (floor + (1.0 - floor) * cosine)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(schedule: Schedule) -> OptimiserOptions {
        OptimiserOptions { learning_rate: 2.0, warmup_steps: 4, total_steps: 12, final_share: 0.1, schedule, ..OptimiserOptions::default() }
    }

    #[test]
    fn the_warm_up_is_linear_and_ends_at_the_peak() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            let rates: Vec<f64> = (0..5).map(|s| learning_rate(&options(schedule), s)).collect();
            assert_eq!(rates, [0.5, 1.0, 1.5, 2.0, 2.0]);
        }
    }

    #[test]
    fn decays_pass_half_way_and_stop_at_the_final_share() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert!((learning_rate(&options(schedule), 8) - 1.1).abs() < 1e-12);
            for step in [12, 13, 1000] {
                assert!((learning_rate(&options(schedule), step) - 0.2).abs() < 1e-12);
            }
        }
        assert_eq!(learning_rate(&options(Schedule::Constant), 1000), 2.0);
    }
}

//! Losses and gradients are those of the formulas, whatever the micro-batches.

use super::*;

/// The slope of `loss` along the gradient must be the gradient's norm.
fn assert_slope(setup: &mut Setup, mut loss: impl FnMut(&mut Setup) -> f64) {
    loss(setup);
    let gradient = setup.gradient();
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    assert!(norm > 1e-2, "{norm}");
    let step = 2e-3 / norm;
    setup.shift(&gradient, step);
    let above = loss(setup);
    setup.shift(&gradient, -2.0 * step);
    let below = loss(setup);
    let slope = (above - below) / (2.0 * step) / norm;
    assert!((slope / norm - 1.0).abs() < 0.01, "slope {slope}, norm of the gradient {norm}");
}

#[test]
fn the_supervised_gradient_equals_finite_differences() {
    let batch = examples(1, 3);
    let mut setup = setup(0.0, 1, 64);
    assert_slope(&mut setup, |setup| setup.learner.sft_step(&batch).unwrap());
}

#[test]
fn the_grpo_gradient_equals_finite_differences() {
    for normalisation in [Normalisation::Token, Normalisation::Sequence] {
        let mut setup = setup(0.0, 1, 64);
        // A behaviour policy and a reference that differ from the policy: ratios and KL are away from their trivial values.
        let sampled = setup_over(setup.weights.deep_copy().unwrap(), 0.0, 1, 64);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let noise: Vec<f32> = sampled.numbers().iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        sampled.shift(&noise, 0.01);
        let groups = groups(&sampled, 2, 2, 3);
        let reference = sampled.frozen();
        // A wide range: where a ratio crosses its end, the loss has a kink (`loss` tests the clipping token by token).
        let options = GrpoOptions { clip: 0.9, kl: 0.5, normalisation, stop_on_logprob_diff: false, ..Default::default() };
        let mut report = StepReport::default();
        assert_slope(&mut setup, |setup| {
            report = setup.learner.grpo_step(&groups, &options, Some(&reference)).unwrap();
            report.loss
        });
        assert!(report.kl > 1e-3 && report.logprob_diff_max > 1e-2, "{report:?}");
    }
}

/// Rehearsal adds the supervised loss and its gradient to GRPO's, and is the supervised step where there is nothing else.
#[test]
fn rehearsal_adds_the_supervised_gradient() {
    let options = GrpoOptions { kl: 0.0, ..Default::default() };
    let batch = examples(31, 5);
    let [mut alone, mut supervised, mut both, mut none] = [(); 4].map(|()| setup(0.0, 2, 96));
    let groups = groups(&none, 32, 3, 3);

    let supervised_loss = supervised.learner.sft_step(&batch).unwrap();
    let rehearsed = alone.learner.grpo_step_with_rehearsal(&[], &batch, &options, None).unwrap();
    assert!((rehearsed.rehearsal_loss - supervised_loss).abs() < 1e-6 && rehearsed.tokens == 0);
    assert!(largest_difference(&alone.gradient(), &supervised.gradient()) < 1e-6);

    let grpo = none.learner.grpo_step(&groups, &options, None).unwrap();
    let report = both.learner.grpo_step_with_rehearsal(&groups, &batch, &options, None).unwrap();
    assert!((report.loss - grpo.loss - supervised_loss).abs() < 1e-5 && grpo.rehearsal_loss == 0.0);
    let sum: Vec<f32> = none.gradient().iter().zip(supervised.gradient()).map(|(a, b)| a + b).collect();
    assert!(largest_difference(&both.gradient(), &sum) < 1e-5);
    assert!(supervised.gradient().iter().any(|g| g.abs() > 1e-3));
}

#[test]
fn the_grpo_loss_equals_the_formula_over_the_whole_batch() {
    let mut setup = setup(0.0, 1, 50);
    let mut groups = groups(&setup, 3, 2, 3);
    groups[1][0].reward = None;
    // Sampled by a policy that liked every token a little better.
    for trajectory in groups.iter_mut().flatten() {
        trajectory.logprobs.iter_mut().for_each(|p| *p = (*p + 0.3).min(0.0));
    }
    for normalisation in [Normalisation::Token, Normalisation::Sequence] {
        let options = GrpoOptions { kl: 0.0, normalisation, stop_on_logprob_diff: false, ..Default::default() };
        let report = setup.learner.grpo_step(&groups, &options, None).unwrap();
        let (mut sums, mut tokens, mut clipped) = (Vec::new(), Vec::new(), 0);
        for group in &groups {
            let rewards: Vec<f64> = group.iter().filter_map(|t| t.reward).collect();
            let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (rewards.len() - 1) as f64;
            for trajectory in group.iter().filter(|t| t.reward.is_some()) {
                let advantage = (trajectory.reward.unwrap() - mean) / (variance.sqrt() + 1e-6);
                let new = logprobs(&setup, &trajectory.segment, &trajectory.mask);
                let term = |(new, old): (&f32, &f32)| {
                    let ratio = (f64::from(*new) - f64::from(*old)).exp();
                    let bounded = ratio.clamp(0.8, 1.2);
                    clipped += usize::from(bounded * advantage < ratio * advantage);
                    -(ratio * advantage).min(bounded * advantage)
                };
                sums.push(new.iter().zip(&trajectory.logprobs).map(term).sum::<f64>());
                tokens.push(new.len() as f64);
            }
        }
        let expected = match normalisation {
            Normalisation::Token => sums.iter().sum::<f64>() / tokens.iter().sum::<f64>(),
            Normalisation::Sequence => sums.iter().zip(&tokens).map(|(s, n)| s / n).sum::<f64>() / sums.len() as f64,
        };
        assert!((report.loss - expected).abs() < 1e-5, "{} {expected}", report.loss);
        let share = clipped as f64 / tokens.iter().sum::<f64>();
        assert!(share > 0.1 && (report.clip_share - share).abs() < 0.02, "{} {share}", report.clip_share);
        assert_eq!((report.episodes_masked, report.groups_skipped), (1, 0));
        assert_eq!(report.tokens, tokens.iter().sum::<f64>() as usize);
    }
}

#[test]
fn micro_batches_and_workers_change_nothing() {
    let batch = examples(4, 13);
    let mut whole = setup(1e-3, 1, 100_000);
    let loss = whole.learner.sft_step(&batch).unwrap();
    for (workers, budget) in [(1, 1), (1, 60), (2, 100_000), (2, 60), (3, 90)] {
        let mut parts = setup(1e-3, workers, budget);
        assert!((parts.learner.sft_step(&batch).unwrap() - loss).abs() < 1e-6);
        let difference = largest_difference(&whole.gradient(), &parts.gradient());
        assert!(difference < 1e-6, "{workers} workers, budget {budget}: {difference}");
    }
    // The same plan on other threads: not a bit of difference.
    let mut one = setup(1e-3, 1, 60);
    one.learner.sft_step(&batch).unwrap();
    let mut again = setup(1e-3, 2, 60);
    again.learner.sft_step(&batch).unwrap();
    let mut twice = setup(1e-3, 2, 60);
    twice.learner.sft_step(&batch).unwrap();
    assert_eq!(again.numbers(), twice.numbers());
}

#[test]
fn what_follows_the_last_target_changes_nothing() {
    let whole = examples(6, 4);
    let cut: Vec<Example> = whole
        .iter()
        .map(|example| {
            // Without the last tool result and its image.
            let length = example.mask.len() - 3;
            let tokens = example.segment.tokens[..length].to_vec();
            Example { segment: Segment { tokens, images: example.segment.images[..1].to_vec() }, mask: example.mask[..length].to_vec() }
        })
        .collect();
    let (mut a, mut b) = (setup(1e-3, 1, 64), setup(1e-3, 1, 64));
    assert_eq!(a.learner.sft_step(&whole).unwrap(), b.learner.sft_step(&cut).unwrap());
    assert_eq!(a.numbers(), b.numbers());
}

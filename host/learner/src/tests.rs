//! The learner on tiny models: exact gradients, whatever the micro-batches; learning; resuming; refusing.

use crate::*;
use candle_core::Device;
use mmhost_model::{ImageInput, ModelConfig, ModelShape, Packed, PositionCursor, TokenIds};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const VOCAB: u32 = 40;
const IMAGE: u32 = 36;

fn config() -> ModelConfig {
    let shape = ModelShape {
        hidden_size: 32,
        intermediate_size: 48,
        num_layers: 2,
        vision_hidden_size: 32,
        vision_intermediate_size: 48,
        initializer_range: 0.1,
        ..Default::default()
    };
    let tokens = TokenIds { image: IMAGE, video: 37, vision_start: 38, vision_end: 39, bos: None, eos: vec![35], pad: None };
    ModelConfig::from_shape(&shape, VOCAB as usize, tokens).unwrap()
}

/// A learner with its weights, the same for the same seed.
struct Setup {
    config: ModelConfig,
    weights: Weights,
    learner: Learner,
}

fn setup(learning_rate: f64, workers: usize, token_budget: usize) -> Setup {
    setup_over(Weights::init(&config(), 7, &Device::Cpu).unwrap(), learning_rate, workers, token_budget)
}

fn setup_over(weights: Weights, learning_rate: f64, workers: usize, token_budget: usize) -> Setup {
    let config = config();
    let options = OptimiserOptions { learning_rate, weight_decay: 0.0, ..Default::default() };
    let model = Qwen2_5Vl::new(&config, &weights).unwrap();
    let learner = Learner::new(model, &weights, options, workers, token_budget).unwrap();
    Setup { config, weights, learner }
}

impl Setup {
    fn frozen(&self) -> Qwen2_5Vl {
        Qwen2_5Vl::frozen(&self.config, &self.weights).unwrap()
    }

    /// All parameters, one after another.
    fn numbers(&self) -> Vec<f32> {
        let vars = self.weights.vars().values();
        vars.flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    /// The gradient of the last step, laid out as [`Setup::numbers`].
    fn gradient(&self) -> Vec<f32> {
        let vars = self.weights.vars().values().enumerate();
        let of = |(i, var): (usize, &candle_core::Var)| match self.learner.gradients.get(i) {
            Some(values) => values.to_vec(),
            None => vec![0.0; var.elem_count()],
        };
        vars.flat_map(of).collect()
    }

    /// Moves every parameter along `direction`.
    fn shift(&self, direction: &[f32], by: f64) {
        let mut at = 0;
        for var in self.weights.vars().values() {
            let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let moved: Vec<f32> = values.iter().zip(&direction[at..]).map(|(v, d)| v + (by * f64::from(*d)) as f32).collect();
            at += values.len();
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
}

fn image(rng: &mut ChaCha8Rng) -> Arc<ImageInput> {
    let pixel_values = (0..8 * 1176).map(|_| rng.random_range(-1.0..1.0)).collect();
    Arc::new(ImageInput { pixel_values, grid_thw: [1, 2, 4] })
}

/// A sequence as an episode leaves it: prompt with an image, sampled turn, tool result with an image, sampled turn, tool result.
fn sequence(rng: &mut ChaCha8Rng, first_image: &Arc<ImageInput>) -> (Segment, Vec<bool>) {
    let mut segment = Segment { tokens: vec![1, IMAGE, IMAGE], images: vec![first_image.clone()] };
    let mut mask = vec![false; 3];
    let mut text = |segment: &mut Segment, rng: &mut ChaCha8Rng, target: bool| {
        for _ in 0..rng.random_range(2..9) {
            segment.tokens.push(rng.random_range(0..35));
            mask.push(target);
        }
        mask.len()
    };
    text(&mut segment, rng, false);
    text(&mut segment, rng, true);
    text(&mut segment, rng, false);
    text(&mut segment, rng, true);
    mask.extend([false; 3]);
    segment.tokens.extend([2, IMAGE, IMAGE]);
    segment.images.push(image(rng));
    (segment, mask)
}

fn examples(seed: u64, count: usize) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let shared = image(&mut rng);
    let example = |_| {
        let (segment, mask) = sequence(&mut rng, &shared);
        Example { segment, mask }
    };
    (0..count).map(example).collect()
}

/// Log-probabilities of the targets, one sequence at a time and without a shortcut.
fn logprobs(setup: &Setup, segment: &Segment, mask: &[bool]) -> Vec<f32> {
    let positions = PositionCursor::default().extend(&setup.config, &segment.tokens, &segment.images).unwrap();
    let mut packed = Packed::default();
    packed.push(&segment.tokens, &positions, &segment.images);
    let model = setup.frozen();
    let logits = model.logits(&model.forward(&packed).unwrap()).unwrap().to_vec2::<f32>().unwrap();
    let targets = (1..mask.len()).filter(|&i| mask[i]);
    let logprob = |i: usize| {
        let row = &logits[i - 1];
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(row[segment.tokens[i] as usize]) - total.ln()
    };
    targets.map(|i| logprob(i) as f32).collect()
}

/// Groups of episodes with random rewards, "sampled" from the setup's policy.
fn groups(setup: &Setup, seed: u64, count: usize, size: usize) -> Vec<Group> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut group = |g: usize| {
        let shared = image(&mut rng);
        let mut episode = |i: usize| {
            let (segment, mask) = sequence(&mut rng, &shared);
            let logprobs = logprobs(setup, &segment, &mask);
            let reward = Some(f64::from(rng.random_range(0..3)) + i as f64 * 0.1);
            Trajectory { segment, mask, logprobs, reward, id: format!("group={g}/rollout={i}") }
        };
        (0..size).map(&mut episode).collect()
    };
    (0..count).map(&mut group).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

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

#[test]
fn supervised_training_learns_a_handful_of_sequences_by_heart() {
    let batch = examples(8, 6);
    let mut setup = setup(5e-3, 2, 200);
    let first = setup.learner.sft_step(&batch).unwrap();
    assert!((first - f64::from(VOCAB).ln()).abs() < 1.0, "{first}");
    let last = (0..120).map(|_| setup.learner.sft_step(&batch).unwrap()).last().unwrap();
    assert!(last < 0.05, "{last}");
    assert_eq!(setup.learner.steps(), 121);
}

/// Log-probabilities of every token after a fixed prompt.
fn distribution(setup: &Setup) -> Vec<f32> {
    let mut packed = Packed::default();
    packed.push(&[3, 4], &[[0; 3], [1; 3]], &[]);
    let model = setup.frozen();
    let logits = model.logits(&model.forward(&packed).unwrap()).unwrap().to_vec2::<f32>().unwrap();
    let total: f64 = logits[1].iter().map(|&x| f64::from(x).exp()).sum();
    logits[1].iter().map(|&x| (f64::from(x) - total.ln()) as f32).collect()
}

/// Draws one token after that prompt and rewards one in five.
fn draw(logprobs: &[f32], rng: &mut ChaCha8Rng, id: String) -> Trajectory {
    let mut threshold: f32 = rng.random();
    let within = |logprob: &f32| {
        threshold -= logprob.exp();
        threshold < 0.0
    };
    // Image tokens are never sampled; the last ordinary token takes their place.
    let token = logprobs[..35].iter().position(within).unwrap_or(34);
    let reward = Some(if token % 5 == 2 { 1.0 } else { 0.0 });
    let segment = Segment { tokens: vec![3, 4, token as u32], images: vec![] };
    Trajectory { segment, mask: vec![false, false, true], logprobs: vec![logprobs[token]], reward, id }
}

#[test]
fn grpo_raises_the_probability_of_what_is_rewarded_and_the_kl_holds_it_back() {
    let chance = |kl: f32| {
        let mut setup = setup(3e-3, 1, 1000);
        let reference = Qwen2_5Vl::frozen(&setup.config, &setup.weights.deep_copy().unwrap()).unwrap();
        let options = GrpoOptions { kl, kl_on_skipped: true, ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for _ in 0..30 {
            let logprobs = distribution(&setup);
            let mut group = |g: usize| (0..8).map(|i| draw(&logprobs, &mut rng, format!("group={g}/rollout={i}"))).collect();
            let groups: Vec<Group> = (0..4).map(&mut group).collect();
            let report = setup.learner.grpo_step(&groups, &options, Some(&reference)).unwrap();
            assert!(report.logprob_diff_max < 1e-4, "{report:?}");
        }
        distribution(&setup)[..35].iter().skip(2).step_by(5).map(|p| p.exp()).sum::<f32>()
    };
    let (free, held) = (chance(0.0), chance(5.0));
    assert!(free > 0.9, "{free}");
    assert!(held < free - 0.2, "{held} {free}");
}

#[test]
fn several_updates_clip_what_has_moved_too_far() {
    let mut setup = setup(3e-3, 2, 100);
    let groups = groups(&setup, 10, 2, 4);
    let once = GrpoOptions { kl: 0.0, ..Default::default() };
    let report = setup.learner.grpo_step(&groups, &once, None).unwrap();
    assert_eq!(report.clip_share, 0.0);
    assert!(report.entropy > 2.0 && report.grad_norm > 0.0, "{report:?}");
    let thrice = GrpoOptions { updates_per_batch: 3, stop_on_logprob_diff: false, ..once };
    let report = setup.learner.grpo_step(&groups, &thrice, None).unwrap();
    assert!(report.clip_share > 0.0, "{report:?}");
    assert_eq!(setup.learner.steps(), 2);
}

#[test]
fn skipped_groups_count_for_the_kl_alone() {
    let mut setup = setup(1e-3, 1, 1000);
    let mut groups = groups(&setup, 11, 2, 3);
    groups[0].iter_mut().for_each(|t| t.reward = Some(0.1));
    groups[1][0].reward = None;
    let sampled = |group: &Group| group.iter().filter(|t| t.reward.is_some()).map(|t| t.logprobs.len()).sum::<usize>();
    let reference = setup.frozen();
    let without = GrpoOptions { kl: 0.1, ..Default::default() };
    let report = setup.learner.grpo_step(&groups, &without, Some(&reference)).unwrap();
    assert_eq!((report.groups_skipped, report.episodes_masked, report.tokens), (1, 1, sampled(&groups[1])));
    assert!(report.kl.abs() < 1e-9, "the reference shares the policy's weights: {}", report.kl);
    let with = GrpoOptions { kl_on_skipped: true, stop_on_logprob_diff: false, ..without };
    let report = setup.learner.grpo_step(&groups, &with, Some(&reference)).unwrap();
    assert_eq!(report.tokens, sampled(&groups[0]) + sampled(&groups[1]));
    // Nothing to learn from: the step counts, the weights rest.
    let before = setup.numbers();
    let none = GrpoOptions { kl: 0.0, kl_on_skipped: true, ..Default::default() };
    let report = setup.learner.grpo_step(&groups[..1], &none, None).unwrap();
    assert_eq!((report.groups_skipped, report.tokens, report.loss), (1, 0, 0.0));
    assert_eq!(setup.learner.steps(), 3);
    assert_eq!(setup.numbers(), before);
}

#[test]
fn a_wrong_log_probability_stops_the_step_and_names_the_episode() {
    let mut setup = setup(1e-3, 2, 60);
    let mut groups = groups(&setup, 12, 2, 3);
    let wrong = &mut groups[1][2];
    wrong.logprobs[3] -= 0.01;
    let expected = wrong.mask.iter().enumerate().filter(|(_, target)| **target).nth(3).unwrap().0;
    let options = GrpoOptions { kl: 0.0, ..Default::default() };
    let before = setup.numbers();
    let error = setup.learner.grpo_step(&groups, &options, None).unwrap_err();
    assert_eq!(error.sequence(), Some("group=1/rollout=2"));
    assert!(matches!(error, Error::LogprobDifference { position, .. } if position == expected), "{error}");
    assert_eq!((setup.numbers(), setup.learner.steps()), (before, 0));
    let go_on = GrpoOptions { stop_on_logprob_diff: false, ..options };
    let report = setup.learner.grpo_step(&groups, &go_on, None).unwrap();
    assert!((report.logprob_diff_max - 0.01).abs() < 1e-4, "{report:?}");
    assert!(report.logprob_diff_mean < 1e-3, "{report:?}");
}

#[test]
fn bad_input_is_refused_before_anything_changes() {
    let mut setup = setup(1e-3, 1, 100);
    let before = setup.numbers();
    let mut batch = examples(13, 2);
    batch[1].segment.images.pop();
    let error = setup.learner.sft_step(&batch).unwrap_err();
    assert!(matches!(&error, Error::Invariant { id, violation: Violation::ImageTokens { .. } } if id == "example 1"), "{error}");
    let error = setup.learner.grpo_step(&[], &GrpoOptions::default(), None).unwrap_err();
    assert!(matches!(error, Error::NoReference { .. }), "{error}");
    let weights = setup.weights.deep_copy().unwrap();
    let model = Qwen2_5Vl::new(&setup.config, &weights).unwrap();
    let error = Learner::new(model, &weights, OptimiserOptions::default(), 0, 100).err().unwrap();
    assert!(error.to_string().contains("workers"), "{error}");
    assert_eq!(setup.numbers(), before);
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_weights() {
    let mut setup = setup(1e-3, 2, 60);
    let groups = groups(&setup, 14, 2, 3);
    let var = setup.weights.vars().values().next().unwrap().clone();
    var.set(&(var.as_tensor() * f64::NAN).unwrap()).unwrap();
    let bits = |setup: &Setup| setup.numbers().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let before = bits(&setup);
    let error = setup.learner.sft_step(&examples(14, 3)).unwrap_err();
    assert!(matches!(error, Error::NonFiniteLoss { step: 0, .. }), "{error}");
    let error = setup.learner.grpo_step(&groups, &GrpoOptions { kl: 0.0, ..Default::default() }, None).unwrap_err();
    assert_eq!(error.sequence(), Some("group=0/rollout=0"));
    assert_eq!((bits(&setup), setup.learner.steps()), (before, 0));
}

#[test]
fn a_restored_learner_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let batch = examples(15, 5);
    let mut unbroken = setup(1e-3, 2, 80);
    for _ in 0..3 {
        unbroken.learner.sft_step(&batch).unwrap();
    }
    unbroken.learner.save(dir.path()).unwrap();
    let mut resumed = setup_over(unbroken.weights.deep_copy().unwrap(), 1e-3, 2, 80);
    resumed.learner.restore(dir.path()).unwrap();
    assert_eq!(resumed.learner.steps(), 3);
    for _ in 0..3 {
        let losses = [&mut unbroken, &mut resumed].map(|setup| setup.learner.sft_step(&batch).unwrap());
        assert_eq!(losses[0], losses[1]);
    }
    assert_eq!(unbroken.numbers(), resumed.numbers());
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (tensors, record) = (dir.path().join("optimiser.safetensors"), dir.path().join("learner.json"));
    let mut setup = setup(1e-3, 1, 80);
    setup.learner.sft_step(&examples(16, 2)).unwrap();
    setup.learner.save(dir.path()).unwrap();
    let sound = [std::fs::read(&tensors).unwrap(), std::fs::read(&record).unwrap()];
    let damage = |setup: &mut Setup, path: &Path, content: Option<Vec<u8>>| {
        std::fs::write(&tensors, &sound[0]).unwrap();
        std::fs::write(&record, &sound[1]).unwrap();
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let error = setup.learner.restore(dir.path()).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(setup.learner.steps(), 1);
    };
    let mut flipped = sound[0].clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    damage(&mut setup, &tensors, Some(flipped));
    damage(&mut setup, &tensors, Some(sound[0][..1000].to_vec()));
    damage(&mut setup, &tensors, None);
    damage(&mut setup, &record, Some(sound[1][..100].to_vec()));
    damage(&mut setup, &record, Some(String::from_utf8_lossy(&sound[1]).replace("\"format\": 1", "\"format\": 2").into()));
    damage(&mut setup, &record, None);
    // Of another model.
    let shape = ModelShape { hidden_size: 64, ..Default::default() };
    let other = ModelConfig::from_shape(&shape, VOCAB as usize, config().tokens).unwrap();
    let weights = Weights::init(&other, 1, &Device::Cpu).unwrap();
    let model = Qwen2_5Vl::new(&other, &weights).unwrap();
    let mut learner = Learner::new(model, &weights, OptimiserOptions::default(), 1, 80).unwrap();
    std::fs::write(&tensors, &sound[0]).unwrap();
    std::fs::write(&record, &sound[1]).unwrap();
    let error = learner.restore(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Checkpoint { problem, .. } if problem.contains("another model")), "{error}");
    assert!(setup.learner.restore(&dir.path().join("absent")).is_err());
}

//! Learning, being held back, resuming, refusing.

use super::*;

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

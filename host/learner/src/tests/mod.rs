//! The learner on tiny models: exact gradients, whatever the micro-batches; learning; resuming; refusing.

use crate::*;
use candle_core::Device;
use mmhost_model::{ImageInput, ModelConfig, ModelShape, Packed, PositionCursor, TokenIds};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

mod gradients;
mod training;

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

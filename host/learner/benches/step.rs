//! Time of a GRPO step of the nano model: 16 groups of 8 episodes, one image and about 100 tokens each, 48 of them sampled.
//!
//! `cargo bench -p mmhost-learner --bench step` varies workers, micro-batch size and the KL term, and prints the median of a few steps after
//! a warm-up: wall-clock time, and the processor time of all threads, which a busy machine disturbs less (Linux only).

use candle_core::Device;
use mmhost_learner::{Group, GrpoOptions, Learner, OptimiserOptions, Trajectory};
use mmhost_model::{ImageInput, ModelConfig, Qwen2_5Vl, Segment, TokenIds, Weights};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VOCAB: u32 = 640;
const IMAGE: u32 = 636;
const STEPS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // SAFETY: no other thread runs yet. See `Learner::new` for the reason.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let tokens = TokenIds { image: IMAGE, video: 637, vision_start: 638, vision_end: 639, bos: None, eos: vec![635], pad: None };
    let config = ModelConfig::nano(VOCAB as usize, tokens)?;
    let groups = groups();
    let sampled: usize = groups.iter().flatten().map(|t| t.logprobs.len()).sum();
    let all: usize = groups.iter().flatten().map(|t| t.mask.len()).sum();
    println!("{} episodes, {all} tokens, {sampled} sampled", groups.iter().flatten().count());
    println!("{:>7} {:>12} {:>5} {:>9} {:>9} {:>12}", "workers", "token_budget", "kl", "step_ms", "cpu_ms", "tokens_per_s");
    for kl in [0.0, 0.1] {
        for workers in [1, 2] {
            for token_budget in [512, 1024, 2048, 4096, 16384] {
                let weights = Weights::init(&config, 1, &Device::Cpu)?;
                let base = weights.deep_copy()?;
                let reference = Qwen2_5Vl::frozen(&config, &base)?;
                let model = Qwen2_5Vl::new(&config, &weights)?;
                let mut learner = Learner::new(model, &weights, OptimiserOptions::default(), workers, token_budget)?;
                let options = GrpoOptions { kl, max_logprob_diff: f64::INFINITY, ..Default::default() };
                let (mut times, mut cpu) = (Vec::new(), 0);
                for step in 0..=STEPS {
                    if step == 1 {
                        cpu = cpu_ms();
                    }
                    let start = Instant::now();
                    learner.grpo_step(&groups, &options, Some(&reference))?;
                    times.push(start.elapsed().as_secs_f64());
                }
                let cpu = (cpu_ms() - cpu) / STEPS as u64;
                let times = &mut times[1..];
                times.sort_by(f64::total_cmp);
                let median = times[STEPS / 2];
                println!("{workers:>7} {token_budget:>12} {kl:>5} {:>9.1} {cpu:>9} {:>12.0}", median * 1e3, all as f64 / median);
            }
        }
    }
    Ok(())
}

/// Processor time of this process so far; fields 14 and 15 of `/proc/self/stat` count hundredths of a second.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

/// Episodes of random tokens; 56×56 pixels are 16 patches and 4 tokens.
fn groups() -> Vec<Group> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut group = |g: usize| {
        let pixel_values = (0..16 * 1176).map(|_| rng.random_range(-1.0..1.0)).collect();
        let image = Arc::new(ImageInput { pixel_values, grid_thw: [1, 4, 4] });
        let mut episode = |i: usize| {
            let prompt = 40 + rng.random_range(0..16);
            let sampled = 40 + rng.random_range(0..17);
            let mut tokens = vec![638, IMAGE, IMAGE, IMAGE, IMAGE, 639];
            tokens.extend((6..prompt + sampled).map(|_| rng.random_range(0..635)));
            let mask = (0..prompt + sampled).map(|t| t >= prompt).collect();
            Trajectory {
                segment: Segment { tokens, images: vec![image.clone()] },
                mask,
                logprobs: vec![-6.5; sampled],
                reward: Some(f64::from(rng.random_range(0..2)) + i as f64 * 1e-3),
                id: format!("group={g}/rollout={i}"),
            }
        };
        (0..8).map(&mut episode).collect()
    };
    (0..16).map(&mut group).collect()
}

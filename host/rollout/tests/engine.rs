//! Rollouts with the real engine over a small random model: what the engine computed while the episodes grew, turn by turn, with
//! images in prompts and tool results, is what one forward over the finished record gives.

mod common;

use candle_core::Device;
use common::*;
use mmhost_engine::{LocalEngine, LocalEngineOptions};
use mmhost_model::{ModelConfig, ModelShape, Packed, PositionCursor, Qwen2_5Vl, Weights};
use mmhost_rollout::{Ending, Episode, Roller, Tool, Workflow};
use std::sync::Arc;

fn model() -> (ModelConfig, Qwen2_5Vl) {
    let processor = processor();
    let shape = ModelShape { initializer_range: 0.2, ..Default::default() };
    let config = ModelConfig::from_shape(&shape, processor.tokenizer.vocab_size(), processor.token_ids().unwrap()).unwrap();
    let weights = Weights::init(&config, 3, &Device::Cpu).unwrap();
    let model = Qwen2_5Vl::frozen(&config, &weights).unwrap();
    (config, model)
}

async fn play(model: &Qwen2_5Vl, workers: usize, max_batch: usize, seed: u64) -> Vec<Episode> {
    let options = LocalEngineOptions { workers, max_batch, prefill_tokens: 256 };
    let engine = LocalEngine::start(model.clone(), processor(), options);
    let tools = usual_tools().into_iter().map(|tool| tool as Arc<dyn Tool>).collect();
    let limits = mmhost_rollout::ProtocolOptions { max_turn_tokens: 12, max_episode_tokens: 512, ..Default::default() };
    let roller = Roller::new(Arc::new(engine), processor(), tools, limits).unwrap();
    let tasks: Vec<_> = ["What is the capital?", "Who?", "Where is it?"].map(task).into();
    let groups = roller.run(&tasks, 3, Workflow::Rag, 1.0, seed, "").await.unwrap();
    groups.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollout_logprobs_are_those_of_one_forward() {
    let (config, model) = model();
    let episodes = play(&model, 2, 4, 5).await;
    let mut largest = 0.0_f32;
    let mut compared = 0;
    for episode in &episodes {
        assert!(episode.calls.len() == 2 && episode.images.len() == 2, "{:?}", episode.ending);
        assert!(matches!(episode.ending, Ending::Answered | Ending::Malformed));
        let positions = PositionCursor::default().extend(&config, &episode.tokens, &episode.images).unwrap();
        let mut packed = Packed::default();
        packed.push(&episode.tokens, &positions, &episode.images);
        let hidden = model.forward(&packed).unwrap();
        let before = hidden.narrow(0, 0, episode.tokens.len() - 1).unwrap();
        let all = model.target_logprobs(&before, &episode.tokens[1..], 1.0).unwrap().to_vec1::<f32>().unwrap();
        let learned = all.iter().zip(&episode.mask[1..]).filter(|(_, sampled)| **sampled).map(|(logprob, _)| *logprob);
        for (ours, theirs) in learned.zip(&episode.logprobs) {
            largest = largest.max((ours - theirs).abs());
            compared += 1;
        }
    }
    println!("largest difference of {compared} log-probabilities: {largest:e}");
    assert!(compared > 200);
    assert!(largest < 1e-4, "{largest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_seeds_give_equal_episodes_however_they_are_batched() {
    let (_, model) = model();
    let told = |episodes: &[Episode]| -> Vec<_> {
        episodes.iter().map(|episode| (episode.tokens.clone(), episode.mask.clone(), episode.logprobs.clone(), episode.ending)).collect()
    };
    let one = play(&model, 1, 1, 5).await;
    let other = play(&model, 2, 64, 5).await;
    assert!(told(&one) == told(&other), "bit for bit");
    let another = play(&model, 2, 64, 6).await;
    assert!(told(&one) != told(&another));
}

//! The local engine over a small random model: scheduling must not show in any token or log-probability.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use futures::future::join_all;
use mmhost_engine::{Engine, EngineError, Finish, GeneratedTurn, LocalEngine, LocalEngineOptions, Sampling, SequenceId, TurnRequest};
use mmhost_model::{ImageInput, ModelConfig, ModelShape, Packed, PositionCursor, Qwen2_5Vl, Segment, TokenIds, Weights};

const VOCAB: usize = 650;
const EOS: u32 = 1;
const IMAGE: u32 = 3;

fn config() -> ModelConfig {
    let tokens = TokenIds { image: IMAGE, video: 4, vision_start: 5, vision_end: 6, bos: None, eos: vec![EOS], pad: None };
    // Wide initial weights make the distributions uneven, so that a wrong cache or position changes the tokens.
    let shape = ModelShape { hidden_size: 64, intermediate_size: 96, num_layers: 2, initializer_range: 0.3, ..ModelShape::default() };
    ModelConfig::from_shape(&shape, VOCAB, tokens).unwrap()
}

fn weights() -> Weights {
    Weights::init(&config(), 11, &Device::Cpu).unwrap()
}

fn engine_over(weights: &Weights, workers: usize, max_batch: usize, prefill_tokens: usize) -> LocalEngine {
    let model = Qwen2_5Vl::frozen(&config(), weights).unwrap();
    let decode = |ids: &[u32]| Ok(ids.iter().map(|id| format!("<{id}>")).collect());
    LocalEngine::start_with(model, &[EOS], decode, &LocalEngineOptions { workers, max_batch, prefill_tokens })
}

fn engine(workers: usize, max_batch: usize, prefill_tokens: usize) -> LocalEngine {
    engine_over(&weights(), workers, max_batch, prefill_tokens)
}

fn image(rows: u32, columns: u32, shade: f32) -> Arc<ImageInput> {
    let grid_thw = [1, rows * 2, columns * 2];
    let numbers = (rows * columns * 4) as usize * config().vision.patch_dim();
    let pixel_values = (0..numbers).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * shade).collect();
    Arc::new(ImageInput { pixel_values, grid_thw })
}

/// Text that depends on `seed`, an image in its midst.
fn segment(seed: u32, length: u32, image: Option<Arc<ImageInput>>) -> Segment {
    let mut tokens: Vec<u32> = (0..length).map(|i| 10 + (seed * 131 + i * 29) % 600).collect();
    let images: Vec<_> = image.into_iter().collect();
    for image in &images {
        tokens.push(5);
        tokens.extend(std::iter::repeat_n(IMAGE, image.num_tokens(2)));
        tokens.extend([6, 12 + seed % 600]);
    }
    Segment { tokens, images }
}

fn sampling(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed }
}

fn request(append: Segment, seed: u64, max_new_tokens: usize) -> TurnRequest {
    TurnRequest { append, sampling: sampling(seed), max_new_tokens, stop_strings: Vec::new() }
}

/// What identifies a turn, log-probabilities as bits.
fn bits(turn: &GeneratedTurn) -> (Vec<u32>, Vec<u32>, Finish) {
    (turn.tokens.clone(), turn.logprobs.iter().map(|l| l.to_bits()).collect(), turn.finish)
}

type Bits = (Vec<u32>, Vec<u32>, Finish);

/// Three turns of an episode: the second brings an image, the third text only.
async fn episode(engine: &LocalEngine, id: SequenceId, seed: u64) -> Vec<Bits> {
    let appended = [Segment::default(), segment(seed as u32, 9, Some(image(1, 2, 0.5))), segment(seed as u32, 5, None)];
    let mut turns = Vec::new();
    for (turn, append) in (0..).zip(appended) {
        turns.push(bits(&engine.generate(id, request(append, seed * 10 + turn, 14)).await.unwrap()));
    }
    engine.close(id);
    turns
}

/// Prompt of a group: half of them with an image, all of another length.
fn prompt(group: u32) -> Segment {
    segment(group, 6 + group * 7, group.is_multiple_of(2).then(|| image(2, 1 + group, 0.8)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batched_forked_and_staggered_sequences_equal_each_one_alone() {
    const GROUPS: u32 = 4;
    const ROLLOUTS: u64 = 3;
    // 1. Every episode alone in an engine, its prompt opened for it alone.
    let mut alone = HashMap::new();
    let single = engine(1, 1, 1);
    for group in 0..GROUPS {
        for rollout in 0..ROLLOUTS {
            let id = single.open(prompt(group), 1).await.unwrap()[0];
            alone.insert((group, rollout), episode(&single, id, u64::from(group) * 100 + rollout).await);
        }
    }
    // 2. All at once: one prefill a group, arrivals staggered, spread over workers, larger and smaller batches.
    for (workers, max_batch, prefill_tokens) in [(1, 64, 4096), (2, 5, 40)] {
        let engine = engine(workers, max_batch, prefill_tokens);
        join_all((0..GROUPS).map(|group| {
            let (engine, alone) = (&engine, &alone);
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(3 * u64::from(group))).await;
                let ids = engine.open(prompt(group), ROLLOUTS as usize).await.unwrap();
                join_all((0..).zip(ids).map(|(rollout, id)| async move {
                    let turns = episode(engine, id, u64::from(group) * 100 + rollout).await;
                    assert_eq!(turns, alone[&(group, rollout)], "group {group}, rollout {rollout}, {workers} workers");
                }))
                .await;
            }
        }))
        .await;
        assert_eq!(engine.stats().cache_bytes, 0);
    }
    assert_ne!(alone[&(1, 0)], alone[&(1, 1)]);
}

#[tokio::test]
async fn a_kept_cache_equals_a_fresh_prefill_and_the_model_s_own_forward() {
    let (config, weights) = (config(), weights());
    let engine = engine_over(&weights, 1, 8, 4096);
    let id = engine.open(prompt(2), 1).await.unwrap()[0];
    let mut whole = prompt(2);
    let (mut drawn, mut logprobs) = (Vec::<(usize, u32)>::new(), Vec::<f32>::new());
    for (turn, append) in [Segment::default(), segment(40, 7, Some(image(3, 1, 0.4))), segment(41, 4, None)].into_iter().enumerate() {
        whole.tokens.extend(&append.tokens);
        whole.images.extend(append.images.iter().cloned());
        let before = whole.clone();
        let turn_request = request(append, turn as u64, 10);
        let turn = engine.generate(id, turn_request.clone()).await.unwrap();
        drawn.extend((before.tokens.len()..).zip(turn.tokens.iter().copied()));
        logprobs.extend(&turn.logprobs);
        whole.tokens.extend(&turn.tokens);
        // 1. The same turn behind one prefill of everything before it.
        let fresh = engine.open(before, 1).await.unwrap()[0];
        let again = engine.generate(fresh, TurnRequest { append: Segment::default(), ..turn_request }).await.unwrap();
        assert_eq!(bits(&turn), bits(&again));
    }
    // 2. The learner's way: one uncached forward over the whole episode.
    let positions = PositionCursor::default().extend(&config, &whole.tokens, &whole.images).unwrap();
    let mut packed = Packed::default();
    packed.push(&whole.tokens, &positions, &whole.images);
    let model = Qwen2_5Vl::new(&config, &weights).unwrap();
    let hidden = model.forward(&packed).unwrap();
    let rows: Vec<u32> = drawn.iter().map(|(at, _)| *at as u32 - 1).collect();
    let targets: Vec<u32> = drawn.iter().map(|(_, id)| *id).collect();
    let hidden = hidden.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    let learner: Vec<f32> = model.target_logprobs(&hidden, &targets, 1.0).unwrap().to_vec1().unwrap();
    let worst = learner.iter().zip(&logprobs).map(|(a, b): (&f32, &f32)| (a - b).abs()).fold(0.0, f32::max);
    println!("rollout against learner log-probability: largest difference {worst:e}");
    assert!(worst < 2e-5, "largest difference {worst}");
}

#[tokio::test]
async fn greedy_turns_take_the_likeliest_token() {
    let (config, weights) = (config(), weights());
    let engine = engine_over(&weights, 2, 8, 4096);
    let id = engine.open(prompt(0), 1).await.unwrap()[0];
    let greedy = TurnRequest { sampling: Sampling { temperature: 0.0, ..sampling(0) }, ..request(Segment::default(), 0, 8) };
    let turn = engine.generate(id, greedy).await.unwrap();
    let model = Qwen2_5Vl::frozen(&config, &weights).unwrap();
    let mut whole = prompt(0);
    for &token in &turn.tokens {
        let positions = PositionCursor::default().extend(&config, &whole.tokens, &whole.images).unwrap();
        let mut packed = Packed::default();
        packed.push(&whole.tokens, &positions, &whole.images);
        let logits: Vec<Vec<f32>> = model.logits(&model.forward(&packed).unwrap()).unwrap().to_vec2().unwrap();
        let row = logits.last().unwrap();
        let best = (0..VOCAB).filter(|&i| i != 3 && i != 4).reduce(|a, b| if row[b] > row[a] { b } else { a });
        assert_eq!(Some(token as usize), best);
        whole.tokens.push(token);
    }
}

#[tokio::test]
async fn images_and_placeholders_must_match() {
    let engine = engine(1, 8, 4096);
    let id = engine.open(prompt(1), 1).await.unwrap()[0];
    let other = engine.open(prompt(0), 1).await.unwrap()[0];
    let whole = segment(1, 3, Some(image(2, 2, 0.5)));
    let without = Segment { images: Vec::new(), ..whole.clone() };
    let twice = Segment { images: [whole.images.clone(), whole.images.clone()].concat(), ..whole.clone() };
    let larger = Segment { images: vec![image(2, 3, 0.5)], ..whole.clone() };
    let cut = ImageInput { pixel_values: vec![0.0; 100], grid_thw: [1, 4, 4] };
    let cut = Segment { images: vec![Arc::new(cut)], ..whole.clone() };
    let video = Segment { tokens: vec![4], images: Vec::new() };
    let unknown = Segment { tokens: vec![VOCAB as u32], images: Vec::new() };
    for bad in [without, twice, larger, cut, video, unknown] {
        assert!(matches!(engine.open(bad.clone(), 1).await, Err(EngineError::Segment(_))));
        // Another sequence's turn beside it is unharmed, and the sequence itself stays usable.
        let (bad, good) = tokio::join!(engine.generate(id, request(bad, 1, 4)), engine.generate(other, request(segment(8, 2, None), 1, 4)));
        let message = bad.unwrap_err();
        assert!(matches!(message, EngineError::Segment(_)), "{message}");
        good.unwrap();
    }
    engine.generate(id, request(whole, 1, 4)).await.unwrap();
}

#[tokio::test]
async fn placeholders_are_never_drawn() {
    let engine = engine(2, 64, 4096);
    let ids = engine.open(prompt(1), 40).await.unwrap();
    let turns = join_all((0..).zip(&ids).map(|(seed, &id)| {
        let hot = Sampling { temperature: 50.0, ..sampling(seed) };
        engine.generate(id, TurnRequest { sampling: hot, ..request(Segment::default(), 0, 60) })
    }));
    let turns = turns.await;
    let drawn: Vec<u32> = turns.iter().flat_map(|t| t.as_ref().unwrap().tokens.clone()).collect();
    assert!(drawn.len() > VOCAB && drawn.iter().all(|id| *id != IMAGE && *id != 4));
}

#[tokio::test]
async fn diverged_weights_are_reported_as_such_and_updates_are_seen() {
    let weights = weights();
    let engine = engine_over(&weights, 1, 8, 4096);
    let turn = async || {
        let id = engine.open(prompt(1), 1).await?[0];
        let turn = engine.generate(id, request(Segment::default(), 3, 20)).await;
        engine.close(id);
        turn
    };
    let before = turn().await.unwrap();
    let var = &weights.vars()["model.embed_tokens.weight"];
    let old = var.as_tensor().copy().unwrap();
    var.set(&(&old * f64::NAN).unwrap()).unwrap();
    let error = turn().await.unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { token: 0, .. }), "{error}");
    var.set(&(&old * 0.5).unwrap()).unwrap();
    assert_ne!(bits(&turn().await.unwrap()), bits(&before));
    var.set(&old).unwrap();
    assert_eq!(bits(&turn().await.unwrap()), bits(&before));
}

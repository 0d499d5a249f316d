//! The scheduler over a stand-in whose logits are a hash of everything that a sequence's cache holds, tokens and positions:
//! whatever is forgotten, doubled or misplaced changes every token after it.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};
use futures::future::join_all;
use mmhost_model::{Packed, PositionCursor, Segment};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::network::Network;
use crate::sampling::Sampler;
use crate::scheduler::Scheduler;
use crate::stop::Decode;
use crate::{EngineError, Finish, GeneratedTurn, LocalEngineOptions, Sampling, SequenceId, TurnRequest};

const VOCAB: usize = 300;
const EOS: u32 = 0;
/// Never drawn.
const PLACEHOLDER: u32 = 7;
/// In a segment: the logits that follow are not numbers, the pass fails, the worker panics.
const NAN: u32 = 1000;
const FAIL: u32 = 1001;
const PANIC: u32 = 1002;
const MAX_TOKENS: usize = 120;

#[derive(Clone, Default)]
struct Hash {
    pause: Duration,
}

type History = Vec<(u32, u32)>;

/// Logits behind `history`.
fn row(history: &[(u32, u32)]) -> Vec<f32> {
    let mix = |h: u64, x: u64| (h ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let hash = history.iter().fold(1, |h, &(id, position)| mix(mix(h, u64::from(id)), u64::from(position)));
    let nan = history.iter().any(|t| t.0 == NAN);
    let logit = |i| if nan { f32::NAN } else { (mix(mix(hash, i), 3) >> 40) as f32 / (1 << 24) as f32 * 6.0 };
    (0..VOCAB as u64).map(logit).collect()
}

impl Network for Hash {
    type Cache = History;

    fn empty_cache(&self) -> History {
        Vec::new()
    }

    fn cache_len(cache: &History) -> usize {
        cache.len()
    }

    fn cache_bytes(cache: &History) -> usize {
        8 * cache.len()
    }

    fn max_tokens(&self) -> usize {
        MAX_TOKENS
    }

    fn placeholders(&self) -> Vec<u32> {
        vec![PLACEHOLDER]
    }

    fn positions(&self, cursor: &mut PositionCursor, segment: &Segment) -> Result<Vec<[u32; 3]>, EngineError> {
        if segment.tokens.iter().any(|&id| id as usize >= VOCAB && id < NAN) {
            return Err(EngineError::Segment("unknown id".into()));
        }
        let first = cursor.next;
        cursor.next += segment.tokens.len() as u32;
        Ok((first..cursor.next).map(|p| [p; 3]).collect())
    }

    fn step(&self, batch: &Packed, caches: &mut [&mut History]) -> Result<Tensor, EngineError> {
        std::thread::sleep(self.pause);
        assert!(!batch.input_ids.contains(&PANIC), "asked to panic");
        if batch.input_ids.contains(&FAIL) {
            return Err(EngineError::Model("asked to fail".into()));
        }
        let mut logits = Vec::new();
        for (cache, range) in caches.iter_mut().zip(batch.cu_seqlens.windows(2)) {
            for i in range[0] as usize..range[1] as usize {
                cache.push((batch.input_ids[i], batch.positions[i][0]));
            }
            logits.extend(row(cache));
        }
        Ok(Tensor::from_vec(logits, (caches.len(), VOCAB), &Device::Cpu).unwrap())
    }
}

fn engine(workers: usize, max_batch: usize, prefill_tokens: usize, pause_ms: u64) -> Scheduler<Hash> {
    let decode: Decode = Arc::new(|ids| Ok(ids.iter().map(|id| format!("<{id}>")).collect()));
    let pause = Duration::from_millis(pause_ms);
    Scheduler::start(Hash { pause }, &decode, &[EOS], &LocalEngineOptions { workers, max_batch, prefill_tokens })
}

fn text(ids: impl IntoIterator<Item = u32>) -> Segment {
    Segment { tokens: ids.into_iter().collect(), ..Segment::default() }
}

fn request(append: Segment, seed: u64, max_new_tokens: usize) -> TurnRequest {
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed };
    TurnRequest { append, sampling, max_new_tokens, stop_strings: Vec::new() }
}

/// What a turn must give, computed in plain steps; `history` gets the appended and the drawn tokens.
fn expected(history: &mut Vec<u32>, request: &TurnRequest) -> (Vec<u32>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(request.sampling.seed);
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    history.extend(&request.append.tokens);
    while tokens.len() < request.max_new_tokens && tokens.last() != Some(&EOS) {
        let cached: History = (0..).zip(history.iter()).map(|(position, &id)| (id, position)).collect();
        let drawn = Sampler::default().draw(&row(&cached), &request.sampling, &mut rng, &[PLACEHOLDER]).unwrap();
        history.push(drawn.token);
        tokens.push(drawn.token);
        logprobs.push(drawn.logprob);
    }
    (tokens, logprobs)
}

fn assert_turn(turn: &GeneratedTurn, expected: &(Vec<u32>, Vec<f32>)) {
    assert_eq!((&turn.tokens, &turn.logprobs), (&expected.0, &expected.1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_of_many_sequences_are_those_of_each_alone() {
    for (workers, max_batch, prefill_tokens) in [(1, 64, 1000), (2, 3, 8), (3, 1, 1)] {
        let engine = engine(workers, max_batch, prefill_tokens, 0);
        let groups = (0..6).map(|group| {
            let engine = &engine;
            async move {
                // Arrivals are staggered.
                tokio::time::sleep(Duration::from_millis(group)).await;
                let prompt: Vec<u32> = (0..5 + group as u32 * 3).map(|i| 20 + i).collect();
                let ids = engine.open(text(prompt.clone()), 4).await.unwrap();
                join_all(ids.into_iter().enumerate().map(|(rollout, id)| {
                    let mut history = prompt.clone();
                    async move {
                        for turn in 0..3u32 {
                            let append = if turn == 0 { text([]) } else { text([100 + turn, 101, 102]) };
                            let seed = group * 1000 + rollout as u64 * 10 + u64::from(turn);
                            let request = request(append, seed, 12);
                            let expected = expected(&mut history, &request);
                            assert_turn(&engine.generate(id, request).await.unwrap(), &expected);
                        }
                        engine.close(id);
                    }
                }))
                .await;
            }
        });
        join_all(groups).await;
        let stats = engine.stats();
        assert_eq!(stats.cache_bytes, 0);
        assert!(stats.peak_cache_bytes > 0 && stats.generated_tokens > 0 && stats.mean_batch() > 0.0, "{stats:?}");
        // Every group's prompt ran once, every appended segment once a sequence.
        let prompts: u64 = (0..6).map(|group| 5 + group * 3).sum();
        assert_eq!(stats.prefill_tokens, prompts + 6 * 4 * 2 * 3);
    }
}

#[tokio::test]
async fn turns_end_as_they_should() {
    let engine = engine(1, 8, 100, 0);
    let id = engine.open(text([50, 51]), 1).await.unwrap()[0];
    let mut history = vec![50, 51];
    // 1. Length; an empty append goes on where the turn ended, however often.
    for seed in 0..4 {
        let request = request(text([]), seed, 3);
        let expected = expected(&mut history, &request);
        let turn = engine.generate(id, request).await.unwrap();
        assert_turn(&turn, &expected);
        assert_eq!(turn.finish, Finish::Length);
    }
    // 2. A stop string, completed within a token.
    let free = request(text([60]), 9, 10);
    let (tokens, _) = expected(&mut history.clone(), &free);
    let stop = format!("><{}", tokens[4]);
    let at = tokens.windows(2).position(|pair| format!("><{}", pair[1]).starts_with(&stop)).unwrap() + 1;
    let stopped = TurnRequest { stop_strings: vec!["nowhere".into(), stop], ..free.clone() };
    let turn = engine.generate(id, stopped).await.unwrap();
    assert_eq!((turn.finish, &turn.tokens[..]), (Finish::Stop(1), &tokens[..=at]));
    history.push(60);
    history.extend(&tokens[..=at]);
    // 3. No new token at all; then the turn begins behind what was appended.
    let nothing = engine.generate(id, request(text([61, 62]), 1, 0)).await.unwrap();
    assert_eq!((nothing.tokens.len(), nothing.finish), (0, Finish::Length));
    history.extend([61, 62]);
    let request = request(text([]), 77, 2);
    assert_turn(&engine.generate(id, request.clone()).await.unwrap(), &expected(&mut history, &request));
}

#[tokio::test]
async fn an_end_of_turn_token_ends_the_turn_and_enters_the_cache() {
    let engine = engine(2, 8, 100, 0);
    let ids = engine.open(text([50]), 40).await.unwrap();
    let mut ended = 0;
    for (seed, id) in (0..).zip(ids) {
        let mut history = vec![50];
        let first = request(text([]), seed, 60);
        let tokens = expected(&mut history, &first);
        let turn = engine.generate(id, first).await.unwrap();
        assert_turn(&turn, &tokens);
        if turn.finish == Finish::Eos {
            assert_eq!(turn.tokens.last(), Some(&EOS));
            ended += 1;
        }
        let second = request(text([70]), seed, 4);
        let tokens = expected(&mut history, &second);
        assert_turn(&engine.generate(id, second).await.unwrap(), &tokens);
    }
    assert!(ended > 0);
}

#[tokio::test]
async fn the_model_s_length_is_respected() {
    let engine = engine(1, 8, 1000, 0);
    let too_long = engine.open(text((0..MAX_TOKENS as u32 + 1).map(|i| 10 + i)), 1).await.unwrap_err();
    assert!(too_long.to_string().contains("120"), "{too_long}");
    let id = engine.open(text((0..MAX_TOKENS as u32 - 4).map(|i| 10 + i)), 1).await.unwrap()[0];
    // Refused without harm.
    let refused = engine.generate(id, request(text([1, 2, 3, 4, 5]), 1, 1)).await.unwrap_err();
    assert!(matches!(refused, EngineError::TooLong { held: 116, new: 5, limit: MAX_TOKENS }), "{refused}");
    // The first token is drawn behind 116, the last behind 120.
    let turn = engine.generate(id, request(text([]), 1, 50)).await.unwrap();
    assert_eq!((turn.tokens.len(), turn.finish), (5, Finish::Length));
    assert!(matches!(engine.generate(id, request(text([]), 1, 1)).await, Err(EngineError::TooLong { .. })));
}

#[tokio::test]
async fn bad_requests_leave_the_sequence_as_it_was() {
    let engine = engine(1, 8, 100, 0);
    assert!(matches!(engine.open(text([]), 1).await, Err(EngineError::Segment(_))));
    assert!(matches!(engine.open(text([VOCAB as u32]), 1).await, Err(EngineError::Segment(_))));
    assert_eq!(engine.open(text([9]), 0).await.unwrap(), []);
    assert!(matches!(engine.generate(SequenceId(99), request(text([1]), 0, 1)).await, Err(EngineError::Unknown(SequenceId(99)))));

    let id = engine.open(text([9, 9]), 1).await.unwrap()[0];
    let good = request(text([30]), 5, 6);
    let stop = TurnRequest { stop_strings: vec!["a".into(), String::new()], ..good.clone() };
    assert!(matches!(engine.generate(id, stop).await, Err(EngineError::StopString(1))));
    let hot = TurnRequest { sampling: Sampling { temperature: f32::INFINITY, ..good.sampling }, ..good.clone() };
    assert!(matches!(engine.generate(id, hot).await, Err(EngineError::Sampling { field: "temperature", .. })));
    let unknown = TurnRequest { append: text([VOCAB as u32]), ..good.clone() };
    assert!(matches!(engine.generate(id, unknown).await, Err(EngineError::Segment(_))));
    let tokens = expected(&mut vec![9, 9], &good);
    assert_turn(&engine.generate(id, good).await.unwrap(), &tokens);

    engine.close(id);
    engine.close(id);
    assert!(matches!(engine.generate(id, request(text([1]), 0, 1)).await, Err(EngineError::Unknown(_))));
}

#[tokio::test]
async fn logits_that_are_not_numbers_end_one_sequence_only() {
    let engine = engine(1, 8, 100, 2);
    let ids = engine.open(text([9, 9]), 2).await.unwrap();
    let (good, bad) = (request(text([30]), 5, 6), request(text([NAN]), 5, 6));
    let tokens = expected(&mut vec![9, 9], &good);
    let (good, bad) = tokio::join!(engine.generate(ids[0], good), engine.generate(ids[1], bad));
    assert_turn(&good.unwrap(), &tokens);
    let message = bad.unwrap_err().to_string();
    assert!(message.contains("not finite"), "{message}");
    assert!(matches!(engine.generate(ids[1], request(text([1]), 0, 1)).await, Err(EngineError::Unknown(_))));
    engine.close(ids[0]);
    assert_eq!(engine.stats().cache_bytes, 0);
}

#[tokio::test]
async fn a_failed_pass_ends_its_sequences_and_no_others() {
    let engine = engine(1, 8, 100, 0);
    let ids = engine.open(text([9, 9]), 2).await.unwrap();
    assert!(matches!(engine.generate(ids[0], request(text([FAIL]), 5, 6)).await, Err(EngineError::Model(_))));
    assert!(matches!(engine.generate(ids[0], request(text([1]), 5, 6)).await, Err(EngineError::Unknown(_))));
    assert!(matches!(engine.open(text([FAIL]), 2).await, Err(EngineError::Model(_))));
    let good = request(text([30]), 5, 6);
    let tokens = expected(&mut vec![9, 9], &good);
    assert_turn(&engine.generate(ids[1], good).await.unwrap(), &tokens);
}

#[tokio::test]
async fn a_panicking_worker_takes_its_turns_with_it_and_nothing_hangs() {
    let engine = engine(2, 8, 100, 0);
    let ids = engine.open(text([9, 9]), 3).await.unwrap();
    assert!(matches!(engine.generate(ids[0], request(text([PANIC]), 5, 6)).await, Err(EngineError::Stopped)));
    assert!(matches!(engine.generate(ids[0], request(text([1]), 5, 6)).await, Err(EngineError::Stopped)));
    // The other worker goes on.
    let good = request(text([30]), 5, 6);
    let tokens = expected(&mut vec![9, 9], &good);
    assert_turn(&engine.generate(ids[1], good).await.unwrap(), &tokens);
    // With the last worker everything stops.
    assert!(matches!(engine.open(text([PANIC]), 1).await, Err(EngineError::Stopped)));
    assert!(matches!(engine.open(text([1]), 1).await, Err(EngineError::Stopped)));
    assert!(matches!(engine.generate(ids[2], request(text([1]), 5, 6)).await, Err(EngineError::Stopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_closing_and_walking_away_end_turns_in_flight() {
    let long = |seed| request(text([30]), seed, usize::MAX);
    let greedy_sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 };
    let endless = move |seed| TurnRequest { sampling: greedy_sampling, ..long(seed) };
    let engine = Arc::new(engine(2, 8, 100, 20));
    let ids = engine.open(text([9, 9]), 4).await.unwrap();
    // 1. A second turn of a sequence that is in one.
    let turn = |i: usize| {
        let (engine, id) = (Arc::clone(&engine), ids[i]);
        tokio::spawn(async move { engine.generate(id, endless(i as u64)).await })
    };
    let (closed, dropped, stopped) = (turn(0), turn(1), turn(2));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(matches!(engine.generate(ids[0], endless(0)).await, Err(EngineError::Busy(_))));
    // 2. Closed while it runs.
    engine.close(ids[0]);
    assert!(matches!(closed.await.unwrap(), Err(EngineError::Unknown(_))));
    // 3. The caller goes away: the sequence is closed, its cache freed.
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert!(matches!(engine.generate(ids[1], endless(0)).await, Err(EngineError::Unknown(_))));
    let open = tokio::time::timeout(Duration::from_millis(5), engine.open(text([9; 50]), 3)).await;
    assert!(open.is_err());
    // What is left is one turn that runs and one short sequence; three prompts of 50 tokens would be more.
    for waited in 0.. {
        if engine.stats().cache_bytes < 8 * (MAX_TOKENS + 10) {
            break;
        }
        assert!(waited < 500, "{:?}", engine.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // 4. The engine stops.
    engine.stop();
    assert!(matches!(stopped.await.unwrap(), Err(EngineError::Stopped)));
    assert!(matches!(engine.open(text([1]), 1).await, Err(EngineError::Stopped)));
    assert!(matches!(engine.generate(ids[3], endless(0)).await, Err(EngineError::Stopped)));
}

#[test]
fn dropping_the_engine_while_it_generates_returns() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = engine(2, 8, 100, 5);
    let ids = runtime.block_on(engine.open(text([9, 9]), 2)).unwrap();
    runtime.block_on(async {
        let turns = join_all(ids.iter().map(|&id| engine.generate(id, request(text([30]), 1, usize::MAX))));
        assert!(tokio::time::timeout(Duration::from_millis(20), turns).await.is_err());
    });
    drop(engine);
}

#[tokio::test]
async fn decoding_goes_on_while_prompts_arrive() {
    let engine = engine(1, 8, 10, 30);
    let id = engine.open(text([9, 9]), 1).await.unwrap()[0];
    // Each prompt fills a step's budget, so ten of them need ten steps.
    let prompts = join_all((0..10).map(|i| engine.open(text((0..10).map(|j| 30 + i * 10 + j)), 1)));
    let greedy = Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 };
    let turn = engine.generate(id, TurnRequest { sampling: greedy, ..request(text([30]), 0, 5) });
    let (turn, prompts) = tokio::join!(turn, prompts);
    assert!(prompts.iter().all(Result::is_ok));
    assert_eq!(turn.unwrap().tokens.len(), 5);
    // Had the turn waited for the prompts, or they for it, there would be a step more for each of its tokens.
    let stats = engine.stats();
    assert!(stats.steps <= 12, "{stats:?}");
}

//! Scores 64 episodes in the component and with the same function compiled natively, in one run:
//! `cargo bench -p mmhost-plugins --bench reward_batch`. The ratio should stay at or below 5.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{episode, host, reference};
use mmhost_plugins::{RewardInput, RewardPlugin, Verdict};
use mmhost_scoring::{Episode, Options, Rules, mmsearch};
use std::hint::black_box;
use std::time::Instant;

const EPISODES: usize = 64;
const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

/// Episodes of three turns, about 1.4 kB of text each.
fn episodes() -> Vec<RewardInput> {
    let reason = "The flag has three vertical stripes, so it may be Chad or Romania; I am not sure which. ";
    (0..EPISODES)
        .map(|index| {
            let reason = format!("<reason>{}</reason>", reason.repeat(5));
            let turns = [
                format!("{reason}<search><img></search>"),
                format!("{reason}<text_search>capital of country {index}</text_search>"),
                format!("{reason}<answer>The city number {}</answer>", index % 2),
            ];
            let mut episode = episode("City number 0", &turns.each_ref().map(String::as_str));
            episode.candidate_answers = vec!["N'Djamena".into(), "Ndjamena".into()];
            episode
        })
        .collect()
}

/// What the component does, without the component.
fn native(episodes: &[RewardInput]) -> Vec<mmhost_scoring::Verdict> {
    let options = Options::default();
    let rules = Rules::new(&options);
    let score = |record: &RewardInput| {
        let episode = Episode {
            ground_truth: &record.ground_truth,
            candidate_answers: &record.candidate_answers,
            turns: &record.turns,
            num_calls: record.calls.len(),
        };
        mmsearch::score(&options, &rules, episode)
    };
    episodes.iter().map(score).collect()
}

/// Median of the rounds after the warm-up, in microseconds.
fn median(mut round: impl FnMut()) -> f64 {
    let time = |_| {
        let started = Instant::now();
        round();
        started.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..WARM_UP + ROUNDS).map(time).skip(WARM_UP).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let episodes = episodes();
    let plugins = host(&[]).load_dir(&reference()).expect("the reference plugins load");
    let reward: &RewardPlugin = plugins.rewards.iter().find(|reward| reward.name() == "mmsearch-reward").expect("mmsearch-reward is there");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");

    let (verdicts, _) = runtime.block_on(reward.score(&episodes)).expect("the batch scores");
    for (component, native) in verdicts.iter().zip(native(&episodes)) {
        match (component, native) {
            (Verdict::Scored { total, .. }, mmhost_scoring::Verdict::Scored { total: expected, .. }) => {
                assert_eq!(*total, expected);
            }
            other => panic!("{other:?}"),
        }
    }

    let in_component = median(|| drop(black_box(runtime.block_on(reward.score(black_box(&episodes))))));
    let in_native = median(|| drop(black_box(native(black_box(&episodes)))));
    let one = median(|| drop(black_box(runtime.block_on(reward.score(black_box(&episodes[..1]))))));
    let bytes: usize = episodes.iter().flat_map(|episode| &episode.turns).map(String::len).sum();
    println!("{EPISODES} episodes of {} bytes, median of {ROUNDS} rounds", bytes / EPISODES);
    println!("component (fresh instance)  {in_component:9.1} µs");
    println!("native                      {in_native:9.1} µs");
    println!("ratio                       {:9.2}", in_component / in_native);
    println!("one episode in a component  {one:9.1} µs");
}

use mmhost_sdk::ConfigError;
use mmhost_sdk::reward::{Component, Description, Episode, Rating, Reward, RewardError, Verdict};

/// The keys of `[config]` in plugin.toml.
#[derive(miniserde::Deserialize)]
struct Config {
    search_penalty: f64,
}

struct Plugin;

impl Reward for Plugin {
    type Config = Config;

    fn describe(_: &Config) -> Result<Description, ConfigError> {
        Ok(Description { summary: "the right answer, cheaper".into(), lowest: 0.0, highest: 1.0, components: vec!["accuracy".into()] })
    }

    fn score(config: &Config, batch: Vec<Episode>) -> Result<Vec<Verdict>, RewardError> {
        Ok(batch.iter().map(|episode| verdict(config, episode)).collect())
    }
}

fn verdict(config: &Config, episode: &Episode) -> Verdict {
    let truths: Vec<&str> = std::iter::once(&episode.ground_truth).chain(&episode.candidate_answers).map(|t| t.trim()).collect();
    if truths.iter().all(|truth| truth.is_empty()) {
        return Verdict::Abstained("the sample has no reference answer".into());
    }
    let answer = episode.turns.last().and_then(|turn| answer(turn)).unwrap_or_default();
    let right = !answer.is_empty() && truths.iter().any(|truth| truth.to_lowercase() == answer.to_lowercase());
    let accuracy = if right { 1.0 } else { 0.0 };
    let discount = if episode.calls.is_empty() { 1.0 } else { 1.0 - config.search_penalty };
    Verdict::Scored(Rating { total: accuracy * discount, components: vec![Component { name: "accuracy".into(), value: accuracy }] })
}

/// The answer of a turn. Several answers are none, or a policy would learn to give them all.
fn answer(turn: &str) -> Option<&str> {
    let (_, rest) = turn.split_once("<answer>")?;
    let (answer, rest) = rest.split_once("</answer>")?;
    (!answer.contains("<answer>") && !rest.contains("<answer>")).then_some(answer.trim())
}

mmhost_sdk::export_reward!(Plugin);

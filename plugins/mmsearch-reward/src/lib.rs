//! The reward of MMSearch-R1: `(1-α)·accuracy·penalty + α·format`, accuracy by match with the truth or a candidate answer.

use mmhost_scoring::{Episode, Options, Rules, Verdict as Word, mmsearch};
use mmhost_sdk::reward::{Component, Description, Episode as Record, Rating, Reward, RewardError, Verdict};
use mmhost_sdk::{ConfigError, bad_value};

/// The manifest documents each field.
fn checked(options: &Options) -> Result<&Options, ConfigError> {
    options.check().map_err(|bad| bad_value(bad.field, bad.found, bad.expected))?;
    Ok(options)
}

struct MmsearchReward;

impl Reward for MmsearchReward {
    type Config = Options;

    fn describe(config: &Options) -> Result<Description, ConfigError> {
        checked(config)?;
        Ok(Description {
            summary: "match with the truth, discounted after a search, and the format of the turns".into(),
            lowest: 0.0,
            highest: 1.0,
            components: ["accuracy", "format", "penalty"].map(String::from).into(),
        })
    }

    fn score(config: &Options, batch: Vec<Record>) -> Result<Vec<Verdict>, RewardError> {
        let options = checked(config)?;
        let rules = Rules::new(options);
        Ok(batch.iter().map(|record| verdict(options, &rules, record)).collect())
    }
}

fn verdict(options: &Options, rules: &Rules, record: &Record) -> Verdict {
    let episode = Episode {
        ground_truth: &record.ground_truth,
        candidate_answers: &record.candidate_answers,
        turns: &record.turns,
        num_calls: record.calls.len(),
    };
    match mmsearch::score(options, rules, episode) {
        Word::Scored { total, accuracy, format, penalty } => Verdict::Scored(Rating {
            total,
            components: [("accuracy", accuracy), ("format", format), ("penalty", penalty)]
                .map(|(name, value)| Component { name: name.into(), value })
                .into(),
        }),
        Word::Abstained(reason) => Verdict::Abstained(reason.into()),
    }
}

mmhost_sdk::export_reward!(MmsearchReward);

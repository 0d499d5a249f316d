use mmhost_sdk::ConfigError;
use mmhost_sdk::filter::{Decision, Description, Filter, FilterError, Sample};

/// The keys of `[config]` in plugin.toml.
#[derive(miniserde::Deserialize)]
struct Config {
    max_bytes: usize,
}

struct Plugin;

impl Filter for Plugin {
    type Config = Config;

    fn describe(_: &Config) -> Result<Description, ConfigError> {
        Ok(Description { summary: "drops samples with long answers".into(), tags: vec!["image".into()] })
    }

    fn filter(config: &Config, batch: Vec<Sample>) -> Result<Vec<Decision>, FilterError> {
        Ok(batch.iter().map(|sample| decision(config, sample)).collect())
    }
}

fn decision(config: &Config, sample: &Sample) -> Decision {
    if sample.ground_truth.len() > config.max_bytes {
        return Decision::Drop(format!("the answer has more than {} bytes", config.max_bytes));
    }
    let tags = if sample.images.is_empty() { vec![] } else { vec!["image".into()] };
    Decision::Keep(tags)
}

mmhost_sdk::export_filter!(Plugin);

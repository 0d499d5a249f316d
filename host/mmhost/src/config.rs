//! The run's configuration: one TOML file, checked whole before anything starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mmhost_data::atlas::WorldOptions;
use mmhost_data::atlas::warmup::WarmupOptions;
use mmhost_learner::{GrpoOptions, OptimiserOptions, Schedule};
use mmhost_model::ModelShape;
use mmhost_plugins::Grants;
use mmhost_plugins::ledger::{Policies, RunBudget};
use mmhost_plugins::signature::PublicKey;
use mmhost_rollout::ProtocolOptions;
use mmhost_track::TrackOptions;
use serde::{Deserialize, Serialize};

use crate::failure::{Blame, Outcome, bad_input};

/// The configuration that `train` uses when none is named.
pub const DEFAULT: &str = include_str!("../../../configs/atlas.toml");

/// Everything a run is made from. `run.toml` in the run directory holds it resolved.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of everything random.
    pub seed: u64,
    /// Threads that share rollouts and training; 0 takes every core.
    pub workers: usize,
    /// The policy before training.
    pub model: ModelSection,
    /// Questions and corpora.
    pub data: DataSection,
    /// Which plugins, and their configuration.
    pub plugins: PluginsSection,
    /// Texts and limits of the turn protocol.
    pub protocol: ProtocolOptions,
    /// Rollouts of a training step.
    pub rollout: RolloutSection,
    /// The loss.
    pub grpo: GrpoOptions,
    /// The optimiser of GRPO.
    pub optimiser: OptimiserSection,
    /// Length and checkpoints.
    pub train: TrainSection,
    /// Evaluations before and after.
    #[serde(default)]
    pub eval: EvalSection,
    /// Who is told what the run measures.
    #[serde(default)]
    pub track: TrackOptions,
}

/// `[eval]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalSection {
    /// Most questions of each split (the first ones); all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `[model]`: a Hugging Face folder, or the built-in base that is trained first.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A Qwen2.5-VL folder. Without it the base is built by supervised warm-up on the atlas, once, and cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How to build the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSection>,
}

/// `[model.base]`: the built-in base model.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseSection {
    /// Shape of the network.
    pub shape: ModelShape,
    /// Size of the byte-level BPE vocabulary, added tokens included.
    pub vocab_size: usize,
    /// Supervised steps.
    pub steps: usize,
    /// Its optimiser.
    pub optimiser: OptimiserSection,
    /// What it is taught; the seed is derived from the run's.
    #[serde(default)]
    pub warmup: WarmupOptions,
}

/// `[data]`: `source = "atlas"`, or Parquet/JSONL files and a corpus folder.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// `atlas` or `files`.
    pub source: DataSource,
    /// How the atlas is divided into classes and splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<WorldOptions>,
    /// Questions to train on (`files`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Questions to evaluate on, by split name (`files`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval: BTreeMap<String, PathBuf>,
    /// Corpus folders by name (`files`); plugins ask for them by these names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub corpora: BTreeMap<String, PathBuf>,
}

/// Where questions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// The built-in world of real flags and facts.
    Atlas,
    /// The files named beside.
    Files,
}

/// `[plugins]`: which of the folder's plugins a run uses, in this order, and their configuration.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginsSection {
    /// Tools, in the order in which the system prompt lists them.
    pub tools: Vec<String>,
    /// The reward.
    pub reward: String,
    /// Filters that every data set passes, in order.
    pub filters: Vec<String>,
    /// Minisign public keys, one of which must have signed every plugin that the run uses. Without any, signatures are not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub trusted_keys: Vec<PublicKey>,
    /// Values for the keys of a plugin's own `[config]`, by plugin name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, serde_json::Value>>")]
    pub config: BTreeMap<String, toml::Table>,
    /// What plugins may reach, by plugin name; see docs/plugins.md.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: Grants,
    /// What follows when a plugin fails, and what its calls cost, by plugin name; see docs/operating.md.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy: Policies,
    /// What all plugins together may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: RunBudget,
}

/// `[rollout]`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutSection {
    /// Questions in a step.
    pub prompts: usize,
    /// Rollouts of each question (the group).
    pub rollouts: usize,
    /// How many of a cycle's questions each class gets, by class; all classes equally without it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, usize>,
}

/// An AdamW with its schedule; the number of steps follows from the section it stands in.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSection {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// ε of AdamW.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Global gradient norm to clip to; 0 is off.
    pub max_grad_norm: f64,
    /// What the learning rate does after its warm-up.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// The last learning rate as a share of the peak.
    pub final_share: f64,
}

impl OptimiserSection {
    /// The learner's options for a training of `total_steps` steps.
    pub fn options(&self, total_steps: usize) -> OptimiserOptions {
        OptimiserOptions {
            learning_rate: self.learning_rate,
            beta1: self.betas.0,
            beta2: self.betas.1,
            eps: self.eps,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            schedule: self.schedule,
            warmup_steps: self.warmup_steps,
            total_steps,
            final_share: self.final_share,
        }
    }
}

/// `[train]`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// GRPO steps.
    pub steps: usize,
    /// A checkpoint after every so many steps, and after the last.
    pub checkpoint_every: usize,
    /// Checkpoints kept besides the newest; older ones are removed. 0 keeps all.
    pub keep_checkpoints: usize,
    /// Most tokens in one micro-batch of the learner.
    pub token_budget: usize,
    /// What each step rehearses of the base's warm-up; needs `[model.base]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<RehearsalSection>,
}

/// `[train.rehearsal]`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RehearsalSection {
    /// Honest first reasons about a flag in each step.
    pub reasons: usize,
    /// Share of them whose flag is a taught one. The smaller it is, the surer of a flag the policy must be to call it known.
    pub known_flags: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Config {
    /// Reads `path`, or the built-in default.
    pub fn load(path: Option<&Path>) -> Outcome<Self> {
        let Some(path) = path else { return Self::parse(DEFAULT, Path::new("the built-in configuration")) };
        let text = std::fs::read_to_string(path).input(format!("cannot read the configuration {}", path.display()))?;
        let mut config = Self::parse(&text, path)?;
        // Paths in a configuration are relative to its file, so that it works from any directory.
        // Absolute, since the run directory keeps them, and a resumed run reads them from there.
        let whole = std::path::absolute(path).input(format!("cannot find the folder of {}", path.display()))?;
        let base = whole.parent().unwrap_or(Path::new(""));
        let paths = config.model.path.iter_mut().chain(config.data.train.iter_mut());
        let grants = config.plugins.grants.values_mut();
        let granted = grants.flat_map(|grant| {
            let secrets = grant.secrets.values_mut().filter_map(|secret| secret.file.as_mut());
            secrets.chain(grant.models.values_mut().flat_map(|model| model.path.iter_mut().chain(&mut model.key_file)))
        });
        for p in paths.chain(config.data.eval.values_mut()).chain(config.data.corpora.values_mut()).chain(granted) {
            *p = base.join(&*p);
        }
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Outcome<Self> {
        let config: Self = toml::from_str(text).input(format!("{} is not a valid configuration", path.display()))?;
        config.check().map_err(|message| bad_input(format!("{}: {message}", path.display())))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let at_least = |field: &str, found: usize, least: usize| {
            (found >= least).then_some(()).ok_or_else(|| format!("{field} is {found}, expected at least {least}"))
        };
        at_least("rollout.prompts", self.rollout.prompts, 1)?;
        at_least("rollout.rollouts", self.rollout.rollouts, 2)?;
        at_least("train.checkpoint_every", self.train.checkpoint_every, 1)?;
        at_least("train.token_budget", self.train.token_budget, 1)?;
        self.grpo.validate().map_err(|e| format!("grpo: {e}"))?;
        check_optimiser("optimiser", &self.optimiser)?;
        self.track.validate().map_err(|e| format!("track.{e}"))?;
        match (&self.model.path, &self.model.base) {
            (None, None) => return Err("[model] has neither path nor base; name a model folder, or describe the base to build".into()),
            (Some(_), Some(_)) => return Err("[model] has both path and base; remove one".into()),
            (None, Some(base)) => {
                at_least("model.base.steps", base.steps, 1)?;
                at_least("model.base.vocab_size", base.vocab_size, 300)?;
                check_optimiser("model.base.optimiser", &base.optimiser)?;
            }
            (Some(_), None) => {}
        }
        if let Some(rehearsal) = &self.train.rehearsal {
            if self.model.base.is_none() {
                return Err("[train.rehearsal] is given, but the model of model.path has no warm-up to rehearse; remove it".into());
            }
            if rehearsal.reasons == 0 {
                return Err("train.rehearsal.reasons is 0, expected at least 1; to rehearse nothing, remove [train.rehearsal]".into());
            }
            if !(0.0..=1.0).contains(&rehearsal.known_flags) {
                return Err(format!("train.rehearsal.known_flags is {}, expected a share between 0 and 1", rehearsal.known_flags));
            }
        }
        match self.data.source {
            DataSource::Files if self.data.train.is_none() => {
                return Err("data.train is missing; with source = \"files\" it names the Parquet or JSONL file to train on".into());
            }
            DataSource::Files if self.data.atlas.is_some() => {
                return Err("[data.atlas] divides the built-in world; with source = \"files\" remove it".into());
            }
            DataSource::Atlas if self.data.train.is_some() || !self.data.eval.is_empty() || !self.data.corpora.is_empty() => {
                return Err("data.train, data.eval and data.corpora need source = \"files\"; the atlas brings its own".into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Worker threads to use.
    pub fn worker_threads(&self) -> usize {
        if self.workers > 0 { self.workers } else { std::thread::available_parallelism().map_or(1, |n| n.get()) }
    }

    /// Every value by its dotted key, as text.
    pub fn flat(&self) -> Outcome<BTreeMap<String, String>> {
        let table = toml::Value::try_from(self).internal("cannot write the configuration as TOML")?;
        let mut values = BTreeMap::new();
        mmhost_report::flatten("", &table, &mut values);
        Ok(values)
    }

    /// JSON Schema of configuration files, which editors complete and check them by.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Config).to_value()
    }

    /// The configuration as TOML.
    pub fn to_toml(&self) -> Outcome<String> {
        toml::to_string(self).internal("cannot write the configuration as TOML")
    }
}

fn check_optimiser(section: &str, o: &OptimiserSection) -> Result<(), String> {
    let require = |ok: bool, field: &str, found: f64, expected: &str| {
        ok.then_some(()).ok_or_else(|| format!("{section}.{field} is {found}, expected {expected}"))
    };
    require(o.learning_rate > 0.0 && o.learning_rate.is_finite(), "learning_rate", o.learning_rate, "a positive number")?;
    require((0.0..1.0).contains(&o.betas.0), "betas[0]", o.betas.0, "a number in [0, 1)")?;
    require((0.0..1.0).contains(&o.betas.1), "betas[1]", o.betas.1, "a number in [0, 1)")?;
    require(o.eps > 0.0, "eps", o.eps, "a positive number")?;
    require(o.weight_decay >= 0.0, "weight_decay", o.weight_decay, "0 or more")?;
    require(o.max_grad_norm >= 0.0, "max_grad_norm", o.max_grad_norm, "0 (off) or more")?;
    require((0.0..=1.0).contains(&o.final_share), "final_share", o.final_share, "a number in [0, 1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_a_round_trip() {
        let config = Config::load(None).unwrap();
        let again = Config::parse(&config.to_toml().unwrap(), Path::new("run.toml")).unwrap();
        assert_eq!(config.to_toml().unwrap(), again.to_toml().unwrap());
    }

    #[test]
    fn a_misspelt_or_impossible_field_is_named() {
        for (from, to, expected) in [
            ("clip =", "clipp =", "clipp"),
            ("rollouts = ", "rollouts = 1 # ", "rollout.rollouts is 1, expected at least 2"),
            ("reasons = ", "reasons = 0 # ", "train.rehearsal.reasons is 0"),
            ("source = \"atlas\"", "source = \"files\"", "data.train is missing"),
            ("[train]", "[track.mlflow]\nurl = \"ftp://x\"\nexperiment = \"e\"\n[train]", "track.mlflow.url has the scheme"),
            ("source = \"atlas\"", "source = \"files\"\ntrain = \"x\"\n[data.atlas]\nseed = 1", "[data.atlas] divides the built-in world"),
            ("source = \"atlas\"", "source = \"atlas\"\n[data.atlas]\nsead = 1", "sead"),
        ] {
            assert!(DEFAULT.contains(from), "{from}");
            let error = Config::parse(&DEFAULT.replacen(from, to, 1), Path::new("x.toml")).unwrap_err().to_string();
            assert!(error.contains("x.toml") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file_and_stay_what_they_are_in_the_run_directory() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let grants = "[plugins.grants.web-search.secrets.KEY]\nfile = \"key\"\nhosts = [\"a.org\"]\n\
            [plugins.grants.judge-reward.models.judge]\npath = \"model\"\nkey_file = \"other\"\n";
        let text = DEFAULT.replacen("source = \"atlas\"", "source = \"files\"\ntrain = \"train.parquet\"", 1);
        let relative = PathBuf::from(".").join(dir.path().file_name().unwrap()).join("own.toml");
        std::fs::write(&relative, format!("{text}\n{grants}")).unwrap();
        let config = Config::load(Some(&relative)).unwrap();
        let grant = &config.plugins.grants["judge-reward"].models["judge"];
        let secret = &config.plugins.grants["web-search"].secrets["KEY"];
        let here = std::path::absolute(&relative).unwrap();
        let beside = |name: &str| Some(here.with_file_name(name));
        assert_eq!(
            [&config.data.train, &grant.path, &grant.key_file, &secret.file],
            [&beside("train.parquet"), &beside("model"), &beside("other"), &beside("key")]
        );
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("run.toml"), config.to_toml().unwrap()).unwrap();
        assert_eq!(Config::load(Some(&run.join("run.toml"))).unwrap().to_toml().unwrap(), config.to_toml().unwrap());
    }

    #[test]
    fn nothing_can_be_rehearsed_without_a_warm_up() {
        let mut config = Config::load(None).unwrap();
        assert!(config.train.rehearsal.is_some());
        config.model = ModelSection { path: Some("model".into()), base: None };
        assert!(config.check().unwrap_err().contains("[train.rehearsal]"));
        config.train.rehearsal = None;
        config.check().unwrap();
    }
}

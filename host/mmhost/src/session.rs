//! What every command that asks a policy needs, opened once: plugins, protocol, questions, and the policy with its engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmhost_corpus::{Corpus, CorpusOptions};
use mmhost_data::atlas::{Split, World};
use mmhost_data::{Sample, SampleFilter, apply_filters};
use mmhost_engine::{LocalEngine, LocalEngineOptions};
use mmhost_model::{ModelFolder, Processor, Qwen2_5Vl};
use mmhost_plugins::ledger::Ledger;
use mmhost_plugins::tape::{Tape, TapeCounts, TapeMode};
use mmhost_plugins::{
    CallForm, Demands, FilterPlugin, HostOptions, PluginHost, PluginInfo, PluginRecord, Plugins, RewardPlugin, ToolPlugin, ToolSpec,
};
use mmhost_rollout::{Protocol, Roller, Task, taped};

use crate::cli::{PluginsArg, ReplayArg, TapeArgs};
use crate::config::{Config, DataSource};
use crate::corpora::Corpora;
use crate::dev::Workbench;
use crate::failure::{Blame, Failure, Outcome, bad_input};
use crate::local_models::ModelFolders;
use crate::tool_clock::ToolClock;
use crate::ui::Ui;

/// Name under which the atlas offers its corpus.
const ATLAS_CORPUS: &str = "default";
/// Most sequences that one engine worker decodes at once.
const MAX_BATCH: usize = 64;
/// Samples that a filter sees in one call.
const FILTER_BATCH: usize = 64;
/// Most prompt tokens that one engine worker reads in one forward.
const PREFILL_TOKENS: usize = 4096;

/// Plugins and protocol of a run.
pub struct Session {
    /// Progress and log.
    pub ui: Ui,
    /// The resolved configuration.
    pub config: Config,
    /// The turn protocol over the run's tools.
    pub protocol: Protocol,
    /// The reward.
    pub reward: RewardPlugin,
    /// Which tool counts as which search.
    pub roles: ToolRoles,
    /// The built-in world, where the configuration uses it.
    pub world: Option<Arc<World>>,
    /// Where base models are cached.
    pub cache: PathBuf,
    /// What the tools cost, of every policy of the session.
    pub tool_clock: Arc<ToolClock>,
    /// What the plugins have cost.
    pub ledger: Arc<Ledger>,
    host: Arc<PluginHost>,
    tools: Vec<ToolPlugin>,
    filters: Vec<FilterPlugin>,
    tape: Option<Arc<Tape>>,
}

/// Folder of the recording, in a run directory.
const REPLAY: &str = "replay";

/// Which tools the two search ratios count.
#[derive(Debug, Clone, Default)]
pub struct ToolRoles {
    /// The first tool that needs the image.
    pub image_search: Option<String>,
    /// The first tool that is called with a text.
    pub text_search: Option<String>,
}

impl ToolRoles {
    fn of(tools: &[ToolPlugin]) -> Self {
        let name =
            |serves: fn(&ToolSpec) -> bool| tools.iter().map(ToolPlugin::spec).find(|spec| serves(spec)).map(|spec| spec.name.clone());
        Self {
            image_search: name(|spec| spec.needs_image),
            text_search: name(|spec| !spec.needs_image && !matches!(spec.call, CallForm::Literal(_))),
        }
    }
}

/// A model ready to answer.
pub struct Policy {
    /// Weights, shape and text side.
    pub folder: ModelFolder,
    /// Plays episodes.
    pub roller: Roller,
    engine: Arc<LocalEngine>,
}

impl Session {
    /// Loads the plugins of a folder and opens the corpora that they ask for. `tape` records what happens at the plugins' doors, or replays it.
    pub fn open(ui: Ui, config: Config, from: &PluginsArg, cache: Option<PathBuf>, tape: Option<Arc<Tape>>) -> Outcome<Self> {
        let plugins_dir = from.plugins.as_path();
        let cache = cache_dir(cache)?;
        let (world, corpora) = world_and_corpora(&config)?;
        let chosen = &config.plugins;
        let demands = Demands {
            used: chosen.tools.iter().chain(&chosen.filters).chain([&chosen.reward]).cloned().collect(),
            locked: from.locked,
            trusted_keys: chosen.trusted_keys.clone(),
        };
        let host = Arc::new(plugin_host(&config, &cache, corpora, tape.clone())?.demanding(demands));
        let ledger = host.ledger();
        if let Some(tape) = &tape {
            tape.tell(ledger.clone());
        }
        let plugins = host.load_dir(plugins_dir).input(format!("cannot load the plugins of {}", plugins_dir.display()))?;

        let missing = |kind: &str, name: &str, has: Vec<&str>| match plugins.set_aside.get(name) {
            Some(error) => bad_input(error.to_string()),
            None => bad_input(format!("{} has no {kind} \"{name}\"; it has {has:?}", plugins_dir.display())),
        };
        let mut tools = Vec::new();
        for name in &config.plugins.tools {
            let found = plugins.tools.iter().find(|t| &t.info().name == name);
            tools
                .push(found.cloned().ok_or_else(|| missing("tool", name, plugins.tools.iter().map(|t| t.info().name.as_str()).collect()))?);
        }
        let mut filters = Vec::new();
        for name in &config.plugins.filters {
            let found = plugins.filters.iter().find(|f| f.name() == name);
            filters.push(found.cloned().ok_or_else(|| missing("filter", name, plugins.filters.iter().map(|f| f.name()).collect()))?);
        }
        let name = &config.plugins.reward;
        let reward = plugins.rewards.iter().find(|r| r.name() == name).cloned();
        let reward = reward.ok_or_else(|| missing("reward", name, plugins.rewards.iter().map(|r| r.name()).collect()))?;

        let protocol = protocol(&config, &tools)?;
        let (roles, tool_clock) = (ToolRoles::of(&tools), Arc::default());
        Ok(Self { ui, config, protocol, reward, roles, world, cache, tool_clock, ledger, host, tools, filters, tape })
    }

    /// Every plugin in use.
    pub fn infos(&self) -> impl Iterator<Item = &PluginInfo> {
        self.tools.iter().map(ToolPlugin::info).chain(self.filters.iter().map(FilterPlugin::info)).chain([self.reward.info()])
    }

    /// What to keep of every plugin in use, by name.
    pub fn plugins(&self) -> BTreeMap<String, PluginRecord> {
        self.infos().map(|info| (info.name.clone(), info.record())).collect()
    }

    /// A watch over the plugins in use.
    pub fn workbench(&self) -> Outcome<Workbench> {
        let overrides = overrides(&self.config)?;
        Ok(Workbench::new(self.ui.clone(), self.host.clone(), compiled(&self.cache), &overrides, self.infos()))
    }

    /// Puts changed plugins into the places of those of their names; nothing is changed if the whole would not fit together. A policy has the
    /// new tools once it is [refreshed](Session::refresh).
    pub fn swap(&mut self, changed: &Plugins) -> Outcome<()> {
        fn replaced<P: Clone>(old: &[P], new: &[P], name: impl Fn(&P) -> &str) -> Vec<P> {
            old.iter().map(|old| new.iter().find(|new| name(new) == name(old)).unwrap_or(old).clone()).collect()
        }
        if let Some(other) = changed.infos().iter().find(|new| !self.infos().any(|old| old.name == new.name && old.kind == new.kind)) {
            return Err(bad_input(format!("{} has become a {}, which the run does not use it as", other.name, other.kind)));
        }
        let tools = replaced(&self.tools, &changed.tools, |tool| &tool.info().name);
        self.protocol = protocol(&self.config, &tools)?;
        self.roles = ToolRoles::of(&tools);
        self.tools = tools;
        self.filters = replaced(&self.filters, &changed.filters, FilterPlugin::name);
        self.reward = replaced(std::slice::from_ref(&self.reward), &changed.rewards, RewardPlugin::name).remove(0);
        Ok(())
    }

    /// Digest of every plugin in use, by name.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.infos().map(|info| (info.name.clone(), info.digest.clone())).collect()
    }

    /// Whether the plugins' budget and policies, and the recording if there is one, let the run go on.
    pub fn check(&self) -> Outcome<()> {
        self.ledger.check().input("the run stops")?;
        self.tape.as_ref().map_or(Ok(()), |tape| tape.check()).input("the run cannot go on")
    }

    /// Says how tool calls were answered, where there is a recording.
    pub fn tell_tape(&self) {
        for (door, counts) in self.tape.iter().flat_map(|tape| tape.counts()) {
            let TapeCounts { hits, misses, failures } = counts;
            self.ui.say(format!("{door} calls: {hits} answered from the recording, {misses} not on it; {failures} answers were failures"));
        }
    }

    /// Starts an engine over a model.
    pub fn policy(&self, folder: ModelFolder) -> Outcome<Policy> {
        let model = Qwen2_5Vl::frozen(&folder.config, &folder.weights).internal("cannot build the network")?;
        let options = LocalEngineOptions { workers: self.config.worker_threads(), max_batch: MAX_BATCH, prefill_tokens: PREFILL_TOKENS };
        let engine = LocalEngine::start(model, folder.processor.clone(), options);
        let engine = Arc::new(engine);
        let roller = self.roller(engine.clone(), folder.processor.clone())?;
        Ok(Policy { folder, roller, engine })
    }

    /// Gives a policy the tools as they are now.
    pub fn refresh(&self, policy: &mut Policy) -> Outcome<()> {
        policy.roller = self.roller(policy.engine.clone(), policy.folder.processor.clone())?;
        Ok(())
    }

    fn roller(&self, engine: Arc<LocalEngine>, processor: Processor) -> Outcome<Roller> {
        let tools = self.tools.iter().map(|t| self.tool_clock.timed(Arc::new(t.clone())));
        // A call that is on record costs the tool nothing.
        let tools = tools.map(|tool| self.tape.as_ref().map_or(tool.clone(), |tape| taped(tape, tool))).collect();
        Roller::new(engine, processor, tools, self.config.protocol.clone()).input("[protocol] and the tools do not fit together")
    }

    /// The questions to train on.
    pub fn train_samples(&self) -> Outcome<Vec<Sample>> {
        match (&self.world, &self.config.data.train) {
            (Some(world), _) => Ok(world.samples(Split::Train)),
            (None, Some(path)) => mmhost_data::read(path).input(format!("cannot read {}", path.display())),
            (None, None) => Err(bad_input("data.train names no file to train on")),
        }
    }

    /// The questions to evaluate on, by split.
    pub fn eval_samples(&self) -> Outcome<BTreeMap<String, Vec<Sample>>> {
        if let Some(world) = &self.world {
            return Ok([Split::Test, Split::HeldOut].map(|split| (split.word().to_string(), world.samples(split))).into());
        }
        let read = |(name, path): (&String, &PathBuf)| {
            Ok((name.clone(), mmhost_data::read(path).input(format!("cannot read {}", path.display()))?))
        };
        self.config.data.eval.iter().map(read).collect()
    }

    /// Passes samples through the run's filters and prepares their images.
    pub async fn tasks(&self, name: &str, samples: Vec<Sample>, processor: &Processor) -> Outcome<Vec<Task>> {
        let filters: Vec<&dyn SampleFilter> = self.filters.iter().map(|f| f as &dyn SampleFilter).collect();
        let total = samples.len();
        let filtered = apply_filters(&filters, samples, FILTER_BATCH).await.input(format!("a filter failed on {name}"))?;
        if let Some(first) = filtered.dropped.first() {
            let n = filtered.dropped.len();
            self.ui.say(format!(
                "{n} of {total} questions of {name} dropped, first {} by {}: {}",
                first.sample.id, first.filter, first.reason
            ));
        }
        let samples = filtered.kept;
        if samples.is_empty() {
            return Err(bad_input(format!("no question of {name} is left after the filters")));
        }
        let prepare = |sample| Task::prepare(Arc::new(sample), processor);
        samples.into_iter().map(prepare).collect::<Result<_, _>>().input(format!("cannot prepare the questions of {name}"))
    }
}

fn protocol(config: &Config, tools: &[ToolPlugin]) -> Outcome<Protocol> {
    let specs = tools.iter().map(|tool| tool.spec().clone()).collect();
    Protocol::new(config.protocol.clone(), specs).input("[protocol] and the tools do not fit together")
}

/// The recording that the command line asks for; a new one goes under `dir`.
pub fn open_tape(args: &TapeArgs, dir: Option<&Path>) -> Outcome<Option<Arc<Tape>>> {
    let (dir, mode) = match (&args.replay_from, args.replay, args.record) {
        (Some(from), Some(ReplayArg::Strict), _) => (Some(from.as_path()), TapeMode::Strict),
        (Some(from), Some(ReplayArg::Lenient), _) => (Some(from.as_path()), TapeMode::Replay),
        (_, _, true) => (dir, TapeMode::Record),
        _ => return Ok(None),
    };
    let dir = dir.ok_or_else(|| Failure::Usage("--record needs --episodes DIR, in which to keep the recording".into()))?;
    Tape::open(&dir.join(REPLAY), mode).map(Some).input("cannot open the recording")
}

/// The built-in world, where the configuration uses it, and the corpora that plugins may search.
pub fn world_and_corpora(config: &Config) -> Outcome<(Option<Arc<World>>, Corpora)> {
    match config.data.source {
        DataSource::Atlas => {
            let world = atlas_world(config)?;
            let corpus = Corpus::build(world.documents(), &CorpusOptions::default()).internal("cannot index the built-in atlas")?;
            Ok((Some(Arc::new(world)), Corpora::single(ATLAS_CORPUS, corpus)))
        }
        DataSource::Files => Ok((None, Corpora::open(&config.data.corpora)?)),
    }
}

/// The built-in world as the configuration divides it.
pub fn atlas_world(config: &Config) -> Outcome<World> {
    World::new(&config.data.atlas.clone().unwrap_or_default()).input("[data.atlas] cannot be used")
}

/// The plugin runtime over some corpora.
fn plugin_host(config: &Config, cache: &Path, corpora: Corpora, tape: Option<Arc<Tape>>) -> Outcome<PluginHost> {
    let host = PluginHost::new(host_options(config, cache, corpora)?).internal("cannot start the plugin runtime")?;
    let host = host.with_grants(config.plugins.grants.clone());
    let host = host.with_tape(tape).with_local_models(Arc::new(ModelFolders::default()));
    host.with_policies(config.plugins.policy.clone(), config.plugins.budget.clone()).input("[plugins.budget] cannot be used")
}

/// What the runtime needs to know: caches, corpora, the plugins' configuration.
pub fn host_options(config: &Config, cache: &Path, corpora: Corpora) -> Outcome<HostOptions> {
    Ok(HostOptions { cache_dir: compiled(cache), corpus: Arc::new(corpora), config: overrides(config)? })
}

/// Where compiled components are cached.
fn compiled(cache: &Path) -> PathBuf {
    cache.join("plugins")
}

/// What the run sets of each plugin's configuration.
fn overrides(config: &Config) -> Outcome<BTreeMap<String, serde_json::Value>> {
    let json = |(name, table): (&String, &toml::Table)| {
        let value = serde_json::to_value(table).internal(format!("plugins.config.{name}"))?;
        Ok((name.clone(), value))
    };
    config.plugins.config.iter().map(json).collect()
}

/// The folder for what can be made again.
pub fn cache_dir(chosen: Option<PathBuf>) -> Outcome<PathBuf> {
    let from_env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = || from_env("XDG_CACHE_HOME").or_else(|| Some(from_env("HOME")?.join(".cache"))).map(|dir| dir.join("mmhost"));
    chosen.or_else(user).ok_or_else(|| bad_input("there is no cache folder: neither --cache, XDG_CACHE_HOME nor HOME is set"))
}

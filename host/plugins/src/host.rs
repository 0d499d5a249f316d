//! Loads folders of plugins: manifest, lock file, contract, grants, configuration, component, self-description, in this order, so
//! that nothing is compiled that is not what it claims to be.

use crate::contract::Surface;
use crate::demands::Demands;
use crate::grant::{self, Grants};
use crate::ledger::{Account, Ledger, Policies, Policy, RunBudget};
use crate::lock::{LOCK, Lock, Pin, digest};
use crate::manifest::{Kind, MANIFEST, Manifest, Method, closest};
use crate::models::{LocalModels, Model};
use crate::net::{HostRule, Lookup, Network, SystemLookup};
use crate::package::read_component;
use crate::runtime::Runtime;
use crate::tape::Tape;
use crate::types::{CallForm, CorpusService};
use crate::{FilterPlugin, Limits, PluginError, Result, RewardPlugin, ToolPlugin};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

/// Options of the runtime.
pub struct HostOptions {
    /// Compiled components are kept here, keyed by digest. Only this user may be able to write to it.
    pub cache_dir: PathBuf,
    /// The corpora that plugins may be granted.
    pub corpus: Arc<dyn CorpusService>,
    /// Configuration by plugin name (JSON object), merged over the manifest's defaults.
    pub config: BTreeMap<String, serde_json::Value>,
}

/// What the host knows of a loaded plugin; [`PluginInfo::record`] belongs into the record of every run.
#[derive(Debug, Clone)]
pub struct PluginInfo {
    /// Name.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Kind.
    pub kind: Kind,
    /// Version of the contract.
    pub contract: String,
    /// One line for people.
    pub description: String,
    /// Folder.
    pub folder: PathBuf,
    /// Digest of the component, hex SHA-256.
    pub digest: String,
    /// Size of the component in bytes.
    pub num_bytes: u64,
    /// Corpora that it may search.
    pub corpora: Vec<String>,
    /// Hosts that it may send requests to.
    pub hosts: Vec<HostRule>,
    /// Methods of those requests.
    pub methods: Vec<Method>,
    /// Networks that are not of the public internet and that it may dial.
    pub networks: Vec<IpNet>,
    /// Names of the secrets that its requests may carry.
    pub secrets: Vec<String>,
    /// Names of the models that it asks for.
    pub(crate) asked_models: Vec<String>,
    /// The models that it may ask, by those names.
    pub(crate) models: BTreeMap<String, Arc<Model>>,
    /// What the lock file says of it.
    pub pin: Pin,
    /// What the run lays down for its failures and its cost.
    pub policy: Policy,
    pub(crate) network: Option<Arc<Network>>,
    pub(crate) account: Arc<Account>,
    /// What is known of the world behind the doors, or is to be kept of it.
    pub(crate) tape: Option<Arc<Tape>>,
    /// Places for its calls.
    pub(crate) places: Arc<Semaphore>,
    /// What a call may use.
    pub limits: Limits,
    /// The configuration that it sees, as JSON.
    pub config_json: String,
}

/// The runtime. One per process; what it loaded keeps working after it is dropped.
pub struct PluginHost {
    runtime: Arc<Runtime>,
    /// Started when a plugin wants its fuel limited.
    metered: OnceLock<Arc<Runtime>>,
    cache_dir: PathBuf,
    corpus: Arc<dyn CorpusService>,
    tape: Option<Arc<Tape>>,
    policies: Policies,
    ledger: Arc<Ledger>,
    config: BTreeMap<String, serde_json::Value>,
    /// `None`: nothing needs a grant, and there is no network.
    grants: Option<Grants>,
    lookup: Arc<dyn Lookup>,
    local_models: Option<Arc<dyn LocalModels>>,
    demands: Demands,
}

/// The plugins of a folder.
pub struct Plugins {
    /// Tools, in the order of their folders' names.
    pub tools: Vec<ToolPlugin>,
    /// Rewards.
    pub rewards: Vec<RewardPlugin>,
    /// Filters.
    pub filters: Vec<FilterPlugin>,
    /// Plugins, by name, that were left out because the run does not use them, and they are not built, or ask for what the run's grants do
    /// not mention; with the error for whoever needs one.
    pub set_aside: BTreeMap<String, PluginError>,
}

/// A loaded plugin of any kind.
enum Loaded {
    Tool(ToolPlugin),
    Reward(RewardPlugin),
    Filter(FilterPlugin),
}

impl PluginHost {
    /// Starts the runtime.
    ///
    /// # Errors
    /// When the engine does not start on this machine.
    pub fn new(options: HostOptions) -> Result<Self> {
        Self::start(options, false)
    }

    /// Starts a runtime that counts the fuel of every call. Guests compute about 40 % slower in it, so it is for trying, checking and
    /// measuring plugins, not for runs. What it compiles is kept beside what other runtimes compile.
    ///
    /// # Errors
    /// When the engine does not start on this machine.
    pub fn metered(options: HostOptions) -> Result<Self> {
        Self::start(options, true)
    }

    fn start(options: HostOptions, metered: bool) -> Result<Self> {
        let HostOptions { cache_dir, corpus, config } = options;
        let runtime = Arc::new(Runtime::new(&cache_dir, corpus.clone(), metered)?);
        Ok(PluginHost {
            metered: if metered { OnceLock::from(runtime.clone()) } else { OnceLock::new() },
            runtime,
            cache_dir,
            corpus,
            tape: None,
            policies: Policies::new(),
            ledger: Arc::default(),
            config,
            grants: Some(Grants::new()),
            lookup: Arc::new(SystemLookup),
            local_models: None,
            demands: Demands::default(),
        })
    }

    /// Lays down what follows failures, and what the plugins may cost.
    ///
    /// # Errors
    /// [`PluginError::Policy`] when the budget is no amount.
    pub fn with_policies(mut self, policies: Policies, budget: RunBudget) -> Result<Self> {
        budget.check()?;
        self.policies = policies;
        self.ledger = Arc::new(Ledger::new(budget));
        Ok(self)
    }

    /// What the plugins that it loads have cost.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.clone()
    }

    /// The runtime for a plugin with these limits.
    fn runtime(&self, limits: &Limits) -> Result<Arc<Runtime>> {
        if limits.fuel == 0 {
            return Ok(self.runtime.clone());
        }
        if let Some(runtime) = self.metered.get() {
            return Ok(runtime.clone());
        }
        let runtime = Arc::new(Runtime::new(&self.cache_dir, self.corpus.clone(), true)?);
        Ok(self.metered.get_or_init(|| runtime).clone())
    }

    /// Grants the named plugins exactly this, instead of the corpora that they ask for.
    pub fn with_grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// Lets every plugin load, but gives none the network, and for models one that says no to everything: to try a plugin apart from any run.
    pub fn offline(mut self) -> Self {
        self.grants = None;
        self
    }

    /// Records what the doors answer, or answers from a recording.
    pub fn with_tape(mut self, tape: Option<Arc<Tape>>) -> Self {
        self.tape = tape;
        self
    }

    /// Loads plugins only if they meet these demands, which are looked at before anything of them is compiled.
    pub fn demanding(mut self, demands: Demands) -> Self {
        self.demands = demands;
        self
    }

    /// Lets runs grant plugins models that the host itself runs.
    pub fn with_local_models(mut self, models: Arc<dyn LocalModels>) -> Self {
        self.local_models = Some(models);
        self
    }

    /// Has another lookup of host names than the system's.
    pub fn with_lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }

    /// Loads every plugin of a folder (its `plugins.lock` pins them), or the one plugin whose folder it is. Folders in it without
    /// a manifest and a component, such as libraries, are passed over. Works inside and outside of an async runtime.
    ///
    /// # Errors
    /// One error for each plugin that cannot be loaded, in [`PluginError::Several`] when there are several.
    pub fn load_dir(&self, dir: &Path) -> Result<Plugins> {
        let mut loaded = Vec::new();
        let folders = plugin_folders(dir)?;
        let mut errors = self.strangers(dir, &folders);
        let mut set_aside = BTreeMap::new();
        for folder in folders {
            match block_on(self.load(&folder)) {
                Ok(plugin) => loaded.push(plugin),
                Err(error) => {
                    let concerned = match &error {
                        PluginError::MissingGrant { plugin, .. } => Some(plugin.clone()),
                        PluginError::NotBuilt { .. } => Manifest::read(&folder).ok().map(|manifest| manifest.name),
                        _ => None,
                    };
                    match concerned {
                        Some(plugin) if folder != dir && !self.names(&plugin) => drop(set_aside.insert(plugin, error)),
                        _ => errors.push(error),
                    }
                }
            }
        }
        let mut plugins = Plugins { tools: Vec::new(), rewards: Vec::new(), filters: Vec::new(), set_aside };
        for plugin in loaded {
            match plugin {
                Loaded::Tool(tool) => plugins.tools.push(tool),
                Loaded::Reward(reward) => plugins.rewards.push(reward),
                Loaded::Filter(filter) => plugins.filters.push(filter),
            }
        }
        errors.extend(plugins.duplicates());
        match errors.len() {
            0 => Ok(plugins),
            1 => Err(errors.remove(0)),
            _ => Err(PluginError::Several { errors }),
        }
    }

    /// Names in configuration and grants that no plugin of the folder has: misspelt, they would silently change nothing.
    fn strangers(&self, dir: &Path, folders: &[PathBuf]) -> Vec<PluginError> {
        if let [only] = folders
            && only == dir
        {
            // One plugin loaded alone may well have neighbours.
            return Vec::new();
        }
        let name = |folder: &PathBuf| match Manifest::read(folder) {
            Ok(manifest) => manifest.name,
            Err(_) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let known: Vec<String> = folders.iter().map(name).collect();
        let names = self
            .config
            .keys()
            .chain(self.grants.iter().flat_map(Grants::keys))
            .chain(self.policies.keys())
            .filter(|name| !known.contains(name));
        let stranger = |name: &String| PluginError::UnknownPlugin {
            name: name.clone(),
            dir: dir.into(),
            suggestion: closest(name, &known),
            known: known.clone(),
        };
        names.map(stranger).collect()
    }

    /// Whether the run uses the plugin, or its grants name it.
    fn names(&self, plugin: &str) -> bool {
        self.demands.used.contains(plugin) || self.grants.as_ref().is_some_and(|grants| grants.contains_key(plugin))
    }

    async fn load(&self, folder: &Path) -> Result<Loaded> {
        let checked = CheckedPlugin::read(folder)?;
        self.demands.check(&checked, folder)?;
        let manifest = &checked.manifest;
        let grant = self.grants.as_ref().and_then(|grants| grants.get(&manifest.name));
        if self.grants.is_some() {
            grant::check(manifest, grant)?;
        }
        let config = manifest.configuration(self.config.get(&manifest.name))?;
        let policy = self.policies.get(&manifest.name).cloned().unwrap_or_default();
        let account = Arc::new(Account::new(self.ledger.clone(), &manifest.name, manifest.kind, policy.clone())?);
        let info = Arc::new(PluginInfo {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            kind: manifest.kind,
            contract: manifest.contract.clone(),
            description: manifest.description.clone(),
            folder: folder.into(),
            digest: checked.digest.clone(),
            num_bytes: checked.bytes.len() as u64,
            corpora: manifest.ask.corpora.clone(),
            hosts: manifest.ask.hosts.clone(),
            methods: manifest.ask.methods.clone(),
            networks: grant.map(|grant| grant.networks.clone()).unwrap_or_default(),
            secrets: manifest.ask.secrets.clone(),
            asked_models: manifest.ask.models.clone(),
            models: match self.grants {
                Some(_) => grant::models(&manifest.name, &manifest.ask, grant, &self.lookup, self.local_models.as_deref())?,
                None => manifest.ask.models.iter().map(|name| (name.clone(), Arc::new(Model::stand_in()))).collect(),
            },
            pin: checked.pin.clone(),
            network: grant::network(&manifest.name, &manifest.ask, grant, self.lookup.clone())?,
            policy,
            account,
            tape: self.tape.clone(),
            places: Arc::new(Semaphore::new(manifest.limits.concurrent_calls as usize)),
            limits: manifest.limits,
            config_json: serde_json::Value::Object(config).to_string(),
        });
        let runtime = self.runtime(&manifest.limits)?;
        let fail = |error: wasmtime::Error| PluginError::NotAComponent { file: checked.component.clone(), message: format!("{error:#}") };
        let component = runtime.cache.compile(&runtime.engine, &checked.digest, &checked.bytes).map_err(fail)?;
        let instance = runtime.linker.instantiate_pre(&component).map_err(fail)?;
        tracing::debug!(target: "plugin", "loaded {} {} (sha256:{})", info.name, info.version, info.digest);
        Ok(match manifest.kind {
            Kind::SearchTool => Loaded::Tool(ToolPlugin::load(runtime, info, instance).await?),
            Kind::Reward => Loaded::Reward(RewardPlugin::load(runtime, info, instance, checked.surface.exports_0_1("scoring")).await?),
            Kind::DatasetFilter => Loaded::Filter(FilterPlugin::load(runtime, info, instance).await?),
        })
    }
}

/// A plugin's folder whose manifest, digest and contract are in order. Nothing is compiled yet.
pub(crate) struct CheckedPlugin {
    pub manifest: Manifest,
    pub manifest_text: String,
    pub component: PathBuf,
    pub bytes: Vec<u8>,
    pub digest: String,
    pub pin: Pin,
    pub surface: Surface,
}

impl CheckedPlugin {
    /// Reads and checks a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest_text = Manifest::text(folder)?;
        let manifest = Manifest::parse(&manifest_text, &folder.join(MANIFEST))?;
        let component = manifest.component_path(folder);
        let bytes = read_component(folder, &manifest.component_name())?;
        let digest = digest(&bytes);
        let dir = lock_dir(folder);
        let pin = Lock::read(&dir)?.plugins.remove(&manifest.name).ok_or_else(|| PluginError::NotPinned {
            plugin: manifest.name.clone(),
            folder: folder.into(),
            lock: dir.join(LOCK),
        })?;
        if pin.component != format!("sha256:{digest}") {
            return Err(PluginError::Digest {
                file: component,
                lock: dir.join(LOCK),
                found: digest,
                expected: pin.component.trim_start_matches("sha256:").into(),
            });
        }
        let surface = Surface::read(&component, &bytes)?;
        surface.check(&manifest, &folder.join(MANIFEST), &component)?;
        Ok(CheckedPlugin { manifest, manifest_text, component, bytes, digest, pin, surface })
    }
}

impl Plugins {
    /// Names and calls that two plugins claim.
    fn duplicates(&self) -> Vec<PluginError> {
        let mut errors = Vec::new();
        let mut claimed: BTreeMap<(&'static str, String), String> = BTreeMap::new();
        let mut claim = |what, name: String, plugin: &PluginInfo| {
            let by = plugin.folder.display().to_string();
            if let Some(first) = claimed.insert((what, name.clone()), by.clone()) {
                errors.push(PluginError::Duplicate { what, name, first, second: by });
            }
        };
        for tool in &self.tools {
            claim("the tool name", tool.spec().name.clone(), tool.info());
            match &tool.spec().call {
                CallForm::Literal(text) => claim("the call", text.clone(), tool.info()),
                CallForm::Tag(tag) => claim("the call", format!("<{tag}>"), tool.info()),
                CallForm::Json(_) => {}
            }
        }
        let infos = self.tools.iter().map(ToolPlugin::info);
        let infos = infos.chain(self.rewards.iter().map(RewardPlugin::info));
        for info in infos.chain(self.filters.iter().map(FilterPlugin::info)) {
            claim("the plugin name", info.name.clone(), info);
        }
        errors
    }

    /// Every plugin of the folder, for the record of a run.
    pub fn infos(&self) -> Vec<&PluginInfo> {
        let tools = self.tools.iter().map(ToolPlugin::info);
        let rewards = self.rewards.iter().map(RewardPlugin::info);
        tools.chain(rewards).chain(self.filters.iter().map(FilterPlugin::info)).collect()
    }
}

/// The folders of a folder that are meant to be plugins, by name; or the folder itself when it is one.
///
/// # Errors
/// When the folder cannot be listed or holds none.
pub(crate) fn plugin_folders(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join(MANIFEST).is_file() {
        return Ok(vec![dir.into()]);
    }
    let fail = |error: std::io::Error| PluginError::File { file: dir.into(), message: format!("cannot list the plugins: {error}") };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let folder = entry.map_err(fail)?.path();
        if folder.is_dir() && (folder.join(MANIFEST).exists() || has_component(&folder)) {
            folders.push(folder);
        }
    }
    folders.sort();
    match folders.is_empty() {
        true => Err(PluginError::Empty { dir: dir.into() }),
        false => Ok(folders),
    }
}

/// Whether a component lies in the folder; one without a manifest is a mistake that must not go unnoticed.
fn has_component(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wasm"))
}

/// The folder whose lock file pins the plugin in `folder`.
pub(crate) fn lock_dir(folder: &Path) -> PathBuf {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        // `image-search` lies in `.`, and `.` in what it stands for.
        _ => folder.canonicalize().ok().and_then(|path| path.parent().map(Path::to_path_buf)).unwrap_or_default(),
    }
}

/// Runs a future to its end on a thread of its own, which works whether or not the caller runs in an async runtime.
fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let fail = |error: String| PluginError::Other(format!("cannot start a thread: {error}"));
    std::thread::scope(|scope| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map_err(|error| fail(error.to_string()))?.block_on(future)
        };
        scope.spawn(run).join().map_err(|_| PluginError::Other("loading failed unexpectedly".into()))?
    })
}

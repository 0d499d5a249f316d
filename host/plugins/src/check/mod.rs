//! Conformance: what a plugin must keep beyond what the types of the contract say. The work behind `mmhost plugin check`.
//!
//! The plugin is loaded as a run loads it and meets a `battery` of ordinary and nasty inputs, over a small corpus that stands in
//! for every one that it asks for; models that it asks for say no to everything. What it does wrong becomes [`Finding`]s that read like a compiler's messages.

pub(crate) mod battery;
mod cases;
pub(crate) mod corpus;
mod filter;
mod reward;
pub(crate) mod tool;

use crate::call::Subject;
use crate::host::{CheckedPlugin, HostOptions, PluginHost, lock_dir};
use crate::lock::{Lock, digest_sources};
use crate::manifest::{Kind, MANIFEST, Manifest};
use crate::types::CallCost;
use crate::{Limits, PluginError, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The plugin may be used; its author should know.
    Warning,
    /// The plugin must not be used.
    Error,
}

/// Something that is wrong with a plugin.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A word for the rule.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
    /// Where: a file, or a function and the input that it was given.
    pub place: String,
    /// Why it matters.
    pub why: &'static str,
    /// How to mend it.
    pub help: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Error => "error",
        };
        writeln!(f, "{level}[{}]: {}", self.rule, self.what)?;
        writeln!(f, "  --> {}", self.place)?;
        writeln!(f, "   = why: {}", self.why)?;
        write!(f, "   = help: {}", self.help)
    }
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Name of the plugin, or of its folder when there is no readable manifest.
    pub plugin: String,
    /// Its kind, if its manifest says.
    pub kind: Option<Kind>,
    /// How many inputs it was given.
    pub num_calls: usize,
    /// The dearest call in each respect.
    pub peak: CallCost,
    /// Errors first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings are errors.
    pub fn num_errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Error).count()
    }
}

/// Checks the plugin in a folder. `config` overrides its configuration as a run's `[plugins.config.NAME]` does.
///
/// # Errors
/// When the runtime cannot be started. Whatever is wrong with the plugin is a finding.
pub async fn check(folder: &Path, cache_dir: PathBuf, config: Option<serde_json::Value>) -> Result<Report> {
    let manifest = Manifest::read(folder);
    let name = match &manifest {
        Ok(manifest) => manifest.name.clone(),
        Err(_) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let kind = manifest.as_ref().ok().map(|manifest| manifest.kind);
    let report = Report { plugin: name.clone(), kind, num_calls: 0, peak: CallCost::default(), findings: Vec::new() };
    let mut checker = Checker { folder: folder.into(), limits: Limits::default(), report };
    let config: BTreeMap<String, serde_json::Value> = config.map(|config| (name, config)).into_iter().collect();
    let host = PluginHost::metered(HostOptions { cache_dir, corpus: Arc::new(corpus::Test), config })?.offline();
    match load(&host, folder) {
        Ok(subject) => {
            checker.static_findings(folder);
            checker.run(&subject).await;
        }
        Err(PluginError::Several { errors }) => errors.into_iter().for_each(|error| checker.refused(error)),
        Err(error @ PluginError::Other(_)) => return Err(error),
        Err(error) => checker.refused(error),
    }
    let mut report = checker.report;
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Ok(report)
}

fn load(host: &PluginHost, folder: &Path) -> Result<Subject> {
    // Without a manifest the folder would be taken for one of plugins.
    Manifest::read(folder)?;
    Subject::only(host.load_dir(folder)?, folder)
}

/// A check that is under way.
struct Checker {
    folder: PathBuf,
    limits: Limits,
    report: Report,
}

impl Checker {
    fn find(&mut self, level: Level, rule: &'static str, place: impl Into<String>, what: impl Into<String>, why: &'static str, help: &str) {
        self.report.findings.push(Finding { level, rule, what: what.into(), place: place.into(), why, help: help.into() });
    }

    fn error(&mut self, rule: &'static str, place: impl Into<String>, what: impl Into<String>, why: &'static str, help: &str) {
        self.find(Level::Error, rule, place, what, why, help);
    }

    fn warning(&mut self, rule: &'static str, place: impl Into<String>, what: impl Into<String>, why: &'static str, help: &str) {
        self.find(Level::Warning, rule, place, what, why, help);
    }

    /// A place in the plugin's code: a function, and the input that it was given.
    fn at(&self, function: &str, input: &str) -> String {
        format!("{}: `{function}`, given {input}", self.folder.display())
    }

    /// Counts a call and what it took.
    fn spent(&mut self, cost: CallCost) {
        let peak = &mut self.report.peak;
        self.report.num_calls += 1;
        peak.elapsed_ms = peak.elapsed_ms.max(cost.elapsed_ms);
        peak.memory_bytes = peak.memory_bytes.max(cost.memory_bytes);
        peak.fuel = peak.fuel.max(cost.fuel);
    }

    async fn run(&mut self, subject: &Subject) {
        match subject {
            Subject::Tool(tool) => {
                self.limits = tool.info().limits;
                self.described(tool.describe().await.map(|(spec, cost)| (spec == *tool.spec(), cost)));
                self.tool(tool).await;
            }
            Subject::Reward(reward) => {
                self.limits = reward.info().limits;
                self.described(reward.describe().await.map(|(spec, cost)| (spec == *reward.spec(), cost)));
                self.reward(reward).await;
            }
            Subject::Filter(filter) => {
                self.limits = filter.info().limits;
                self.described(filter.describe().await.map(|(spec, cost)| (spec == *filter.spec(), cost)));
                self.filter(filter).await;
            }
        }
        self.cases(subject).await;
        self.headroom();
    }

    fn described(&mut self, again: Result<(bool, CallCost)>) {
        let place = format!("{}: `describe`", self.folder.display());
        match again {
            Ok((true, cost)) => self.spent(cost),
            Ok((false, _)) => self.error(
                "determinism",
                place,
                "the plugin describes itself differently each time",
                "a run asks once, and records what it was told",
                "describe the plugin by its configuration alone",
            ),
            Err(error) => self.failed("describe", "nothing", &error),
        }
    }

    /// A call failed in a way that no input excuses.
    fn failed(&mut self, function: &str, input: &str, error: &PluginError) {
        let (rule, help) = match error {
            PluginError::Trap { .. } => ("trap", "handle this input: answer it, or report an error of the contract"),
            PluginError::Deadline { .. } => (
                "deadline",
                "bound the work by the size of the input, cut inputs that are too long, or ask for more time in `[limits] deadline_ms`",
            ),
            PluginError::Memory { .. } => ("memory", "look at sizes before reading or decoding, or ask for more in `[limits] memory_mib`"),
            PluginError::Resources { .. } => ("resources", "drop handles that are no longer needed, and keep tables small"),
            PluginError::OutputTooLong { .. } => ("output", "cut what is returned, whatever the input"),
            PluginError::BadAnswer { .. } => ("contract", "return what the contract in `wit/` says"),
            PluginError::Internal { .. } => ("internal", "decide on each item for itself; one malformed item must not fail its neighbours"),
            PluginError::Config { .. } => ("config", "refuse unusable configurations in `describe`, before a run starts"),
            _ => ("call", "see the message"),
        };
        let why = match function {
            "call" => "inputs are written by a policy in training, which tries everything; each failure wastes an episode",
            "score" => "turns are written by a policy in training, which tries everything; a failed batch stops the learning step",
            _ => "data sets are dirty; a failed call stops the run",
        };
        self.error(rule, self.at(function, input), error.to_string(), why, help);
    }

    /// The plugin cannot be loaded.
    fn refused(&mut self, error: PluginError) {
        let place = self.folder.join(MANIFEST).display().to_string();
        let (rule, why, help) = match &error {
            PluginError::ContractVersion { .. } => (
                "contract-version",
                "host and plugin would misread each other",
                "build it against the `wit/` of this host; `mmhost plugin new` writes it",
            ),
            PluginError::WrongKind { .. } => {
                ("kind", "the kind decides which functions are called", "export the world of the manifest's `kind`, or correct `kind`")
            }
            PluginError::ForbiddenImport { .. } => {
                ("imports", "a plugin reaches nothing that the host does not offer", "do without it; use the doors of the contract")
            }
            PluginError::MissingAsk { .. } => {
                ("imports", "who runs the plugin decides by its manifest what it may do", "ask for it in the manifest, as the message says")
            }
            PluginError::Config { .. }
            | PluginError::ConfigSchema { .. }
            | PluginError::UnknownConfig { .. }
            | PluginError::ConfigType { .. } => ("config", "a run would stop before it starts", "make the defaults of `[config]` usable"),
            PluginError::BadAnswer { .. } => {
                ("description", "the system prompt and the learner are made from the self-description", "correct what `describe` returns")
            }
            PluginError::Digest { .. } | PluginError::NotPinned { .. } => {
                ("lock", "a pinned digest tells that these are the bytes that were trusted", "run `mmhost plugin build` on the folder")
            }
            PluginError::Field { .. } | PluginError::Syntax { .. } => (
                "manifest",
                "the manifest says what the plugin is and may do",
                "correct the manifest; `mmhost schema plugin` prints its schema",
            ),
            PluginError::NotAComponent { .. } => ("component", "only components can be loaded", "build it with `mmhost plugin build`"),
            _ => ("load", "a plugin that does not load cannot be used", "see the message"),
        };
        self.error(rule, place, error.to_string(), why, help);
    }

    /// What manifest, lock file and component tell without a call.
    fn static_findings(&mut self, folder: &Path) {
        let Ok(CheckedPlugin { manifest, surface, .. }) = CheckedPlugin::read(folder) else { return };
        let place = folder.join(MANIFEST).display().to_string();
        if manifest.description.trim().is_empty() {
            self.warning(
                "manifest",
                &place,
                "`description` is empty",
                "`plugin list` shows it to people who choose",
                "say in one line what the plugin does",
            );
        }
        let asks =
            [("corpora", &manifest.ask.corpora, "corpus", "searches them"), ("models", &manifest.ask.models, "llm", "asks them anything")];
        for (field, names, door, use_of_it) in asks {
            if !names.is_empty() && surface.door(door).is_none() {
                self.warning(
                    "asks",
                    &place,
                    format!("asks for the {field} {names:?} but never {use_of_it}"),
                    "who runs the plugin must grant what it asks for",
                    &format!("remove `{field}` from `[ask]`"),
                );
            }
        }
        let dir = lock_dir(folder);
        let pinned = Lock::read(&dir).ok().and_then(|mut lock| lock.plugins.remove(&manifest.name)?.sources);
        if pinned.is_some_and(|pinned| digest_sources(&dir, folder).is_ok_and(|found| found != pinned)) {
            self.warning(
                "stale",
                folder.display().to_string(),
                "the sources changed after the component was built",
                "what is checked here is not what the sources say",
                "run `mmhost plugin build` on the folder",
            );
        }
    }

    /// Warns of calls that came close to a limit.
    fn headroom(&mut self) {
        let (peak, limits) = (self.report.peak, self.limits);
        let place = self.folder.join(MANIFEST).display().to_string();
        if peak.memory_bytes * 10 > (limits.memory_mib << 20) * 9 {
            let what = format!("a call held {} of {} MiB", peak.memory_bytes >> 20, limits.memory_mib);
            self.warning("headroom", &place, what, "a slightly larger input would fail", "raise `[limits] memory_mib`");
        }
        if peak.elapsed_ms > limits.deadline_ms as f64 / 2.0 {
            let what = format!("a call took {:.0} of {} ms", peak.elapsed_ms, limits.deadline_ms);
            self.warning("headroom", &place, what, "on a busy machine it would fail", "raise `[limits] deadline_ms`, or do less");
        }
    }
}

//! What can go wrong with plugins, and whose fault it is.

use crate::demands::Drift;
use crate::reported::{ConfigFault, ToolError};
use std::path::PathBuf;

/// Why a plugin call or a plugin folder failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PluginError {
    // ── A call ────────────────────────────────────────────────────────────────────────────────────────────────────────────
    /// The guest stopped itself: a panic, an out-of-bounds access, a division by zero, …
    #[error("plugin {plugin}: trapped: {message}")]
    Trap {
        /// Plugin.
        plugin: String,
        /// The trap, and the guest's last line on standard error if it wrote one.
        message: String,
    },
    /// The call took longer than allowed.
    #[error("plugin {plugin}: exceeded its deadline of {limit_ms} ms; `[limits] deadline_ms` in its plugin.toml sets it")]
    Deadline {
        /// Plugin.
        plugin: String,
        /// The deadline in milliseconds.
        limit_ms: u64,
    },
    /// The guest asked for more memory than allowed.
    #[error("plugin {plugin}: exceeded its memory limit of {limit_mib} MiB; `[limits] memory_mib` in its plugin.toml sets it")]
    Memory {
        /// Plugin.
        plugin: String,
        /// The limit in mebibytes.
        limit_mib: u64,
    },
    /// The guest held more handles or table entries than allowed.
    #[error("plugin {plugin}: exceeded its limit of {limit} {what}")]
    Resources {
        /// Plugin.
        plugin: String,
        /// What was held, e.g. `handles`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The answer is larger than allowed.
    #[error("plugin {plugin}: its answer has {found} {what}, at most {limit} are allowed; `[limits] {field}` in its plugin.toml sets it")]
    OutputTooLong {
        /// Plugin.
        plugin: String,
        /// What is counted: `bytes`, `images` or `pixels`.
        what: &'static str,
        /// How many there are, e.g. `more than 4096`.
        found: String,
        /// How many are allowed.
        limit: u64,
        /// The field of `[limits]`.
        field: &'static str,
    },
    /// The answer breaks the contract, e.g. there are fewer verdicts than episodes.
    #[error("plugin {plugin}: broke the contract: {found}, expected {expected}")]
    BadAnswer {
        /// Plugin.
        plugin: String,
        /// What came back.
        found: String,
        /// What should have.
        expected: String,
    },
    /// A tool reported an error of the contract.
    #[error("plugin {plugin}: {error}")]
    Tool {
        /// Plugin.
        plugin: String,
        /// The error.
        error: ToolError,
    },
    /// A reward or filter reported that it could not deal with a whole batch.
    #[error("plugin {plugin}: reported an internal error: {message}")]
    Internal {
        /// Plugin.
        plugin: String,
        /// What the plugin said.
        message: String,
    },
    /// The plugin refused its configuration.
    #[error("plugin {plugin}: unusable configuration: {fault}")]
    Config {
        /// Plugin.
        plugin: String,
        /// What is wrong with it.
        fault: ConfigFault,
    },

    /// The plugin failed so often in a row that it was not called.
    #[error(
        "plugin {plugin}: not called: it failed {failures} times in a row, and `[plugins.policy.{plugin}] breaker` spares it for {pause_s} s"
    )]
    Spared {
        /// Plugin.
        plugin: String,
        /// Failures in a row.
        failures: u32,
        /// How long it is spared, in seconds.
        pause_s: u64,
    },
    /// A call or request would have used more than the run may.
    #[error(
        "plugin {plugin}: not called: the run's budget is spent; `[plugins.budget] {field} = {limit}` in the run's configuration sets it"
    )]
    BudgetSpent {
        /// Plugin.
        plugin: String,
        /// The field of the budget.
        field: &'static str,
        /// Its value.
        limit: f64,
    },
    /// The plugin failed, and the run's policy is to stop then.
    #[error("plugin {plugin} failed, and `[plugins.policy.{plugin}] on_failure = \"stop\"` ends the run: {why}")]
    Stop {
        /// Plugin.
        plugin: String,
        /// The failure.
        why: String,
    },
    /// The guest computed more than allowed.
    #[error("plugin {plugin}: exceeded its fuel of {limit}; `[limits] fuel` in its plugin.toml sets it")]
    Fuel {
        /// Plugin.
        plugin: String,
        /// The limit, in wasmtime's units (about one for each instruction).
        limit: u64,
    },

    // ── A folder ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    /// A file could not be read or written.
    #[error("{}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said, and what to do.
        message: String,
    },
    /// A plugin has no component yet.
    #[error("{}: the component is not there; `mmhost plugin build {}` makes it", file.display(), folder.display())]
    NotBuilt {
        /// The component.
        file: PathBuf,
        /// The plugin's folder.
        folder: PathBuf,
    },
    /// A manifest or lock file is not valid TOML or lacks a field, or a field has another type.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser said, with the line.
        message: String,
    },
    /// A field of a manifest has an unusable value.
    #[error("{}: field `{field}`: found {found}, expected {expected}", file.display())]
    Field {
        /// The manifest.
        file: PathBuf,
        /// The field, e.g. `limits.memory_mib`.
        field: String,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The run configures or grants something to a plugin that is not there.
    #[error(
        "the run's configuration names the plugin `{name}`, which is not in {}{}; there: {}",
        dir.display(),
        suggestion.as_ref().map(|s| format!(" (did you mean `{s}`?)")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownPlugin {
        /// The unknown name.
        name: String,
        /// The folder of plugins.
        dir: PathBuf,
        /// The plugin whose name resembles it most.
        suggestion: Option<String>,
        /// Every plugin of the folder.
        known: Vec<String>,
    },
    /// The run's configuration sets something that the manifest's `[config]` table does not have.
    #[error(
        "configuration of plugin {plugin}: unknown key `{key}`{}; known: {}",
        suggestion.as_ref().map(|s| format!(" (did you mean `{s}`?)")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownConfig {
        /// Plugin.
        plugin: String,
        /// The unknown key.
        key: String,
        /// The known key that it resembles most.
        suggestion: Option<String>,
        /// Every known key.
        known: Vec<String>,
    },
    /// The run's configuration sets a key to a value of another type than the manifest's default.
    #[error("configuration of plugin {plugin}: key `{key}`: found {found}, expected {expected} as in its plugin.toml")]
    ConfigType {
        /// Plugin.
        plugin: String,
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The configuration breaks the schema of the manifest.
    #[error("configuration of plugin {plugin}: {}found {found}, expected what `[config-schema]` in its plugin.toml says: {expected}", if key.is_empty() { String::new() } else { format!("key `{key}`: ") })]
    ConfigSchema {
        /// Plugin.
        plugin: String,
        /// The key, with dots between those of tables within; empty for the whole.
        key: String,
        /// What was found.
        found: String,
        /// The rule that it breaks.
        expected: String,
    },
    /// The lock file does not name the plugin.
    #[error(
        "plugin {plugin}: {} does not pin it; if you trust its component, run `mmhost plugin build {}`",
        lock.display(),
        folder.display()
    )]
    NotPinned {
        /// Plugin.
        plugin: String,
        /// Its folder.
        folder: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The component's bytes are not those that the lock file pins.
    #[error(
        "{}: wrong digest: found sha256:{found}, {} pins sha256:{expected}; restore the component, or rebuild it with `mmhost plugin build`",
        file.display(),
        lock.display()
    )]
    Digest {
        /// The component.
        file: PathBuf,
        /// The lock file.
        lock: PathBuf,
        /// Digest of the file, hex.
        found: String,
        /// Digest in the lock file, hex.
        expected: String,
    },
    /// `--locked`: something of a plugin is not what the lock file pins.
    #[error(transparent)]
    Drift(Box<Drift>),
    /// A plugin is not signed as it must be.
    #[error(
        "{}: found {found}; expected {expected}; have it signed with `mmhost plugin sign`, or demand no signature (`[plugins] trusted_keys` \
         of the run, `signed_by` in plugins.lock, --key)",
        file.display()
    )]
    Signature {
        /// The signature's file.
        file: PathBuf,
        /// What there is.
        found: String,
        /// What there must be.
        expected: String,
    },
    /// The component is not one.
    #[error("{}: not a WebAssembly component: {message}", file.display())]
    NotAComponent {
        /// The file.
        file: PathBuf,
        /// Why.
        message: String,
    },
    /// The component was built against another version of the contract.
    #[error(
        "{}: built against version {found} of the contract mmhost:plugin, this host speaks {expected}; rebuild it against this host's `wit/`",
        file.display()
    )]
    ContractVersion {
        /// The component or manifest.
        file: PathBuf,
        /// Its version.
        found: String,
        /// The host's version.
        expected: String,
    },
    /// The component does not export what the manifest's kind requires.
    #[error("{}: the manifest says kind `{kind}`, so the component must export {expected}; it exports {found}", file.display())]
    WrongKind {
        /// The component.
        file: PathBuf,
        /// The manifest's kind.
        kind: String,
        /// What is exported.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The component imports something that the host does not offer to plugins of this kind.
    #[error("{}: imports `{import}`: {reason}", file.display())]
    ForbiddenImport {
        /// The component.
        file: PathBuf,
        /// The import.
        import: String,
        /// Why it is refused and what to do.
        reason: String,
    },
    /// The component imports a door that its manifest does not ask for.
    #[error("{}: the component imports `{import}`, but the manifest does not ask for it; add {line}", file.display())]
    MissingAsk {
        /// The manifest.
        file: PathBuf,
        /// The import.
        import: String,
        /// The lines to add.
        line: String,
    },
    /// The plugin asks for something that the run does not grant.
    #[error("plugin {plugin}: asks for {what}, which the run does not grant; to grant it, add {line} to the run's configuration")]
    MissingGrant {
        /// Plugin.
        plugin: String,
        /// What it asks for.
        what: String,
        /// The line to add.
        line: String,
    },
    /// What the run lays down for a plugin or for all of them cannot be.
    #[error("the run's configuration: {place}: field `{field}`: found {found}, expected {expected}")]
    Policy {
        /// The table, e.g. `[plugins.policy.web-search]`.
        place: String,
        /// The field.
        field: &'static str,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A recording cannot answer or cannot be written.
    #[error("the recording {}: {fault}", dir.display())]
    Recording {
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// A secret that the run grants cannot be had.
    #[error(
        "plugin {plugin}: the secret `{name}`: {why}; [plugins.grants.{plugin}.secrets.{name}] in the run's configuration says where it is"
    )]
    Secret {
        /// Plugin.
        plugin: String,
        /// Name of the secret.
        name: String,
        /// Why it cannot be had.
        why: String,
    },
    /// Two plugins or two tools claim the same name.
    #[error("{what} `{name}` is claimed by {first} and {second}; rename one")]
    Duplicate {
        /// `the name` or `the call`.
        what: &'static str,
        /// What both claim.
        name: String,
        /// One plugin.
        first: String,
        /// The other.
        second: String,
    },
    /// A folder holds no plugin at all.
    #[error("{}: no plugin here: neither it nor a folder in it has a plugin.toml", dir.display())]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// Several plugins of a folder cannot be loaded.
    #[error("{} plugins cannot be loaded:{}", errors.len(), errors.iter().map(|e| format!("\n  {e}")).collect::<String>())]
    Several {
        /// One for each plugin.
        errors: Vec<PluginError>,
    },

    // ── Trying ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    /// The input of a call by hand is not what the function takes.
    #[error("the input of `{function}`: {message}")]
    Input {
        /// The function.
        function: String,
        /// What is wrong with it.
        message: String,
    },

    // ── Distributing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    /// A server could not be reached, or did not answer as it must.
    #[error("{origin}: {message}")]
    Fetch {
        /// What was asked for.
        origin: String,
        /// What happened, and what to do.
        message: String,
    },
    /// What came from somewhere is not a plugin that can be taken.
    #[error("{origin}: {what}: found {found}, expected {expected}")]
    Unfit {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        what: String,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A plugin of that name is there already.
    #[error("plugin {plugin}: {} holds it already; to put the new one in its place, add --replace", folder.display())]
    Exists {
        /// Plugin.
        plugin: String,
        /// Its folder.
        folder: PathBuf,
    },

    // ── Building ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    /// A plugin could not be built.
    #[error("plugin {plugin}: {message}")]
    Build {
        /// Plugin.
        plugin: String,
        /// What failed, and what to do.
        message: String,
    },

    /// The runtime itself failed, which is neither the plugin's nor the user's fault.
    #[error("plugin runtime: {0}")]
    Other(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, PluginError>;

impl PluginError {
    /// A word for the kind of failure of a call, for counters: `trap`, `deadline`, `memory`, …
    pub fn kind(&self) -> &'static str {
        match self {
            PluginError::Trap { .. } => "trap",
            PluginError::Deadline { .. } => "deadline",
            PluginError::Memory { .. } => "memory",
            PluginError::Resources { .. } => "resources",
            PluginError::OutputTooLong { .. } => "output",
            PluginError::BadAnswer { .. } => "contract",
            PluginError::Tool { .. } | PluginError::Internal { .. } => "reported",
            PluginError::Config { .. } => "config",
            PluginError::Fuel { .. } => "fuel",
            PluginError::Spared { .. } => "spared",
            PluginError::BudgetSpent { .. } => "budget",
            PluginError::Other(_) => "runtime",
            _ => "load",
        }
    }
}

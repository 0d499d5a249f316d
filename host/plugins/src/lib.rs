//! The plugin runtime: sandboxed WASM components behind the contract in `wit/`.
//!
//! A plugin is a component with its manifest. Three kinds: search tools, rewards, dataset filters. Every call runs in a fresh
//! pooled instance under a deadline (epochs plus an outer timer), a memory limit and an output limit; what goes wrong becomes a
//! typed [`PluginError`], never a reward of 0.
//!
//! [`PluginHost::load_dir`] loads a folder of plugins; the way through the code follows a plugin's: [`manifest`] says what it is,
//! [`lock`] pins its bytes, [`contract`] reads what it was built against, `cache` compiles it, `runtime` runs it, `doors` serves
//! what it imports, and `tool`, `reward` and `filter` check what comes out. For authors, [`new`] makes a folder, [`build`] a component;
//! [`check`], [`call`] and [`bench`] try it, [`inspect`] describes it, [`signature`] signs it and [`distribution`] publishes it.

mod answer;
pub mod bench;
mod bindings;
pub mod build;
mod cache;
pub mod call;
pub mod check;
pub mod contract;
mod demands;
pub mod distribution;
mod doors;
mod error;
mod filter;
mod grant;
mod host;
pub mod inspect;
pub mod ledger;
mod limits;
pub mod lock;
pub mod manifest;
pub mod models;
mod net;
pub mod new;
mod package;
mod record;
mod reported;
mod reward;
mod runtime;
mod scoring;
pub mod signature;
pub mod tape;
mod tool;
mod types;

pub use demands::{Demands, Drift};
pub use error::{PluginError, Result};
pub use filter::FilterPlugin;
pub use grant::{Grant, Grants, lines_to_add};
pub use host::{HostOptions, PluginHost, PluginInfo, Plugins};
pub use limits::{CEILING, Limits};
pub use manifest::Kind;
pub use net::{HostRule, Lookup, SecretSource, SystemLookup};
pub use record::{GrantRecord, PluginRecord};
pub use reported::{ConfigFault, ToolError};
pub use reward::RewardPlugin;
pub use runtime::MAX_CONCURRENT_CALLS;
pub use tool::ToolPlugin;
pub use types::{
    CallCost, CallForm, CallView, CorpusHit, CorpusService, Decision, FilterInput, FilterSpec, ImageBytes, ResultPart, RewardInput,
    RewardSpec, ToolInput, ToolSpec, Verdict,
};

//! What a run grants its plugins. A manifest asks, a run grants, and nothing else can be reached.

use crate::manifest::{Ask, Manifest, Method, reading};
use crate::models::{LocalModels, Model, ModelSource};
use crate::net::{HostRule, Lookup, Network, SecretSource};
use crate::{PluginError, Result};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::{Table, Value};

/// What a run grants, by plugin name. A plugin that is not named is granted the corpora that it asks for, and nothing else.
pub type Grants = BTreeMap<String, Grant>;

/// What a run grants one plugin: a table `[plugins.grants.NAME]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    /// Corpora, by name.
    pub corpora: Vec<String>,
    /// Hosts.
    #[schemars(with = "Vec<String>")]
    pub hosts: Vec<HostRule>,
    /// Methods of requests.
    #[schemars(with = "Vec<String>")]
    pub methods: Vec<Method>,
    /// Networks that are not of the public internet and may be dialled all the same, e.g. `127.0.0.0/8`.
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<IpNet>,
    /// Where the secrets are, by name.
    pub secrets: BTreeMap<String, SecretSource>,
    /// What stands behind the names of language models.
    pub models: BTreeMap<String, ModelSource>,
    /// How often a request that reads is repeated when the server is overloaded or cannot be reached.
    pub retries: u32,
    /// Most requests at once, over all calls of the plugin.
    pub max_in_flight: usize,
    /// Most requests a second, over all calls of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
}

impl Default for Grant {
    fn default() -> Self {
        Grant {
            corpora: Vec::new(),
            hosts: Vec::new(),
            methods: reading(),
            networks: Vec::new(),
            secrets: BTreeMap::new(),
            models: BTreeMap::new(),
            retries: 2,
            max_in_flight: 8,
            requests_per_second: None,
        }
    }
}

/// The kind of line that grants a model: an API, and what it calls the model. Which one is for the run to say.
const EXAMPLE: (&str, &str) = ("http://localhost:8000/v1", "Qwen/Qwen2.5-7B-Instruct");

/// The first thing that a plugin asks for and does not get.
///
/// # Errors
/// [`PluginError::MissingGrant`] with the line to add.
pub(crate) fn check(manifest: &Manifest, grant: Option<&Grant>) -> Result<()> {
    let ask = &manifest.ask;
    let missing = |what: String, line: String, section: &str| {
        let place = format!("[plugins.grants.{}{section}]", manifest.name);
        Err(PluginError::MissingGrant { plugin: manifest.name.clone(), what, line: format!("`{line}` under {place}") })
    };
    let none = Grant { corpora: ask.corpora.clone(), ..Grant::default() };
    let grant = grant.unwrap_or(&none);
    if let Some(corpus) = ask.corpora.iter().find(|corpus| !grant.corpora.contains(corpus)) {
        return missing(format!("the corpus `{corpus}`"), format!("corpora = [\"{corpus}\"]"), "");
    }
    if let Some(host) = ask.hosts.iter().find(|host| !grant.hosts.iter().any(|granted| granted.covers(host))) {
        return missing(format!("the host `{host}`"), format!("hosts = [\"{host}\"]"), "");
    }
    if let Some(method) = ask.methods.iter().find(|method| !grant.methods.contains(method)) {
        return missing(format!("the method `{method}`"), format!("methods = [\"{method}\"]"), "");
    }
    if let Some(secret) = ask.secrets.iter().find(|secret| !grant.secrets.contains_key(*secret)) {
        let host = ask.hosts.first().map(ToString::to_string).unwrap_or_default();
        let line = format!("env = \"{secret}\"` and `hosts = [\"{host}\"]");
        return missing(format!("the secret `{secret}`"), line, &format!(".secrets.{secret}"));
    }
    match ask.models.iter().find(|model| !grant.models.contains_key(*model)) {
        Some(model) => {
            let line = format!("url = \"{}\"` and `model = \"{}\"", EXAMPLE.0, EXAMPLE.1);
            missing(format!("the model `{model}`"), line, &format!(".models.{model}"))
        }
        None => Ok(()),
    }
}

/// What to add to a run's configuration so that a plugin gets what it asks for; empty when it gets it anyway. Where the secrets are is
/// for the run to say: the environment variable of a secret's name is proposed, and a model that is served on this machine.
pub fn lines_to_add(manifest: &Manifest) -> String {
    let ask = &manifest.ask;
    if ask.hosts.is_empty() && ask.models.is_empty() {
        return String::new();
    }
    let list = |texts: &mut dyn Iterator<Item = String>| Value::Array(texts.map(Value::String).collect());
    let mut grant = Table::new();
    if !ask.corpora.is_empty() {
        grant.insert("corpora".into(), list(&mut ask.corpora.iter().cloned()));
    }
    if !ask.hosts.is_empty() {
        grant.insert("hosts".into(), list(&mut ask.hosts.iter().map(HostRule::to_string)));
    }
    if ask.methods != reading() {
        grant.insert("methods".into(), list(&mut ask.methods.iter().map(Method::to_string)));
    }
    let secret = |name: &String| {
        let source = [("env", Value::String(name.clone())), ("hosts", list(&mut ask.hosts.iter().take(1).map(HostRule::to_string)))];
        (name.clone(), Value::Table(source.into_iter().map(|(key, value)| (key.to_string(), value)).collect()))
    };
    if !ask.secrets.is_empty() {
        grant.insert("secrets".into(), Value::Table(ask.secrets.iter().map(secret).collect()));
    }
    let model = |name: &String| {
        let source = [("url", EXAMPLE.0), ("model", EXAMPLE.1)].map(|(key, value)| (key.to_string(), Value::String(value.into())));
        (name.clone(), Value::Table(source.into_iter().collect()))
    };
    if !ask.models.is_empty() {
        grant.insert("models".into(), Value::Table(ask.models.iter().map(model).collect()));
    }
    let mut lines = grant;
    for name in [manifest.name.as_str(), "grants", "plugins"] {
        lines = [(name.to_string(), Value::Table(lines))].into_iter().collect();
    }
    lines.to_string()
}

/// The network of a plugin that has one. A run may grant more than is asked for; the plugin gets what it asks for.
///
/// # Errors
/// When a secret cannot be had, or the client does not start.
pub(crate) fn network(plugin: &str, ask: &Ask, grant: Option<&Grant>, lookup: Arc<dyn Lookup>) -> Result<Option<Arc<Network>>> {
    let Some(grant) = grant.filter(|_| !ask.hosts.is_empty()) else { return Ok(None) };
    let zero = |field, expected: &str| {
        let place = format!("[plugins.grants.{plugin}]");
        Err(PluginError::Policy { place, field, found: "0".into(), expected: expected.into() })
    };
    if grant.max_in_flight == 0 {
        return zero("max_in_flight", "at least 1");
    }
    if grant.requests_per_second == Some(0) {
        return zero("requests_per_second", "at least 1; without a limit, remove the field");
    }
    let mut grant = grant.clone();
    grant.secrets.retain(|name, _| ask.secrets.contains(name));
    Ok(Some(Arc::new(Network::new(plugin, &ask.hosts, &ask.methods, &grant, lookup)?)))
}

/// The models that a plugin may ask, by the names that it gives them.
///
/// # Errors
/// When what a run says of one cannot be, a key cannot be had, or a folder not be loaded.
pub(crate) fn models(
    plugin: &str,
    ask: &Ask,
    grant: Option<&Grant>,
    lookup: &Arc<dyn Lookup>,
    local: Option<&dyn LocalModels>,
) -> Result<BTreeMap<String, Arc<Model>>> {
    let granted = grant.into_iter().flat_map(|grant| &grant.models).filter(|(name, _)| ask.models.contains(name));
    let open = |(name, source): (&String, &ModelSource)| Ok((name.clone(), Arc::new(source.open(plugin, name, lookup.clone(), local)?)));
    granted.map(open).collect()
}

//! What is kept of a plugin beside the results that it had a part in.

use crate::ledger::Policy;
use crate::manifest::{Kind, Method};
use crate::net::HostRule;
use crate::signature::PublicKey;
use crate::{Limits, PluginInfo};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;

/// A plugin as a run used it: what it was, where it came from, what it was told and what it could reach. Secrets are named, never told.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PluginRecord {
    /// Name.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Kind.
    pub kind: Kind,
    /// Version of the contract.
    pub contract: String,
    /// Digest of the component, hex SHA-256.
    pub digest: String,
    /// Where it was fetched from, if the lock file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whose signature it was added with, if the lock file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<PublicKey>,
    /// The configuration that it saw.
    pub config: Value,
    /// What a call could use.
    pub limits: Limits,
    /// What it could reach.
    pub grants: GrantRecord,
    /// What the run laid down for its failures and its cost.
    pub policy: Policy,
}

/// What a plugin could reach.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GrantRecord {
    /// Corpora, by name.
    pub corpora: Vec<String>,
    /// Hosts.
    pub hosts: Vec<HostRule>,
    /// Methods of requests to them.
    pub methods: Vec<Method>,
    /// Networks, not of the public internet, that could be dialled.
    pub networks: Vec<IpNet>,
    /// Names of the secrets that its requests could carry.
    pub secrets: Vec<String>,
    /// What stood behind the names of the models that it could ask.
    pub models: BTreeMap<String, String>,
}

impl PluginInfo {
    /// What to keep of it.
    pub fn record(&self) -> PluginRecord {
        PluginRecord {
            name: self.name.clone(),
            version: self.version.clone(),
            kind: self.kind,
            contract: self.contract.clone(),
            digest: self.digest.clone(),
            source: self.pin.source.clone(),
            signed_by: self.pin.signed_by.clone(),
            // It was written as JSON by the host itself.
            config: serde_json::from_str(&self.config_json).unwrap_or_default(),
            limits: self.limits,
            grants: GrantRecord {
                corpora: self.corpora.clone(),
                hosts: self.hosts.clone(),
                methods: self.methods.clone(),
                networks: self.networks.clone(),
                secrets: self.secrets.clone(),
                models: self.models.iter().map(|(name, model)| (name.clone(), model.to_string())).collect(),
            },
            policy: self.policy.clone(),
        }
    }
}

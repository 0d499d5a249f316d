//! What a run does when a plugin fails, and what its calls cost.

use crate::manifest::Kind;
use crate::{PluginError, Result};
use std::collections::BTreeMap;
use std::fmt;

/// What a run lays down for its plugins, by name. One that is not named keeps the defaults of [`Policy`].
pub type Policies = BTreeMap<String, Policy>;

/// Most repetitions of a failed call.
const MAX_RETRIES: u32 = 10;
/// Longest pause of a breaker, in seconds.
const MAX_PAUSE_S: u64 = 86_400;

/// What a run lays down for one plugin: a table `[plugins.policy.NAME]`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How often a call that failed is repeated, at most 10 times. What a tool reports about its argument is no failure.
    pub retries: u32,
    /// What follows when it still fails; each kind of plugin has a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// When to stop calling for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Price of a call, in the money of `[plugins.budget]`.
    pub price_per_call: f64,
    /// Price of a request that it sends, repeated and redirected ones too.
    pub price_per_request: f64,
}

/// What follows when a plugin's call has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Tools (their default): the policy reads a short error text, and the episode goes on.
    Tell,
    /// Rewards (their default): the episodes of the call are masked; the rest of their groups is learned from.
    Mask,
    /// Rewards: every group with an episode of the call is masked whole.
    DropGroup,
    /// Filters: the samples of the call are kept, untagged.
    Keep,
    /// Filters: the samples of the call are dropped.
    Drop,
    /// All (the default of filters): the run stops at the end of its step, before anything is learned from it.
    Stop,
}

/// When a plugin that keeps failing is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row after which calls fail at once, without the plugin.
    pub failures: u32,
    /// For how long, in seconds, at most a day. Then one call is tried.
    pub pause_s: u64,
}

/// What all plugins of a run together may use: `[plugins.budget]`. The call that would exceed it is not made, and the run stops.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunBudget {
    /// Most money, as the prices count it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// Most calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// Most HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Most tokens of language models, conversations and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnFailure::Tell => "tell",
            OnFailure::Mask => "mask",
            OnFailure::DropGroup => "drop-group",
            OnFailure::Keep => "keep",
            OnFailure::Drop => "drop",
            OnFailure::Stop => "stop",
        })
    }
}

impl Policy {
    /// What follows a failure of a plugin of this kind.
    pub fn on_failure(&self, kind: Kind) -> OnFailure {
        self.on_failure.unwrap_or(choices(kind)[0])
    }

    /// Checks the values against the plugin's kind.
    ///
    /// # Errors
    /// [`PluginError::Policy`] for the first that is out of range or belongs to another kind of plugin.
    pub(crate) fn check(&self, plugin: &str, kind: Kind) -> Result<()> {
        let wrong = |field: &'static str, found: String, expected: String| {
            Err(PluginError::Policy { place: format!("[plugins.policy.{plugin}]"), field, found, expected })
        };
        for (field, price) in [("price_per_call", self.price_per_call), ("price_per_request", self.price_per_request)] {
            if !(price.is_finite() && price >= 0.0) {
                return wrong(field, price.to_string(), "a price of 0 or more".into());
            }
        }
        if self.retries > MAX_RETRIES {
            return wrong(
                "retries",
                self.retries.to_string(),
                format!("at most {MAX_RETRIES}: each waits twice as long as the one before"),
            );
        }
        match self.breaker {
            Some(Breaker { failures: 0, .. }) => {
                return wrong("breaker.failures", "0".into(), "at least 1; without a breaker, remove the field".into());
            }
            Some(Breaker { pause_s, .. }) if pause_s > MAX_PAUSE_S => {
                return wrong("breaker.pause_s", pause_s.to_string(), format!("at most {MAX_PAUSE_S}, a day"));
            }
            _ => {}
        }
        match self.on_failure {
            Some(chosen) if !choices(kind).contains(&chosen) => {
                let choices: Vec<String> = choices(kind).iter().map(|c| format!("{:?}", c.to_string())).collect();
                wrong("on_failure", format!("{:?}", chosen.to_string()), format!("{} for a {kind}", choices.join(" or ")))
            }
            _ => Ok(()),
        }
    }
}

impl RunBudget {
    /// Checks the values.
    ///
    /// # Errors
    /// [`PluginError::Policy`] when the money is no amount.
    pub fn check(&self) -> Result<()> {
        match self.money {
            Some(money) if !(money.is_finite() && money >= 0.0) => Err(PluginError::Policy {
                place: "[plugins.budget]".into(),
                field: "money",
                found: money.to_string(),
                expected: "an amount of 0 or more".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// What may follow a failure, the default first.
fn choices(kind: Kind) -> &'static [OnFailure] {
    match kind {
        Kind::SearchTool => &[OnFailure::Tell, OnFailure::Stop],
        Kind::Reward => &[OnFailure::Mask, OnFailure::DropGroup, OnFailure::Stop],
        Kind::DatasetFilter => &[OnFailure::Stop, OnFailure::Keep, OnFailure::Drop],
    }
}

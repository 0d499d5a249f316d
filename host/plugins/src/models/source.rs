//! What a run says of a model.

use super::endpoint::Endpoint;
use super::{LocalModels, Model, Way};
use crate::ledger::TokenPrices;
use crate::net::Lookup;
use crate::{PluginError, Result};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What stands behind the name of a model: a table `[plugins.grants.PLUGIN.models.NAME]`, with either `url` and `model`, or `path`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSource {
    /// Where an OpenAI-compatible API begins, e.g. `https://api.openai.com/v1`; `/chat/completions` is added to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the API calls the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Environment variable that holds the API's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// File that holds the API's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// A Qwen2.5-VL folder, which the host runs itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Most requests at once, over all calls of the plugin.
    pub max_in_flight: usize,
    /// Most requests a second to an API, over all calls of the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// How often a request is repeated when the API is overloaded or cannot be reached.
    pub retries: u32,
    /// Price of a million tokens of conversations, in the money of `[plugins.budget]`.
    pub prompt_price: f64,
    /// Price of a million tokens of answers.
    pub completion_price: f64,
}

impl Default for ModelSource {
    fn default() -> Self {
        ModelSource {
            url: None,
            model: None,
            key_env: None,
            key_file: None,
            path: None,
            max_in_flight: 8,
            requests_per_second: None,
            retries: 2,
            prompt_price: 0.0,
            completion_price: 0.0,
        }
    }
}

impl ModelSource {
    /// Opens the model for a plugin that calls it `name`: reads the key, or loads the folder.
    ///
    /// # Errors
    /// [`PluginError::Policy`] for what cannot be, [`PluginError::Secret`] for a key that cannot be had.
    pub(crate) fn open(&self, plugin: &str, name: &str, lookup: Arc<dyn Lookup>, local: Option<&dyn LocalModels>) -> Result<Model> {
        let wrong = |field: &'static str, found: String, expected: &str| {
            let place = format!("[plugins.grants.{plugin}.models.{name}]");
            PluginError::Policy { place, field, found, expected: expected.into() }
        };
        for (field, price) in [("prompt_price", self.prompt_price), ("completion_price", self.completion_price)] {
            if !(price.is_finite() && price >= 0.0) {
                return Err(wrong(field, price.to_string(), "a price of 0 or more"));
            }
        }
        if self.max_in_flight == 0 {
            return Err(wrong("max_in_flight", "0".into(), "at least 1"));
        }
        if self.requests_per_second == Some(0) {
            return Err(wrong("requests_per_second", "0".into(), "at least 1; without a limit, remove the field"));
        }
        let (what, way) = match (&self.url, &self.path) {
            (Some(url), None) => {
                let model = self.model.as_ref().filter(|model| !model.trim().is_empty());
                let model = model.ok_or_else(|| wrong("model", "nothing".into(), "what the API of `url` calls the model"))?;
                let endpoint = Endpoint::new(plugin, name, url, model, self, lookup, |found, expected| wrong("url", found, expected))?;
                (format!("{model} at {}", endpoint.place()), Way::Endpoint(Box::new(endpoint)))
            }
            (None, Some(path)) => {
                let alone = "only beside `url`; remove it";
                for (field, found) in [("model", &self.model), ("key_env", &self.key_env)] {
                    if let Some(found) = found {
                        return Err(wrong(field, format!("{found:?}"), alone));
                    }
                }
                if let Some(file) = &self.key_file {
                    return Err(wrong("key_file", file.display().to_string(), alone));
                }
                let folder = path.display().to_string();
                let local = local.ok_or_else(|| wrong("path", folder.clone(), "`url`, since no model can be run here"))?;
                let model = local.open(path).map_err(|why| wrong("path", why, "a folder with a Qwen2.5-VL model"))?;
                (folder, Way::Local(model))
            }
            _ => return Err(wrong("url", "neither or both of `url` and `path`".into(), "one of them")),
        };
        let prices = TokenPrices { prompt: self.prompt_price / 1e6, completion: self.completion_price / 1e6 };
        Ok(Model { what, way, prices, places: Semaphore::new(self.max_in_flight.min(Semaphore::MAX_PERMITS)) })
    }
}

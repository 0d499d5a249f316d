//! `[track]` of a configuration.

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Who is told what a run measures. Keys never stand here: only the names of the environment variables that hold them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackOptions {
    /// Write TensorBoard event files into the run directory.
    #[serde(default = "yes")]
    pub tensorboard: bool,
    /// Weights & Biases; off without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wandb: Option<WandbOptions>,
    /// MLflow; off without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<MlflowOptions>,
}

impl Default for TrackOptions {
    fn default() -> Self {
        Self { tensorboard: true, wandb: None, mlflow: None }
    }
}

/// `[track.wandb]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WandbOptions {
    /// The server.
    #[serde(default = "wandb_url")]
    pub url: String,
    /// The project.
    pub project: String,
    /// User or team; the key's own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Name of the environment variable that holds the API key.
    #[serde(default = "wandb_key_env")]
    pub key_env: String,
}

/// `[track.mlflow]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowOptions {
    /// The tracking server.
    pub url: String,
    /// The experiment; made where it does not exist.
    pub experiment: String,
    /// Name of the environment variable that holds the token; none is sent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
}

impl TrackOptions {
    /// Checks what can be checked without asking a server.
    ///
    /// # Errors
    /// Names the field, what was found and what is expected.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(wandb) = &self.wandb {
            check_url("wandb.url", &wandb.url)?;
            check_text("wandb.project", &wandb.project)?;
            check_variable("wandb.key_env", &wandb.key_env)?;
        }
        if let Some(mlflow) = &self.mlflow {
            check_url("mlflow.url", &mlflow.url)?;
            check_text("mlflow.experiment", &mlflow.experiment)?;
            mlflow.token_env.as_deref().map_or(Ok(()), |name| check_variable("mlflow.token_env", name))?;
        }
        Ok(())
    }
}

fn check_url(field: &str, text: &str) -> Result<(), String> {
    // The text itself is not repeated: it may hold a password.
    let url = Url::parse(text).map_err(|error| format!("{field} is no address ({error}), expected e.g. http://localhost:5000"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(format!("{field} has the scheme {:?}, expected http or https and a host", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "{field} holds a name, a password, a query or a fragment, expected a plain address; put the key into an environment variable"
        ));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    (!text.trim().is_empty()).then_some(()).ok_or_else(|| format!("{field} is empty, expected a name"))
}

/// A key pasted where the name of its variable belongs is refused, and not repeated.
fn check_variable(field: &str, name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    is_name.then_some(()).ok_or_else(|| {
        format!("{field} is no name of an environment variable, expected capitals, digits and _, e.g. WANDB_API_KEY; never put the key itself here")
    })
}

fn yes() -> bool {
    true
}

fn wandb_url() -> String {
    "https://api.wandb.ai".into()
}

fn wandb_key_env() -> String {
    "WANDB_API_KEY".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_no_place_in_a_configuration() {
        let wandb = |url: &str, key_env: &str| TrackOptions {
            wandb: Some(WandbOptions { url: url.into(), project: "p".into(), entity: None, key_env: key_env.into() }),
            ..TrackOptions::default()
        };
        wandb("https://api.wandb.ai", "WANDB_API_KEY").validate().unwrap();
        for (url, key_env, field) in [
            ("https://secret@host", "KEY", "wandb.url"),
            ("https://host?key=secret", "KEY", "wandb.url"),
            ("file:///secret", "KEY", "wandb.url"),
            ("no secret", "KEY", "wandb.url"),
            ("https://host", "0123secret", "wandb.key_env"),
        ] {
            let error = wandb(url, key_env).validate().unwrap_err();
            assert!(error.starts_with(field) && !error.contains("secret"), "{error}");
        }
    }
}

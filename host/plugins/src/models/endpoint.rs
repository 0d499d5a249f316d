//! A model behind an HTTP endpoint that speaks OpenAI's chat completions, as vLLM, llama.cpp, Ollama and most services do.
//!
//! The requests go through the plugins' own client, so that the key is a secret like any other: put in at the wire, for this host only, and
//! taken out of whatever comes back.

use super::{Completion, CompletionRequest, ModelSource};
use crate::net::{Budget, HostRule, Lookup, Network, Request, SecretSource};
use crate::{Grant, PluginError, Result};
use ipnet::IpNet;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use url::Url;

/// What one call of a plugin may still move over the network for models.
pub(crate) type Traffic = Budget;
/// Name of the key among the secrets.
const KEY: &str = "MODEL_KEY";
/// Most characters of an error that are told.
const MAX_TOLD: usize = 300;

pub(super) struct Endpoint {
    name: String,
    place: HostRule,
    url: Url,
    model: String,
    has_key: bool,
    network: Network,
}

impl Endpoint {
    /// `wrong` makes the error for a URL that cannot be used, of what was found and what was expected.
    pub fn new(
        plugin: &str,
        name: &str,
        url: &str,
        model: &str,
        source: &ModelSource,
        lookup: Arc<dyn Lookup>,
        wrong: impl Fn(String, &str) -> PluginError,
    ) -> Result<Self> {
        let parsed = Url::parse(url).map_err(|error| wrong(format!("`{url}` ({error})"), "a URL like https://api.openai.com/v1"))?;
        let is_plain =
            parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none() && parsed.fragment().is_none();
        if !is_plain {
            // It may hold a key: it is not repeated.
            return Err(wrong(
                "a URL with a user name, a query or a fragment".into(),
                "one without; a key goes into `key_env` or `key_file`",
            ));
        }
        let place: HostRule = parsed[..url::Position::BeforePath]
            .parse()
            .map_err(|error| wrong(format!("`{url}`"), &format!("a URL of http or https: {error}")))?;
        let url = parsed[..].trim_end_matches('/');
        let url = Url::parse(&format!("{url}/chat/completions")).map_err(|error| wrong(format!("`{url}`"), &error.to_string()))?;
        let has_key = source.key_env.is_some() || source.key_file.is_some();
        let key = SecretSource { env: source.key_env.clone(), file: source.key_file.clone(), hosts: vec![place.clone()] };
        let everywhere =
            [IpNet::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED)), IpNet::from(std::net::IpAddr::from(Ipv6Addr::UNSPECIFIED))];
        let grant = Grant {
            // Whoever runs the plugin chose this server, wherever it stands; the plugin cannot choose another.
            networks: everywhere.into_iter().filter_map(|net| IpNet::new(net.addr(), 0).ok()).collect(),
            secrets: has_key.then(|| (KEY.to_string(), key)).into_iter().collect(),
            retries: source.retries,
            max_in_flight: source.max_in_flight,
            requests_per_second: source.requests_per_second,
            ..Grant::default()
        };
        let network = Network::new(plugin, std::slice::from_ref(&place), &crate::manifest::posting(), &grant, lookup)?;
        let network =
            network.with_remedy(format!("{place} leads there; give `url` under [models.{name}] the address of the server that answers"));
        Ok(Endpoint { name: name.into(), place, url, model: model.into(), has_key, network })
    }

    pub fn place(&self) -> &HostRule {
        &self.place
    }

    pub async fn complete(&self, request: &CompletionRequest, traffic: &Traffic) -> std::result::Result<Completion, String> {
        let fail = |what: String| format!("the model `{}`: {what}", self.name);
        let body = serde_json::json!({
            "model": self.model,
            "messages": request.messages,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            // Most servers take a signed number of 32 bits.
            "seed": request.seed & 0x7fff_ffff,
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.has_key {
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer __secret.MODEL_KEY__"));
        }
        let request = Request {
            method: Method::POST,
            url: self.url.to_string(),
            headers,
            body: body.to_string().into(),
            // To ask a model twice changes nothing but the bill.
            repeatable: true,
        };
        traffic.bytes(request.body.len() as u64).map_err(|error| fail(error.to_string()))?;
        let answer = self.network.send(request, traffic).await.map_err(|error| fail(error.to_string()))?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_TOLD).collect();
            return Err(fail(format!("{} answers {}: {said}", self.place, answer.status)));
        }
        read(&answer.body).map_err(|what| fail(format!("{} answers what is no chat completion: {what}", self.place)))
    }
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
}

fn read(body: &[u8]) -> std::result::Result<Completion, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let choice = answer.choices.into_iter().next().ok_or("`choices` is empty")?;
    let text = choice.message.content.ok_or("`choices[0].message.content` is null, expected text")?;
    Ok(Completion {
        text,
        finished: choice.finish_reason.as_deref() != Some("length"),
        prompt_tokens: answer.usage.prompt_tokens,
        completion_tokens: answer.usage.completion_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_strictly_and_faults_are_named() {
        let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8},"id":"x"}"#;
        let answer = Completion { text: "yes".into(), finished: true, prompt_tokens: 7, completion_tokens: 1 };
        assert_eq!(read(whole.as_bytes()).unwrap(), answer);
        assert_eq!(read(whole.replace("\"stop\"", "\"length\"").as_bytes()).unwrap(), Completion { finished: false, ..answer });
        for (body, word) in [
            ("<html>".to_string(), "expected value"),
            (whole.replace("\"usage\"", "\"usages\""), "missing field `usage`"),
            (whole.replace("\"yes\"", "null"), "content` is null"),
            (whole.replace("7,", "-7,"), "invalid value"),
            (r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}"#.into(), "`choices` is empty"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{body}: {error}");
        }
    }
}

//! Secrets: a guest writes a placeholder, and the value takes its place on the way to a host that it is granted for.
//!
//! A placeholder is `__secret.NAME__`. It is filled in in the query of the URL, in header values and in the user and password of basic
//! authentication, nowhere else. What a server sends back of a value is turned into the placeholder again before the guest sees it.

use super::rule::HostRule;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use url::Url;

const OPEN: &str = "__secret.";
const CLOSE: &str = "__";
/// A shorter value cannot be told from ordinary text in an answer.
const SHORTEST: usize = 8;

/// Where a run takes a secret from, and which hosts may be sent it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// Environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// File that holds it; white space at the end is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Hosts that may be sent it.
    #[schemars(with = "Vec<String>")]
    pub hosts: Vec<HostRule>,
}

impl SecretSource {
    /// The value.
    ///
    /// # Errors
    /// When it is not there, or is no value that can be kept secret; never with the value in the message.
    fn read(&self) -> Result<String, String> {
        let (value, whence) = match (&self.env, &self.file) {
            (Some(name), None) => {
                let value = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set; set it"))?;
                (value, format!("the environment variable {name}"))
            }
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
                (text.trim_end().to_owned(), file.display().to_string())
            }
            _ => return Err("expected either `env = \"VARIABLE\"` or `file = \"PATH\"`".into()),
        };
        if value.len() < SHORTEST || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the value of {whence} has {} bytes; expected at least {SHORTEST} printable ASCII characters without spaces",
                value.len()
            ));
        }
        Ok(value)
    }
}

/// Letters, digits and `_`, as environment variables are named.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(fits) && !name.contains("__") && !name.ends_with('_')
}

struct Secret {
    value: String,
    /// How servers may repeat it.
    spellings: Vec<String>,
    hosts: Vec<HostRule>,
}

impl Secret {
    fn new(value: String, hosts: Vec<HostRule>) -> Self {
        Secret { spellings: spellings(&value), value, hosts }
    }
}

/// The secrets of one plugin.
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<String, Secret>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Reads the values.
    ///
    /// # Errors
    /// The name of the first that cannot be had, and why.
    pub fn read(sources: &BTreeMap<String, SecretSource>) -> Result<Self, (String, String)> {
        let read = |(name, source): (&String, &SecretSource)| {
            let value = source.read().map_err(|why| (name.clone(), why))?;
            Ok::<_, (String, String)>((name.clone(), Secret::new(value, source.hosts.clone())))
        };
        Ok(Secrets(sources.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Puts values in the place of placeholders.
    ///
    /// # Errors
    /// Which placeholder must not be filled in, and why.
    pub fn fill(&self, request: &mut Request) -> Result<(), String> {
        let target = request.url().clone();
        let encode = |value: &str| url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
        if let Some(query) = target.query().filter(|query| query.contains(OPEN)) {
            request.url_mut().set_query(Some(&self.replace(query, &target, encode)?));
        }
        let whole = |value: &str| value.to_owned();
        for (name, value) in request.headers_mut() {
            let Ok(text) = value.to_str() else { continue };
            let basic = text.strip_prefix("Basic ").filter(|_| name == AUTHORIZATION);
            let decoded = basic.and_then(|text| String::from_utf8(BASE64.decode(text.trim()).ok()?).ok());
            let filled = match decoded {
                Some(pair) => format!("Basic {}", BASE64.encode(self.replace(&pair, &target, whole)?)),
                None => self.replace(text, &target, whole)?,
            };
            if filled != text {
                *value = HeaderValue::from_str(&filled).map_err(|_| format!("the header {name} cannot hold its secret"))?;
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    fn replace(&self, text: &str, target: &Url, encode: impl Fn(&str) -> String) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let Some((name, after)) = after.split_once(CLOSE) else { break };
            let secret = self.0.get(name).ok_or_else(|| format!("the secret `{name}` is not granted"))?;
            if !secret.hosts.iter().any(|host| host.allows(target)) {
                return Err(format!("the secret `{name}` is not granted for {}", target.host_str().unwrap_or_default()));
            }
            filled.push_str(before);
            filled.push_str(&encode(&secret.value));
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Puts placeholders in the place of values, also of encoded ones.
    pub fn redact(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.0.iter().fold(bytes, |bytes, (name, secret)| {
            let placeholder = format!("{OPEN}{name}{CLOSE}");
            secret.spellings.iter().fold(bytes, |bytes, spelling| replace_bytes(bytes, spelling.as_bytes(), placeholder.as_bytes()))
        })
    }

    /// The same in headers.
    pub fn redact_headers(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        for value in headers.values_mut() {
            let clean = self.redact(value.as_bytes().to_vec());
            *value = HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// The value as servers are likely to repeat it.
fn spellings(value: &str) -> Vec<String> {
    let percent: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let mut all =
        vec![value.to_owned(), percent.to_lowercase(), percent, BASE64.encode(value), hex::encode(value), hex::encode_upper(value)];
    // As the JSON of a string may be escaped.
    all.push(value.replace('\\', "\\\\").replace('"', "\\\"").replace('/', "\\/"));
    all.sort();
    all.dedup();
    all
}

fn replace_bytes(bytes: Vec<u8>, what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at + what.len() <= bytes.len() {
        if &bytes[at..at + what.len()] == what {
            replaced.extend_from_slice(&bytes[start..at]);
            replaced.extend_from_slice(with);
            at += what.len();
            start = at;
        } else {
            at += 1;
        }
    }
    if start == 0 && replaced.is_empty() {
        return bytes;
    }
    replaced.extend_from_slice(&bytes[start..]);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let secret = Secret::new("k&y/0123456789".into(), vec!["api.example.org".parse().unwrap()]);
        Secrets([("KEY".to_string(), secret)].into())
    }

    fn get(url: &str) -> Request {
        Request::new(reqwest::Method::GET, Url::parse(url).unwrap())
    }

    #[test]
    fn placeholders_are_filled_in_query_headers_and_basic_authentication() {
        let mut request = get("https://api.example.org/__secret.KEY__?q=a&key=__secret.KEY__");
        let headers = request.headers_mut();
        headers.insert("x-key", HeaderValue::from_static("Bearer __secret.KEY__"));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Basic {}", BASE64.encode("me:__secret.KEY__"))).unwrap());
        secrets().fill(&mut request).unwrap();
        let headers = request.headers();
        assert_eq!(request.url().as_str(), "https://api.example.org/__secret.KEY__?q=a&key=k%26y%2F0123456789");
        assert_eq!(headers["x-key"], "Bearer k&y/0123456789");
        assert_eq!(headers[AUTHORIZATION], format!("Basic {}", BASE64.encode("me:k&y/0123456789")));
    }

    #[test]
    fn a_secret_goes_to_its_hosts_only() {
        for (url, word) in [
            ("https://example.org/?k=__secret.KEY__", "not granted for example.org"),
            ("http://api.example.org/?k=__secret.KEY__", "not granted for"),
            ("https://api.example.org/?k=__secret.OTHER__", "`OTHER` is not granted"),
        ] {
            let error = secrets().fill(&mut get(url)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_server_repeats_becomes_the_placeholder_again() {
        let value = "k&y/0123456789";
        for text in
            [value.to_string(), "k%26y%2F0123456789".into(), "k%26y%2f0123456789".into(), BASE64.encode(value), "k&y\\/0123456789".into()]
        {
            let answer = secrets().redact(format!("<{text}|{text}>").into_bytes());
            assert_eq!(String::from_utf8(answer).unwrap(), "<__secret.KEY__|__secret.KEY__>", "{text}");
        }
        assert_eq!(secrets().redact(b"nothing".to_vec()), b"nothing");
        assert!(!format!("{:?}", secrets()).contains("0123456789"));
    }

    #[test]
    fn names_do_not_clash_with_the_placeholder() {
        for (name, good) in [("KEY", true), ("SERP_KEY2", true), ("", false), ("A__B", false), ("A_", false), ("1A", false), ("A.B", false)]
        {
            assert_eq!(is_secret_name(name), good, "{name}");
        }
    }
}

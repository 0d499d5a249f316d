//! Where a plugin may send requests.

use std::fmt;
use std::str::FromStr;
use url::{Host, Url};

/// A scheme, a host or the subdomains of one, and a port: `api.example.org` (https, port 443), `*.example.org`, `http://10.0.0.7:8080`.
///
/// An entry is parsed once, by the same parser as the URLs that are held against it, so that upper case, a trailing dot, or an
/// address in decimal or octal digits is no way around it. `*.example.org` stands for every name below `example.org`, not for itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostRule {
    https: bool,
    host: Pattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Host<String>),
    /// The domain whose subdomains are meant.
    Below(String),
}

impl HostRule {
    /// Whether a URL goes where this rule allows.
    pub fn allows(&self, url: &Url) -> bool {
        let scheme = if self.https { "https" } else { "http" };
        let Some(host) = url.host().map(|host| plain(host.to_owned())) else { return false };
        url.scheme() == scheme && url.port_or_known_default() == Some(self.port) && self.host.contains(&host)
    }

    /// Whether everything that `other` allows is allowed by this rule too.
    pub fn covers(&self, other: &HostRule) -> bool {
        let host = match (&self.host, &other.host) {
            (pattern, Pattern::Exact(host)) => pattern.contains(host),
            (Pattern::Below(domain), Pattern::Below(narrower)) => domain == narrower || is_below(narrower, domain),
            (Pattern::Exact(_), Pattern::Below(_)) => false,
        };
        host && self.https == other.https && self.port == other.port
    }

    /// The address, where the rule names one instead of a host.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        match &self.host {
            Pattern::Exact(Host::Ipv4(address)) => Some((*address).into()),
            Pattern::Exact(Host::Ipv6(address)) => Some((*address).into()),
            _ => None,
        }
    }
}

impl Pattern {
    fn contains(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Pattern::Exact(exact), host) => exact == host,
            (Pattern::Below(domain), Host::Domain(name)) => is_below(name, domain),
            (Pattern::Below(_), _) => false,
        }
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Without the trailing dot, which makes a name absolute but leads to the same place.
fn plain(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map_or(name.clone(), str::to_owned)),
        address => address,
    }
}

impl FromStr for HostRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("`{text}` {why}; expected a host such as `api.example.org`, `*.example.org` or `http://localhost:8080`");
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        if !matches!(scheme, "http" | "https") {
            return Err(wrong("has a scheme that is neither http nor https"));
        }
        let (below, authority) = match rest.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, rest),
        };
        let url = Url::parse(&format!("{scheme}://{authority}")).map_err(|error| wrong(&format!("is no host ({error})")))?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some()
        {
            return Err(wrong("holds more than scheme, host and port"));
        }
        let (Some(host), Some(port)) = (url.host().map(|host| plain(host.to_owned())), url.port_or_known_default()) else {
            return Err(wrong("names no host"));
        };
        if matches!(&host, Host::Domain(name) if name.split('.').any(str::is_empty)) {
            return Err(wrong("has two dots with nothing between them"));
        }
        let host = match (below, host) {
            (false, Host::Domain(name)) if name.contains('*') => return Err(wrong("has a `*` elsewhere than in front")),
            (false, host) => Pattern::Exact(host),
            (true, Host::Domain(domain)) if domain.contains('.') && !domain.contains('*') => Pattern::Below(domain),
            (true, _) => return Err(wrong("stands for too much: `*.` goes before a domain with a dot in it")),
        };
        Ok(HostRule { https: scheme == "https", host, port })
    }
}

impl TryFrom<String> for HostRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostRule> for String {
    fn from(rule: HostRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.https {
            f.write_str("http://")?;
        }
        match &self.host {
            Pattern::Exact(host) => write!(f, "{host}")?,
            Pattern::Below(domain) => write!(f, "*.{domain}")?,
        }
        let default = if self.https { 443 } else { 80 };
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> HostRule {
        text.parse().unwrap()
    }

    fn allows(rule_text: &str, url: &str) -> bool {
        rule(rule_text).allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_rule_allows_its_host_however_it_is_written() {
        for url in ["https://api.example.org/", "https://API.Example.ORG/x?y", "https://api.example.org./", "https://api.example.org:443/"]
        {
            assert!(allows("api.example.org", url), "{url}");
        }
        for url in [
            "http://api.example.org/",
            "https://api.example.org:8443/",
            "https://example.org/",
            "https://xapi.example.org/",
            "https://api.example.org.evil.net/",
            "https://api.example.org@evil.net/",
            "https://evil.net/api.example.org",
            "https://evil.net#api.example.org",
            "https://api.example.org%2eevil.net/",
        ] {
            assert!(Url::parse(url).is_err() || !allows("api.example.org", url), "{url}");
        }
        assert!(allows("*.example.org", "https://a.b.example.org/") && allows("*.example.org", "https://A.EXAMPLE.org./"));
        for url in ["https://example.org/", "https://.example.org/", "https://badexample.org/", "https://example.org.evil.net/"] {
            assert!(Url::parse(url).is_err() || !allows("*.example.org", url), "{url}");
        }
        // Every spelling of an address is that address.
        for url in ["http://127.0.0.1:8080/", "http://2130706433:8080/", "http://0177.0.0.1:8080/", "http://0x7f.1:8080/"] {
            assert!(allows("http://127.0.0.1:8080", url), "{url}");
            assert!(!allows("http://127.0.0.2:8080", url), "{url}");
        }
        assert!(allows("bücher.example", "https://xn--bcher-kva.example/"));
    }

    #[test]
    fn rules_that_say_too_much_or_nothing_are_refused() {
        for text in [
            "",
            "*",
            "*.",
            "*.org",
            "*.com.",
            "a.*.org",
            "a..org",
            "a.org..",
            ".a.org",
            "*..a.org",
            "*.*.org",
            "ftp://a.org",
            "a.org/path",
            "a.org?q",
            "user@a.org",
            "https://",
            "*.10.0.0.1",
            "a b.org",
            "a.org:99999",
            "[::1",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
        for text in ["a.org", "*.a.org", "http://a.org", "a.org:8443", "http://[::1]:8080", "10.0.0.1"] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("HTTPS://A.ORG:443".to_lowercase().as_str()).to_string(), "a.org");
    }

    #[test]
    fn covering_is_about_everything_allowed() {
        for (wide, narrow) in [("*.a.org", "x.a.org"), ("*.a.org", "*.b.a.org"), ("*.a.org", "*.a.org"), ("a.org", "a.org")] {
            assert!(rule(wide).covers(&rule(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("*.a.org", "a.org"), ("x.a.org", "*.a.org"), ("*.b.a.org", "*.a.org"), ("a.org", "http://a.org"), ("a.org", "a.org:1")]
        {
            assert!(!rule(wide).covers(&rule(narrow)), "{wide} {narrow}");
        }
    }
}

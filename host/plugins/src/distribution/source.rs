//! Where a plugin comes from, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use url::{Host, Url};

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A plugin's folder, or an archive of one.
    Path(PathBuf),
    /// An archive on a web server.
    Web(Url),
    /// An artifact in a registry.
    Registry(Reference),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None => Ok(Source::Path(text.into())),
            Some(("oci", _)) => text.parse().map(Source::Registry),
            Some(("http" | "https", _)) => {
                let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err("expected a URL without a user name in it".into());
                }
                match may_be_asked(&url) {
                    true => Ok(Source::Web(url)),
                    false => Err(format!("`{text}` is not encrypted; expected https:// (http:// leads to this machine only)")),
                }
            }
            Some((scheme, _)) => Err(format!("found `{scheme}://`, expected a path, https:// or oci://")),
        }
    }
}

/// Whether the way to a server is encrypted, or does not leave this machine.
pub(super) fn may_be_asked(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// An artifact in an OCI registry: `oci://REGISTRY/REPOSITORY:TAG` or `oci://REGISTRY/REPOSITORY@sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host of the registry, with its port where it is given.
    pub registry: String,
    /// Repository, e.g. `owner/plugins/text-search`.
    pub repository: String,
    /// Tag; `latest` where neither it nor a digest is given.
    pub tag: Option<String>,
    /// Digest of the artifact's manifest, as `sha256:HEX`.
    pub digest: Option<String>,
}

impl Reference {
    /// The tag; `latest` where none is given.
    pub(super) fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// The same artifact by its digest, which names it for ever.
    pub(super) fn pinned(&self, digest: &str) -> Reference {
        Reference { tag: None, digest: Some(digest.into()), ..self.clone() }
    }

    /// Whether the registry is on this machine; `None` where its name is none.
    fn locality(&self) -> Option<bool> {
        Url::parse(&format!("https://{}/", self.registry)).ok().map(|url| is_loopback(&url))
    }

    /// Whether the registry is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.locality() == Some(true)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` {why}; expected oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:HEX");
        let rest = text.strip_prefix("oci://").ok_or_else(|| wrong("does not begin with oci://"))?;
        let (registry, rest) = rest.split_once('/').ok_or_else(|| wrong("names no repository"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_string())),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_string())),
            None => (rest, None),
        };
        let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if registry.is_empty() || !registry.chars().all(host) {
            return Err(wrong("names no registry"));
        }
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_'))
        };
        if !repository.split('/').all(part) {
            return Err(wrong("has a repository that is not of lower-case letters, digits, `.`, `-`, `_` and `/`"));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if tag.as_ref().is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.chars().all(word)) {
            return Err(wrong("has a tag that is not of letters, digits, `.`, `-` and `_`"));
        }
        if digest.as_ref().is_some_and(|digest| !is_digest(digest)) {
            return Err(wrong("has a digest that is not sha256: and 64 hexadecimal digits"));
        }
        let reference = Reference { registry: registry.into(), repository: repository.into(), tag, digest };
        reference.locality().map(|_| reference).ok_or_else(|| wrong("names no registry"))
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_other_clients_read_them() {
        let hex = "a".repeat(64);
        let digest = format!("sha256:{hex}");
        for (text, parts, local) in [
            ("oci://ghcr.io/me/text-search:1.0", ("ghcr.io", "me/text-search", "1.0", None), false),
            ("oci://ghcr.io/me/text-search", ("ghcr.io", "me/text-search", "latest", None), false),
            ("oci://localhost:5000/x:y", ("localhost:5000", "x", "y", None), true),
            ("oci://[::1]:5000/x:y", ("[::1]:5000", "x", "y", None), true),
            ("oci://127.0.0.1.example/x:y", ("127.0.0.1.example", "x", "y", None), false),
            (&format!("oci://r.example/x:1@{digest}"), ("r.example", "x", "1", Some(digest.as_str())), false),
        ] {
            let reference: Reference = text.parse().unwrap();
            let read = (&*reference.registry, &*reference.repository, reference.tag(), reference.digest.as_deref());
            assert_eq!((read, reference.is_local()), (parts, local), "{text}");
        }
        for text in [
            "oci://ghcr.io",
            "oci:///x:1",
            "oci://ghcr.io/",
            "oci://ghcr.io/../x:1",
            "oci://ghcr.io/me//x",
            "oci://ghcr.io/Me/x",
            "oci://ghcr.io/me/x:",
            "oci://ghcr.io/me/x:a/b",
            "oci://user@ghcr.io/me/x",
            "oci://ghcr.io/me/x@sha256:1234",
            "oci://ghcr.io/me/x@md5:1234",
            "oci://ghcr.io:x/me/x:1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_asked_without_encryption() {
        for (text, allowed) in [
            ("https://example.org/x.tar.gz", true),
            ("http://127.0.0.1:8080/x.tar.gz", true),
            ("http://localhost/x.tar.gz", true),
            ("http://example.org/x.tar.gz", false),
            ("http://localhost.example.org/x.tar.gz", false),
            ("http://127.0.0.1.example.org/x.tar.gz", false),
            ("http://10.0.0.1/x.tar.gz", false),
            ("https://me:pass@example.org/x.tar.gz", false),
            ("ftp://example.org/x.tar.gz", false),
        ] {
            assert_eq!(text.parse::<Source>().is_ok(), allowed, "{text}");
        }
        assert_eq!("plugins/x".parse::<Source>(), Ok(Source::Path("plugins/x".into())));
    }
}

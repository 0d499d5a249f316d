//! `run.toml` as it stands, and how the configurations of runs differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Run;

/// What run.toml says.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub text: Option<String>,
    pub values: BTreeMap<String, String>,
    pub version: Option<String>,
    pub plugins: BTreeMap<String, String>,
}

/// Reads `DIR/run.toml`; what is missing or damaged is named in `problems`.
pub(super) fn read(dir: &Path, problems: &mut Vec<String>) -> Config {
    let text = match fs::read(dir.join("run.toml")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            problems.push("There is no run.toml: the configuration of this run is unknown.".into());
            return Config::default();
        }
        Err(error) => {
            problems.push(format!("run.toml cannot be read: {error}."));
            return Config::default();
        }
    };
    let mut values = BTreeMap::new();
    match toml::from_str::<toml::Table>(&text) {
        Ok(table) => flatten("", &toml::Value::Table(table), &mut values),
        Err(error) => problems.push(format!("run.toml is damaged: {}.", error.message())),
    }
    let (version, plugins) = heading(&text);
    Config { text: Some(text), values, version, plugins }
}

/// The comment that heads run.toml: `# mmhost VERSION; …`, then a line `#   NAME DIGEST` for each plugin.
fn heading(text: &str) -> (Option<String>, BTreeMap<String, String>) {
    let mut version = None;
    let mut plugins = BTreeMap::new();
    for comment in text.lines().map_while(|line| line.strip_prefix('#')) {
        if let Some(rest) = comment.trim_start().strip_prefix("mmhost ") {
            version = rest.split(';').next().map(|v| v.trim().to_owned());
        } else if let Some((name, digest)) = comment.trim().rsplit_once(' ')
            && digest.len() == 64
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            plugins.insert(name.trim().to_owned(), digest.to_owned());
        }
    }
    (version, plugins)
}

/// A TOML value as text by dotted key.
pub fn flatten(key: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, inner) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, inner, into);
            }
        }
        toml::Value::String(text) => drop(into.insert(key.to_owned(), text.clone())),
        other => drop(into.insert(key.to_owned(), other.to_string())),
    }
}

/// A key in which configurations differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Dotted key of run.toml; `plugin NAME` for a plugin's digest, `mmhost` for the version.
    pub key: String,
    /// Its value in each run, in order; absent where the run has none.
    pub values: Vec<Option<String>>,
}

/// The keys in which runs differ: configuration, plugin digests, version.
pub fn differences(runs: &[&Run]) -> Vec<Difference> {
    let described: Vec<BTreeMap<String, String>> = runs.iter().map(|run| description(run)).collect();
    let keys: BTreeSet<&String> = described.iter().flat_map(BTreeMap::keys).collect();
    let values = |key: &String| described.iter().map(|d| d.get(key).cloned()).collect::<Vec<_>>();
    keys.into_iter()
        .map(|key| Difference { key: key.clone(), values: values(key) })
        .filter(|difference| difference.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

fn description(run: &Run) -> BTreeMap<String, String> {
    let mut all = run.config.clone();
    all.extend(run.plugins.iter().map(|(name, digest)| (format!("plugin {name}"), digest.clone())));
    all.extend(run.version.iter().map(|version| ("mmhost".to_owned(), version.clone())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_tells_version_and_plugins() {
        let digest = "ab".repeat(32);
        let text = format!("# mmhost 0.1.0; plugins by SHA-256:\n#   text-search {digest}\nseed = 1\n# mmhost 9\n");
        let (version, plugins) = heading(&text);
        assert_eq!(version.as_deref(), Some("0.1.0"));
        assert_eq!(plugins["text-search"], digest);
    }

    #[test]
    fn tables_flatten_to_dotted_keys() {
        let mut values = BTreeMap::new();
        let table: toml::Table = toml::from_str("seed = 1\n[a.b]\nc = [1, 2]\nd = \"x\"").unwrap();
        flatten("", &toml::Value::Table(table), &mut values);
        assert_eq!(values["seed"], "1");
        assert_eq!(values["a.b.c"], "[1, 2]");
        assert_eq!(values["a.b.d"], "x");
    }
}

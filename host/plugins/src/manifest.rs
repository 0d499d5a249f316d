//! `plugin.toml`: what a plugin is, what it asks for, and the defaults of its configuration.

use crate::net::{HostRule, is_secret_name};
use crate::{Limits, PluginError, Result};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the manifest in a plugin's folder.
pub const MANIFEST: &str = "plugin.toml";

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A tool that the policy may call.
    SearchTool,
    /// A reward function.
    Reward,
    /// A filter over a data set.
    DatasetFilter,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::SearchTool, Kind::Reward, Kind::DatasetFilter];

    /// The interface of the contract that a plugin of this kind exports.
    pub fn interface(self) -> &'static str {
        match self {
            Kind::SearchTool => "tool",
            Kind::Reward => "scoring",
            Kind::DatasetFilter => "filtering",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::SearchTool => "search-tool",
            Kind::Reward => "reward",
            Kind::DatasetFilter => "dataset-filter",
        })
    }
}

/// A manifest as it stands in the file.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, by which configurations and the lock file call the plugin: lower-case letters, digits and `-`.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// What it is for.
    pub kind: Kind,
    /// Version of the contract that it was built against.
    pub contract: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// File name of the component; `NAME.wasm` by default.
    pub component: Option<String>,
    /// What the plugin asks for.
    #[serde(default)]
    pub ask: Ask,
    /// What a call may use.
    #[serde(default)]
    pub limits: Limits,
    /// Every key of the configuration with its default.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub config: toml::Table,
    /// JSON Schema of the configuration, defaults with overrides merged over them.
    #[serde(default, rename = "config-schema")]
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    pub config_schema: Option<toml::Table>,
}

/// What a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Corpora to search, by name.
    pub corpora: Vec<String>,
    /// Hosts to send requests to.
    #[schemars(with = "Vec<String>")]
    pub hosts: Vec<HostRule>,
    /// Methods of the requests.
    #[schemars(with = "Vec<String>")]
    pub methods: Vec<Method>,
    /// Secrets to put into requests, by name.
    pub secrets: Vec<String>,
    /// Language models to ask, by names of the plugin's choice, e.g. `judge`.
    pub models: Vec<String>,
}

impl Default for Ask {
    fn default() -> Self {
        Ask { corpora: Vec::new(), hosts: Vec::new(), methods: reading(), secrets: Vec::new(), models: Vec::new() }
    }
}

impl Ask {
    /// What is asked for, in words, e.g. `corpus default`.
    pub fn words(&self) -> Vec<String> {
        let corpora = self.corpora.iter().map(|corpus| format!("corpus {corpus}"));
        let hosts = self.hosts.iter().map(|host| format!("host {host}"));
        let methods = self.methods.iter().filter(|method| !reading().contains(method)).map(|method| format!("method {method}"));
        let secrets = self.secrets.iter().map(|secret| format!("secret {secret}"));
        let models = self.models.iter().map(|model| format!("model {model}"));
        corpora.chain(hosts).chain(methods).chain(secrets).chain(models).collect()
    }

    /// The doors of the contract that are there only for those who ask, but are not asked for, each with the line that asks for it.
    pub(crate) fn closed_doors(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let doors = [
            ("corpus", self.corpora.is_empty(), "corpora = [\"default\"]"),
            ("llm", self.models.is_empty(), "models = [\"judge\"]"),
            ("http", self.hosts.is_empty(), "hosts = [\"api.example.org\"]"),
        ];
        doors.into_iter().filter(|(_, closed, _)| *closed).map(|(door, _, line)| (door, line))
    }
}

/// The methods that only read, which need not be asked for.
pub(crate) fn reading() -> Vec<Method> {
    vec![Method("GET".into()), Method("HEAD".into())]
}

/// The method that asks models.
pub(crate) fn posting() -> Vec<Method> {
    vec![Method("POST".into())]
}

/// A method of HTTP, in upper case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(String);

impl Method {
    /// The methods that plugins may use.
    const ALL: [&'static str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match Self::ALL.contains(&text.as_str()) {
            true => Ok(Method(text)),
            false => Err(format!("`{text}` is no method that plugins may use; expected one of {}", Self::ALL.join(", "))),
        }
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        method.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// JSON Schema of manifests, which editors complete and check them by.
pub fn schema() -> Value {
    schemars::schema_for!(Manifest).to_value()
}

impl Manifest {
    /// Reads the manifest of a plugin's folder and checks every field.
    ///
    /// # Errors
    /// When the file is missing, is no TOML, lacks a field, has an unknown one or one with an unusable value.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::parse(&Self::text(folder)?, &folder.join(MANIFEST))
    }

    /// The manifest of a plugin's folder as it stands, unchecked.
    pub(crate) fn text(folder: &Path) -> Result<String> {
        let file = folder.join(MANIFEST);
        std::fs::read_to_string(&file).map_err(|error| PluginError::File { file, message: format!("cannot read the manifest: {error}") })
    }

    /// Checks every field of a manifest's text; `file` is what messages call it.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self> {
        let manifest: Manifest = toml::from_str(text)
            .map_err(|error| PluginError::Syntax { file: file.into(), message: error.to_string().trim_end().to_string() })?;
        manifest.check(file)?;
        Ok(manifest)
    }

    fn check(&self, file: &Path) -> Result<()> {
        let bad = |field: &str, found: &str, expected: &str| {
            Err(PluginError::Field { file: file.into(), field: field.into(), found: format!("`{found}`"), expected: expected.into() })
        };
        if !is_name(&self.name) {
            return bad("name", &self.name, "lower-case letters, digits and `-`, beginning with a letter");
        }
        if parse_version(&self.version).is_none() {
            return bad("version", &self.version, "a version like 0.1.0");
        }
        if parse_version(&self.contract).is_none() {
            return bad("contract", &self.contract, "a version like 0.1.0");
        }
        if let Some(component) = &self.component {
            let path = Path::new(component);
            if path.components().count() != 1 || path.file_name().is_none() {
                return bad("component", component, "the name of a file in the plugin's folder");
            }
        }
        if let Some(corpus) = self.ask.corpora.iter().find(|name| name.trim().is_empty()) {
            return bad("ask.corpora", corpus, "names of corpora");
        }
        if let Some(secret) = self.ask.secrets.iter().find(|name| !is_secret_name(name)) {
            return bad("ask.secrets", secret, "names of letters, digits and single `_`");
        }
        if let Some(model) = self.ask.models.iter().find(|name| !is_name(name)) {
            return bad("ask.models", model, "names of lower-case letters, digits, `-` and `_`, beginning with a letter");
        }
        if !self.ask.secrets.is_empty() && self.ask.hosts.is_empty() {
            return bad("ask.hosts", "[]", "the hosts that the secrets are for");
        }
        self.limits.check(file)?;
        self.config_schema().map(drop).map_err(|message| PluginError::Field {
            file: file.into(),
            field: "config-schema".into(),
            found: message,
            expected: "a JSON Schema".into(),
        })
    }

    /// The compiled schema of the configuration.
    fn config_schema(&self) -> std::result::Result<Option<jsonschema::Validator>, String> {
        let Some(schema) = &self.config_schema else { return Ok(None) };
        let schema = to_json(&toml::Value::Table(schema.clone()));
        jsonschema::validator_for(&schema).map(Some).map_err(|error| error.to_string())
    }

    /// Compares a configuration with its schema.
    fn check_configuration(&self, config: &Value) -> Result<()> {
        let schema = self.config_schema().map_err(PluginError::Other)?;
        let Some(error) = schema.as_ref().and_then(|schema| schema.iter_errors(config).next()) else { return Ok(()) };
        let key = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
        Err(PluginError::ConfigSchema { plugin: self.name.clone(), key, found: error.instance().to_string(), expected: error.to_string() })
    }

    /// Path of the component.
    pub fn component_path(&self, folder: &Path) -> PathBuf {
        folder.join(self.component_name())
    }

    /// File name of the component.
    pub(crate) fn component_name(&self) -> String {
        self.component.clone().unwrap_or_else(|| format!("{}.wasm", self.name))
    }

    /// The configuration that the plugin sees: the defaults with `overrides` merged over them, key by key. An override
    /// replaces the whole value of a key.
    ///
    /// # Errors
    /// [`PluginError::UnknownConfig`] for a key that the defaults lack, [`PluginError::ConfigType`] for a value of another type
    /// than its default's. Integers are accepted where the default is a float.
    pub fn configuration(&self, overrides: Option<&Value>) -> Result<serde_json::Map<String, Value>> {
        let mut merged: serde_json::Map<String, Value> = self.config.iter().map(|(key, value)| (key.clone(), to_json(value))).collect();
        let overrides = match overrides {
            None => &serde_json::Map::new(),
            Some(Value::Object(overrides)) => overrides,
            Some(other) => {
                return Err(PluginError::ConfigType {
                    plugin: self.name.clone(),
                    key: String::new(),
                    found: other.to_string(),
                    expected: "a table",
                });
            }
        };
        for (key, value) in overrides {
            let Some(default) = merged.get(key) else {
                let known: Vec<String> = merged.keys().cloned().collect();
                return Err(PluginError::UnknownConfig {
                    plugin: self.name.clone(),
                    key: key.clone(),
                    suggestion: closest(key, &known),
                    known,
                });
            };
            let value = adapt(value, default).ok_or_else(|| PluginError::ConfigType {
                plugin: self.name.clone(),
                key: key.clone(),
                found: value.to_string(),
                expected: type_name(default),
            })?;
            merged.insert(key.clone(), value);
        }
        self.check_configuration(&Value::Object(merged.clone()))?;
        Ok(merged)
    }
}

/// A value of the default's type, or `None` when it has another.
fn adapt(value: &Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (Value::Number(number), Value::Number(wanted)) => match wanted.is_f64() {
            true => number.as_f64().and_then(serde_json::Number::from_f64).map(Value::Number),
            false => (!number.is_f64()).then(|| value.clone()),
        },
        (Value::Bool(_), Value::Bool(_))
        | (Value::String(_), Value::String(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Object(_), Value::Object(_)) => Some(value.clone()),
        _ => None,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "a table",
    }
}

fn to_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::from(*number),
        // TOML's `inf` and `nan` have no JSON form; a default of that kind reaches the plugin as null and is refused there.
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => items.iter().map(to_json).collect(),
        toml::Value::Table(table) => Value::Object(table.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()),
    }
}

/// Lower-case letters, digits, `-` and `_`, beginning with a letter.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
}

/// `MAJOR.MINOR.PATCH`.
pub(crate) fn parse_version(text: &str) -> Option<[u64; 3]> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let version = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(version)
}

/// The known word that is closest to `word`, if it is close enough to be what was meant.
pub(crate) fn closest(word: &str, known: &[String]) -> Option<String> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.chars().count()).collect();
        for (i, a) in word.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.chars().enumerate() {
                let substituted = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[row.len() - 1]
    };
    known
        .iter()
        .map(|other| (distance(other), other))
        .min()
        .filter(|(distance, _)| *distance <= 2.max(word.len() / 3))
        .map(|(_, other)| other.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(text: &str) -> Result<Manifest> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST), text).unwrap();
        Manifest::read(folder.path())
    }

    const HEAD: &str = "name = \"p\"\nversion = \"0.1.0\"\nkind = \"reward\"\ncontract = \"0.1.0\"\n";

    #[test]
    fn faults_name_the_field() {
        for (text, word) in [
            ("version = \"0.1.0\"\nkind = \"reward\"\ncontract = \"0.1.0\"", "missing field `name`"),
            ("name = \"p\"\nversion = \"0.1.0\"\ncontract = \"0.1.0\"", "missing field `kind`"),
            ("name = \"p\"\nversion = \"0.1.0\"\nkind = \"rewards\"\ncontract = \"0.1.0\"", "unknown variant `rewards`"),
            ("name = \"P q\"\nversion = \"0.1.0\"\nkind = \"reward\"\ncontract = \"0.1.0\"", "field `name`: found `P q`"),
            ("name = \"p\"\nversion = \"1\"\nkind = \"reward\"\ncontract = \"0.1.0\"", "field `version`"),
            (&format!("{HEAD}component = \"../other.wasm\""), "field `component`"),
            (&format!("{HEAD}componet = \"p.wasm\""), "unknown field `componet`"),
            (&format!("{HEAD}[limits]\nmemory_mib = 4096"), "limits.memory_mib"),
            (&format!("{HEAD}[limits]\ndeadline_ms = 0"), "limits.deadline_ms"),
            (&format!("{HEAD}[limits]\nfule = 1"), "unknown field `fule`"),
            (&format!("{HEAD}[ask]\nhosts = [\"*\"]"), "`*` has a `*` elsewhere than in front"),
            (&format!("{HEAD}[ask]\nhosts = [\"a.org/b\"]"), "more than scheme, host and port"),
            (&format!("{HEAD}[ask]\nhosts = [\"a.org\"]\nmethods = [\"get\"]"), "`get` is no method"),
            (&format!("{HEAD}[ask]\nhosts = [\"a.org\"]\nsecrets = [\"a b\"]"), "field `ask.secrets`"),
            (&format!("{HEAD}[ask]\nsecrets = [\"KEY\"]"), "field `ask.hosts`"),
            (&format!("{HEAD}[ask]\nmodels = [\"GPT 5\"]"), "field `ask.models`"),
            (&format!("{HEAD}name = "), "TOML parse error"),
        ] {
            let message = manifest(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}\n{message}");
            assert!(message.contains(MANIFEST), "{message}");
        }
    }

    #[test]
    fn the_configuration_keeps_to_its_schema() {
        let rules = "[config]\nk = 2\nform = { tags = [\"a\"] }\n[config-schema.properties.k]\ntype = \"integer\"\nminimum = 1\n\
            [config-schema.properties.form.properties.tags]\nmaxItems = 2\n";
        let manifest = manifest(&format!("{HEAD}{rules}")).unwrap();
        let refused = |overrides: Value| manifest.configuration(Some(&overrides)).unwrap_err().to_string();
        manifest.configuration(None).unwrap();
        let message = refused(json!({"k": 0}));
        assert!(["plugin p", "key `k`", "found 0", "minimum of 1"].iter().all(|word| message.contains(word)), "{message}");
        let message = refused(json!({"form": {"tags": [1, 2, 3]}}));
        assert!(message.contains("key `form.tags`: found [1,2,3]"), "{message}");
        // The defaults themselves must keep to it, and the schema must be one.
        let own = self::manifest(&format!("{HEAD}{}", rules.replace("k = 2", "k = -2"))).unwrap();
        assert!(matches!(own.configuration(None), Err(PluginError::ConfigSchema { .. })));
        let error = self::manifest(&format!("{HEAD}{}", rules.replace("\"integer\"", "\"whole\""))).unwrap_err().to_string();
        assert!(error.contains("config-schema") && error.contains("whole"), "{error}");
    }

    #[test]
    fn overrides_are_merged_and_checked() {
        let config = "[config]\nalpha = 0.1\nk = 2\nname = \"x\"\nlegal = [\"answer\"]\ntags = { text = \"t\" }\n";
        let manifest = manifest(&format!("{HEAD}{config}")).unwrap();
        let merge = |overrides: Value| manifest.configuration(Some(&overrides));
        assert_eq!(
            Value::Object(merge(json!({"alpha": 1, "tags": {}})).unwrap()),
            json!({"alpha": 1.0, "k": 2, "name": "x", "legal": ["answer"], "tags": {}})
        );
        let unknown = merge(json!({"alfa": 1})).unwrap_err().to_string();
        assert!(unknown.contains("`alfa` (did you mean `alpha`?)"), "{unknown}");
        assert!(matches!(merge(json!({"k": 1.5})), Err(PluginError::ConfigType { .. })));
        assert!(matches!(merge(json!({"name": null})), Err(PluginError::ConfigType { .. })));
        assert!(matches!(merge(json!([])), Err(PluginError::ConfigType { .. })));
    }
}

//! Chat templates: Jinja, rendered as transformers renders it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::value::{Kwargs, Value as JinjaValue, ValueKind};
use minijinja::{Environment, ErrorKind, State};
use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// The template of models made here: ChatML turns, images as a vision block, no default system prompt.
pub(crate) const CHATML: &str = include_str!("chat_template.jinja");

/// A compiled chat template. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// Special tokens by name (`bos_token`, …), as templates may use them.
    special: Arc<serde_json::Map<String, Value>>,
    path: Option<PathBuf>,
}

impl ChatTemplate {
    /// Compiles `source`; `tokenizer_config` supplies `bos_token` and its like.
    pub(crate) fn new(source: String, path: Option<&Path>, tokenizer_config: &Value) -> Result<Self> {
        let path = path.map(Path::to_owned);
        let mut environment = Environment::new();
        // As transformers sets up Jinja.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<JinjaValue, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.set_unknown_method_callback(python_method);
        let compiled = environment.add_template_owned("chat_template", source);
        compiled.map_err(|e| Error::Template { path: path.clone(), reason: format!("{e:#}") })?;
        let mut special = serde_json::Map::new();
        for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            // Either the token itself or an object that describes it.
            let token = tokenizer_config.get(name).map(|token| token.get("content").unwrap_or(token));
            if let Some(token) = token.filter(|token| token.is_string()) {
                special.insert(name.to_owned(), token.clone());
            }
        }
        Ok(Self { environment: Arc::new(environment), special: Arc::new(special), path })
    }

    /// Finds the template of a model folder: `chat_template.jinja`, `chat_template.json` or in `tokenizer_config.json`.
    pub(crate) fn from_folder(dir: &Path, tokenizer_config: &Value) -> Result<Self> {
        let jinja = dir.join("chat_template.jinja");
        if jinja.exists() {
            let source = std::fs::read_to_string(&jinja).map_err(Error::io("read", &jinja))?;
            return Self::new(source, Some(&jinja), tokenizer_config);
        }
        let json = dir.join("chat_template.json");
        if json.exists() {
            let value = crate::processor::read_json(&json)?;
            if let Some(source) = template_in(&value) {
                return Self::new(source, Some(&json), tokenizer_config);
            }
        }
        if let Some(source) = template_in(tokenizer_config) {
            return Self::new(source, Some(&dir.join("tokenizer_config.json")), tokenizer_config);
        }
        Err(Error::MissingFile {
            dir: dir.to_owned(),
            file: "chat_template.jinja, chat_template.json or chat_template in tokenizer_config.json".into(),
            hint: "only models with a chat template are supported",
        })
    }

    /// Renders messages (`[{role, content}]`, content a string or a list of parts).
    pub(crate) fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String> {
        let mut context = self.special.as_ref().clone();
        context.insert("messages".into(), Value::Array(messages.to_vec()));
        context.insert("add_generation_prompt".into(), Value::Bool(add_generation_prompt));
        let rendered = self.environment.get_template("chat_template").and_then(|template| template.render(&context));
        rendered.map_err(|e| self.error(format!("{e:#}")))
    }

    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Template { path: self.path.clone(), reason }
    }
}

/// `chat_template` of a JSON object: one template, or a list of named ones of which `default` counts.
fn template_in(value: &Value) -> Option<String> {
    match value.get("chat_template")? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
            Some(default.get("template")?.as_str()?.to_owned())
        }
        _ => None,
    }
}

/// `tojson` as transformers defines it: Python's `json.dumps` without escapes for HTML or for letters beyond ASCII.
fn to_json(value: JinjaValue, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let fail = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let indent = b" ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(fail)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(fail)?,
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// One line with a space after `,` and `:`, as Python writes JSON.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Methods of Python's `str` and `dict` that published templates call.
fn python_method(
    state: &State,
    value: &JinjaValue,
    method: &str,
    args: &[JinjaValue],
) -> std::result::Result<JinjaValue, minijinja::Error> {
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    if value.kind() == ValueKind::Map {
        return match (method, args) {
            ("items", []) => state.apply_filter("items", std::slice::from_ref(value)),
            ("keys", []) => state.apply_filter("list", std::slice::from_ref(value)),
            ("get", [key]) => Ok(entry(value, key).unwrap_or(JinjaValue::from(()))),
            ("get", [key, default]) => Ok(entry(value, key).unwrap_or_else(|| default.clone())),
            _ => Err(unknown()),
        };
    }
    let text = value.as_str().ok_or_else(unknown)?;
    let strings: Vec<&str> = args.iter().map(|arg| arg.as_str().ok_or_else(unknown)).collect::<std::result::Result<_, _>>()?;
    Ok(match (method, strings.as_slice()) {
        ("strip", []) => text.trim().into(),
        ("lstrip", []) => text.trim_start().into(),
        ("rstrip", []) => text.trim_end().into(),
        ("strip", [set]) => text.trim_matches(|c| set.contains(c)).into(),
        ("lstrip", [set]) => text.trim_start_matches(|c| set.contains(c)).into(),
        ("rstrip", [set]) => text.trim_end_matches(|c| set.contains(c)).into(),
        ("startswith", [prefix]) => text.starts_with(prefix).into(),
        ("endswith", [suffix]) => text.ends_with(suffix).into(),
        ("lower", []) => text.to_lowercase().into(),
        ("upper", []) => text.to_uppercase().into(),
        ("replace", [from, to]) => text.replace(from, to).into(),
        ("split", []) => text.split_whitespace().map(JinjaValue::from).collect(),
        ("split", [separator]) => text.split(separator).map(JinjaValue::from).collect(),
        _ => return Err(unknown()),
    })
}

fn entry(map: &JinjaValue, key: &JinjaValue) -> Option<JinjaValue> {
    map.get_item(key).ok().filter(|value| !value.is_undefined())
}

//! A new plugin's folder: the work behind `mmhost plugin new`. It builds, passes `check` and can be trained with as it is.
//!
//! Folders are complete in themselves, wherever they lie: they hold the contract that they are built against (`wit/`) and, for Rust, the
//! SDK as a vendored crate, for C, the generated bindings. So an author needs this program and her language's tools, nothing of this
//! repository, and a later version of the contract does not break what she has.

mod files;

use crate::build::Lang;
use crate::contract::CONTRACT;
use crate::manifest::{Kind, Manifest, is_name};
use crate::{PluginError, Result};
use files::{C_BINDINGS, WIT};
use std::path::{Path, PathBuf};

/// Creates the folder of a new plugin in `dir`, a folder of plugins, and returns its path.
///
/// # Errors
/// When the name is none, the folder exists already, or it cannot be written. Nothing is overwritten.
pub fn new(dir: &Path, name: &str, kind: Kind, lang: Lang) -> Result<PathBuf> {
    // The name becomes that of a tag and of a crate.
    if !is_name(name) || name.contains('_') {
        return Err(PluginError::Field {
            file: dir.join(name),
            field: "name".into(),
            found: format!("`{name}`"),
            expected: "lower-case letters, digits and `-`, beginning with a letter".into(),
        });
    }
    let folder = dir.join(name);
    let fail = |file: &Path, message: String| PluginError::File { file: file.into(), message };
    std::fs::create_dir_all(dir).map_err(|error| fail(dir, format!("cannot create it: {error}")))?;
    std::fs::create_dir(&folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => fail(&folder, "exists already; choose another name, or remove it".into()),
        _ => fail(&folder, format!("cannot create it: {error}")),
    })?;
    let fill = Fill { name, kind, lang, folder: &folder };
    let schema = serde_json::to_string_pretty(&crate::manifest::schema()).map_err(|error| PluginError::Other(error.to_string()))?;
    // The first line of the manifest points editors to it.
    write(&folder.join("plugin.schema.json"), format!("{schema}\n").as_bytes())?;
    for (path, content) in files::of(kind, lang) {
        let file = folder.join(&path);
        let content = match std::str::from_utf8(content) {
            // The vendored files hold no marks; their macros have single braces.
            Ok(text) => fill.fill(text).into_bytes(),
            Err(_) => content.to_vec(),
        };
        write(&file, &content)?;
    }
    Ok(folder)
}

/// The values of the marks in templates.
struct Fill<'a> {
    name: &'a str,
    kind: Kind,
    lang: Lang,
    folder: &'a Path,
}

impl Fill<'_> {
    fn fill(&self, text: &str) -> String {
        let Fill { name, kind, lang, folder } = self;
        let folder = folder.display();
        let (language, main, memory) = match lang {
            Lang::Rust => ("Rust", "src/lib.rs", "16"),
            // An interpreter has a heap of its own before the plugin's work begins.
            Lang::Python => ("Python", "src/plugin.py", "128"),
            Lang::JavaScript => ("JavaScript", "src/plugin.js", "64"),
            Lang::C => ("C", "src/plugin.c", "16"),
        };
        let needs = match lang {
            Lang::Rust => "`rustup target add wasm32-wasip2`".into(),
            Lang::Python => format!("`python3 -m venv {folder}/.venv && {folder}/.venv/bin/pip install componentize-py`"),
            Lang::JavaScript => format!("`npm install --prefix {folder}`"),
            Lang::C => format!("zig, e.g. `python3 -m venv {folder}/.venv && {folder}/.venv/bin/pip install ziglang`"),
        };
        let (function, field, plural) = match kind {
            Kind::SearchTool => ("call", format!("`tools = [\"image-search\", \"{name}\"]`"), "tools"),
            Kind::Reward => ("score", format!("`reward = \"{name}\"`"), "rewards"),
            Kind::DatasetFilter => ("filter", format!("`filters = [\"{name}\"]`"), "filters"),
        };
        let marks = [
            ("{{name}}", (*name).to_string()),
            ("{{contract}}", CONTRACT.into()),
            ("{{memory}}", memory.into()),
            ("{{kind}}", kind.to_string().replace('-', " ")),
            ("{{language}}", language.into()),
            ("{{main}}", main.into()),
            ("{{dir}}", folder.to_string()),
            ("{{needs}}", needs),
            ("{{function}}", function.into()),
            ("{{use}}", format!("{field} under `[plugins]`, which names the run's {plural}")),
        ];
        marks.iter().fold(text.to_string(), |text, (mark, value)| text.replace(mark, value))
    }
}

/// The contract that a plugin's folder is built against: its own `wit/`, of whatever version, else this program's; written into `scratch`
/// without the doors that the manifest does not ask for. Interpreters import whatever is in their world, used or not.
pub(crate) fn contract(folder: &Path, scratch: &Path, manifest: &Manifest) -> std::result::Result<PathBuf, String> {
    let (own, wit) = (folder.join("wit"), scratch.join("wit"));
    let files = match own.is_dir() {
        true => wit_files(&own, Path::new("")).map_err(|error| format!("{}: {error}", own.display()))?,
        false => WIT.map(|(name, text)| (PathBuf::from(name), text.to_string())).into(),
    };
    let is_asked_for = |line: &&str| {
        let import = line.trim().strip_prefix("import ").map(|name| name.trim_start_matches("mmhost:plugin/").trim_end_matches(';'));
        let door = import.and_then(|name| name.split('@').next());
        !manifest.ask.closed_doors().any(|(closed, _)| door == Some(closed))
    };
    for (name, text) in files {
        let text: String = text.lines().filter(is_asked_for).map(|line| format!("{line}\n")).collect();
        write(&wit.join(name), text.as_bytes()).map_err(|error| error.to_string())?;
    }
    Ok(wit)
}

/// The files of a folder `wit/`, and of its folders, by their paths in it.
fn wit_files(root: &Path, within: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join(within))? {
        let entry = entry?;
        let path = within.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files.extend(wit_files(root, &path)?);
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            let text = std::fs::read_to_string(root.join(&path))?;
            files.push((path, text));
        }
    }
    Ok(files)
}

/// The C bindings of a kind's world: those in the folder's `bindings/`, else this program's, written into `scratch`.
pub(crate) fn c_bindings(folder: &Path, scratch: &Path, kind: Kind) -> std::result::Result<PathBuf, String> {
    let own = folder.join("bindings");
    if own.is_dir() {
        return Ok(own);
    }
    let bindings = scratch.join("bindings");
    let world = kind.to_string().replace('-', "_");
    for (name, content) in C_BINDINGS.into_iter().filter(|(name, _)| name.starts_with(&world)) {
        write(&bindings.join(name), content).map_err(|error| error.to_string())?;
    }
    Ok(bindings)
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    let fail = |error: std::io::Error| PluginError::File { file: file.into(), message: format!("cannot write it: {error}") };
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    std::fs::write(file, content).map_err(fail)
}

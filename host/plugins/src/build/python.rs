//! Python: componentize-py bundles the interpreter, the plugin and its modules.

use super::tools::{Tool, candidates, run, scratch};
use crate::manifest::Manifest;
use std::path::Path;

/// What stands before the plugin's own module: an exception that it does not catch is logged before it ends the call, since the interpreter's
/// own account of it goes to a standard error that is not there.
const ENTRY: &str = include_str!("entry.py");
/// The module that implements the contract.
pub(super) const MAIN: &str = "src/plugin.py";

fn tool(folder: &Path) -> Result<(Tool, String), String> {
    let found = candidates(folder, ".venv/bin", "componentize-py").into_iter().find_map(|tool| {
        let version = tool.version(&["--version"])?;
        Some((tool, version))
    });
    found.ok_or_else(|| {
        let venv = folder.join(".venv");
        let venv = venv.display();
        format!("componentize-py was not found; get it with `python3 -m venv {venv} && {venv}/bin/pip install componentize-py`")
    })
}

/// The compiler as it names itself.
pub(super) fn compiler(folder: &Path) -> Result<String, String> {
    tool(folder).map(|(_, version)| version)
}

/// Builds the plugin in a folder.
pub(super) fn build(folder: &Path, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let (tool, _) = tool(folder)?;
    let scratch = scratch()?;
    let wit = crate::new::contract(folder, scratch.path(), manifest)?;
    let made = scratch.path().join("plugin.wasm");
    let mut command = tool.command();
    let entry = scratch.path().join("entry");
    std::fs::create_dir(&entry).and_then(|()| std::fs::write(entry.join("mmhost_entry.py"), ENTRY)).map_err(|error| error.to_string())?;
    command.current_dir(folder).arg("-d").arg(wit).args(["-w", &manifest.kind.to_string(), "componentize"]);
    // The interpreter imports sockets, which no plugin gets. What it would ask of WASI traps; importing modules happens at build time.
    command.args(["--stub-wasi", "-p", "src", "-p"]).arg(&entry);
    command.args(["mmhost_entry", "-o"]).arg(&made);
    // An environment that happens to be active is not part of the plugin.
    command.env_remove("VIRTUAL_ENV").env("PYTHONDONTWRITEBYTECODE", "1");
    run("componentize-py", &mut command)?;
    std::fs::read(&made).map_err(|error| format!("componentize-py made no component: {error}"))
}

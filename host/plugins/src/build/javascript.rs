//! JavaScript: componentize-qjs bundles QuickJS, the plugin and the modules that it imports. It is a backend of jco; the other one,
//! StarlingMonkey, makes components ten times as large in ten times the time.

use super::tools::{Tool, candidates, run, scratch};
use crate::manifest::Manifest;
use std::path::Path;

/// The module that implements the contract.
pub(super) const MAIN: &str = "src/plugin.js";

fn tool(folder: &Path) -> Result<Tool, String> {
    let found = candidates(folder, "node_modules/.bin", "componentize-qjs").into_iter().find(|tool| tool.version(&["--help"]).is_some());
    found.ok_or_else(|| {
        let how = format!("npm install --prefix {} componentize-qjs", folder.display());
        match Tool::new("npm").version(&["--version"]) {
            Some(_) => format!("componentize-qjs was not found; get it with `{how}`"),
            None => format!("componentize-qjs was not found, nor npm; install Node.js from https://nodejs.org, then `{how}`"),
        }
    })
}

/// The compiler. It does not tell its version, which the nearest `node_modules` does.
pub(super) fn compiler(folder: &Path) -> Result<String, String> {
    tool(folder)?;
    let version = folder.ancestors().find_map(|above| {
        let package = std::fs::read_to_string(above.join("node_modules/componentize-qjs/package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_str(&package).ok()?;
        package["version"].as_str().map(str::to_string)
    });
    Ok(format!("componentize-qjs {}", version.as_deref().unwrap_or("of the search path")))
}

/// Builds the plugin in a folder.
pub(super) fn build(folder: &Path, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let tool = tool(folder)?;
    let scratch = scratch()?;
    let wit = crate::new::contract(folder, scratch.path(), manifest)?;
    let made = scratch.path().join("plugin.wasm");
    let mut command = tool.command();
    command.current_dir(folder).arg("-w").arg(wit).args(["-n", &manifest.kind.to_string(), "-j", MAIN, "--module-root", "."]);
    // Components of the asynchronous ABI are not what this contract's worlds are.
    command.args(["--sync", "--opt-size", "-o"]).arg(&made);
    run("componentize-qjs", &mut command)?;
    std::fs::read(&made).map_err(|error| format!("componentize-qjs made no component: {error}"))
}

//! C: `zig cc` compiles and links a core module, which becomes a component here.

use super::tools::{Tool, candidates, run, scratch};
use crate::manifest::Kind;
use std::path::{Path, PathBuf};
use wasi_preview1_component_adapter_provider::{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER};
use wit_component::ComponentEncoder;

/// The plugin's own sources, by name.
pub(super) fn sources(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder.join("src"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// `zig`, or the one that Python's package `ziglang` brings.
fn tool(folder: &Path) -> Result<(Tool, String), String> {
    let pythons = ["python3", "python"].into_iter().flat_map(|python| candidates(folder, ".venv/bin", python));
    let packaged = pythons.map(|python| python.with(&["-m", "ziglang"]));
    let found = [Tool::new("zig")].into_iter().chain(packaged).find_map(|tool| {
        let version = tool.version(&["version"])?;
        Some((tool, format!("zig {version}")))
    });
    found.ok_or_else(|| {
        let venv = folder.join(".venv");
        let venv = venv.display();
        format!(
            "zig was not found; get it from https://ziglang.org/download, or with `python3 -m venv {venv} && {venv}/bin/pip install ziglang`"
        )
    })
}

/// The compiler as it names itself.
pub(super) fn compiler(folder: &Path) -> Result<String, String> {
    tool(folder).map(|(_, version)| version)
}

/// Builds the plugin in a folder.
pub(super) fn build(folder: &Path, kind: Kind) -> Result<Vec<u8>, String> {
    let (tool, _) = tool(folder)?;
    let scratch = scratch()?;
    let bindings = crate::new::c_bindings(folder, scratch.path(), kind)?;
    let world = kind.to_string().replace('-', "_");
    let made = scratch.path().join("plugin.wasm");
    let mut command = tool.command();
    command.current_dir(folder).args(["cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Os", "-s", "-Wall", "-Isrc"]);
    // The default, 16 MiB, would be the larger part of every instance's memory.
    command.arg("-Wl,-z,stack-size=1048576").arg("-I").arg(&bindings).arg("-o").arg(&made);
    let sources = sources(folder).map_err(|error| format!("{}: {error}", folder.join("src").display()))?;
    command.args(sources.iter().map(|source| source.strip_prefix(folder).unwrap_or(source)));
    command.arg(bindings.join(format!("{world}.c"))).arg(bindings.join(format!("{world}_component_type.o")));
    run("zig cc", &mut command)?;
    let module = std::fs::read(&made).map_err(|error| format!("zig cc made no module: {error}"))?;
    encode(&module).map_err(|error| format!("the module does not become a component: {error:#}"))
}

/// Makes a component of a core module that carries the type of its world. Calls of WASI 0.1, which the C library makes for `printf`
/// and the like, go through the adapter.
fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .validate(true)
        .encode()
}

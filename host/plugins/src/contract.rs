//! Reads from a component's bytes, before anything is compiled, what it was built against.

use crate::doors::wasi;
use crate::manifest::{Kind, Manifest, parse_version};
use crate::{PluginError, Result};
use std::path::Path;
use wasmparser::{Encoding, Parser, Payload};

/// Version of the contract that this host speaks.
pub const CONTRACT: &str = "0.1.0";
const PACKAGE: &str = "mmhost:plugin/";
/// What of `wasi:http` the host offers to plugins that ask for hosts.
const HTTP: [&str; 2] = ["wasi:http/types@0.2.", "wasi:http/outgoing-handler@0.2."];

/// What a component imports and exports, as full names, e.g. `mmhost:plugin/tool@0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Surface {
    /// Imports in order.
    pub imports: Vec<String>,
    /// Exports in order.
    pub exports: Vec<String>,
}

impl Surface {
    /// Reads the names from the bytes of a component.
    ///
    /// # Errors
    /// [`PluginError::NotAComponent`] when the bytes are malformed or a core module.
    pub fn read(file: &Path, bytes: &[u8]) -> Result<Self> {
        let fail = |message: String| PluginError::NotAComponent { file: file.into(), message };
        let mut surface = Surface { imports: Vec::new(), exports: Vec::new() };
        // Components nest modules and components; only the outermost level counts.
        let mut depth = 0usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| fail(error.to_string()))? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(fail("it is a core module; build it for the target wasm32-wasip2, or make a component of it".into()));
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(|error| fail(error.to_string()))?;
                        surface.imports.push(import.name.name.to_string());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(|error| fail(error.to_string()))?;
                        surface.exports.push(export.name.name.to_string());
                    }
                }
                _ => {}
            }
        }
        Ok(surface)
    }

    /// The version of the contract: that of the first interface of `mmhost:plugin`.
    pub fn contract(&self) -> Option<&str> {
        self.exports.iter().chain(&self.imports).find_map(|name| name.strip_prefix(PACKAGE)?.split_once('@').map(|(_, version)| version))
    }

    /// Whether an interface of the contract is imported.
    fn imports_door(&self, interface: &str) -> bool {
        self.imports
            .iter()
            .any(|name| name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')).is_some_and(|(i, _)| i == interface))
    }

    /// Compares what the component is with what its manifest says, and with what this host offers.
    ///
    /// # Errors
    /// The first disagreement: version of the contract, kind, an import that no door serves, or one that the manifest does not
    /// ask for.
    pub fn check(&self, manifest: &Manifest, manifest_file: &Path, component: &Path) -> Result<()> {
        let version_error = |file: &Path, found: &str| {
            Err(PluginError::ContractVersion { file: file.into(), found: found.into(), expected: CONTRACT.into() })
        };
        let found = self.contract();
        if let Some(version) = found.filter(|version| !is_supported(version)) {
            return version_error(component, version);
        }
        if !is_supported(&manifest.contract) {
            return version_error(manifest_file, &manifest.contract);
        }
        if let Some(version) = found.filter(|version| *version != manifest.contract) {
            return Err(PluginError::Field {
                file: manifest_file.into(),
                field: "contract".into(),
                found: format!("`{}`", manifest.contract),
                expected: format!("`{version}`, against which the component was built"),
            });
        }
        self.check_kind(manifest.kind, component)?;
        self.check_imports(manifest, manifest_file, component)
    }

    fn check_kind(&self, kind: Kind, component: &Path) -> Result<()> {
        let name = |kind: Kind| format!("{PACKAGE}{}@", kind.interface());
        let exports = |kind: &Kind| self.exports.iter().any(|export| export.starts_with(&name(*kind)));
        let found: Vec<Kind> = Kind::ALL.into_iter().filter(exports).collect();
        if found == [kind] {
            return Ok(());
        }
        let listed = match self.exports.is_empty() {
            true => "nothing".to_string(),
            false => self.exports.iter().map(|export| format!("`{export}`")).collect::<Vec<_>>().join(", "),
        };
        let hint = match found[..] {
            [other] => format!(", which is the kind `{other}`"),
            _ => String::new(),
        };
        Err(PluginError::WrongKind {
            file: component.into(),
            kind: kind.to_string(),
            found: format!("{listed}{hint}"),
            expected: format!("`{}{CONTRACT}` and no other interface of a kind", name(kind)),
        })
    }

    fn check_imports(&self, manifest: &Manifest, manifest_file: &Path, component: &Path) -> Result<()> {
        let doors: &[&str] = match manifest.kind {
            Kind::SearchTool => &["types", "images", "corpus", "config", "log"],
            Kind::Reward => &["types", "config", "log"],
            Kind::DatasetFilter => &["types", "images", "config", "log"],
        };
        for import in &self.imports {
            let reason = match import.strip_prefix(PACKAGE) {
                Some(rest) => {
                    let interface = rest.split('@').next().unwrap_or_default();
                    if doors.contains(&interface) {
                        continue;
                    }
                    format!("plugins of kind `{}` have no such door", manifest.kind)
                }
                None if wasi::LINKED.iter().any(|prefix| import.starts_with(prefix)) => continue,
                None if HTTP.iter().any(|prefix| import.starts_with(prefix)) => {
                    if manifest.ask.hosts.is_empty() {
                        return Err(PluginError::MissingAsk {
                            file: manifest_file.into(),
                            import: import.clone(),
                            line: "`hosts = [\"api.example.org\"]` under `[ask]`".into(),
                        });
                    }
                    continue;
                }
                None if import.starts_with("wasi:sockets/") => "plugins have no sockets; the way to the network is `wasi:http`".to_string(),
                None => format!("the host offers plugins the contract's doors ({}) and an inert WASI 0.2, nothing else", doors.join(", ")),
            };
            return Err(PluginError::ForbiddenImport { file: component.into(), import: import.clone(), reason });
        }
        if self.imports_door("corpus") && manifest.ask.corpora.is_empty() {
            return Err(PluginError::MissingAsk {
                file: manifest_file.into(),
                import: format!("{PACKAGE}corpus@{CONTRACT}"),
                line: "`corpora = [\"default\"]` under `[ask]`".into(),
            });
        }
        Ok(())
    }
}

/// Same major and minor version, and no patch that this host does not know yet.
fn is_supported(version: &str) -> bool {
    match (parse_version(version), parse_version(CONTRACT)) {
        (Some(found), Some(own)) => found[..2] == own[..2] && found[2] <= own[2],
        _ => false,
    }
}

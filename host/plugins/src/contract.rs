//! Reads from a component's bytes, before anything is compiled, what it was built against.

use crate::doors::wasi;
use crate::manifest::{Kind, Manifest, parse_version};
use crate::{PluginError, Result};
use std::path::Path;
use wasmparser::{Encoding, Parser, Payload};

/// Version of the contract that new plugins are built against.
pub const CONTRACT: &str = "0.2.0";
/// Every version that this host speaks. None is ever taken back.
const VERSIONS: [&str; 2] = ["0.1.0", CONTRACT];
const PACKAGE: &str = "mmhost:plugin/";
/// In which versions each interface was published, the newest first.
const INTERFACES: [(&str, &[&str]); 10] = [
    ("types", &["0.1.0"]),
    ("images", &["0.1.0"]),
    ("corpus", &["0.1.0"]),
    ("config", &["0.1.0"]),
    ("log", &["0.1.0"]),
    ("llm", &["0.2.0"]),
    ("http", &["0.2.0"]),
    ("tool", &["0.1.0"]),
    ("scoring", &["0.2.0", "0.1.0"]),
    ("filtering", &["0.1.0"]),
];
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

    /// The lowest version of the contract that has all that the component uses, or what it names that no version has: the newest among
    /// its interfaces, since each keeps the version in which it was published.
    pub fn contract(&self) -> Option<&str> {
        let versions = self.exports.iter().chain(&self.imports).filter_map(|name| interface(name).map(|(_, version)| version));
        // A version that is none is the more remarkable.
        versions.max_by_key(|version| parse_version(version).unwrap_or([u64::MAX; 3]))
    }

    /// Whether the component exports an interface of the contract in version 0.1.
    pub(crate) fn exports_0_1(&self, wanted: &str) -> bool {
        self.exports.iter().filter_map(|name| interface(name)).any(|(name, version)| name == wanted && version.starts_with("0.1."))
    }

    /// The import of an interface of the contract, if there is one.
    pub(crate) fn door(&self, wanted: &str) -> Option<&String> {
        self.imports.iter().find(|import| interface(import).is_some_and(|(name, _)| name == wanted))
    }

    /// Compares what the component is with what its manifest says, and with what this host offers.
    ///
    /// # Errors
    /// The first disagreement: version of the contract, kind, an import that no door serves, or one that the manifest does not
    /// ask for.
    pub fn check(&self, manifest: &Manifest, manifest_file: &Path, component: &Path) -> Result<()> {
        let version_error = |file: &Path, found: &str| {
            Err(PluginError::ContractVersion { file: file.into(), found: found.into(), expected: VERSIONS.join(" and ") })
        };
        let found = self.contract();
        if let Some(version) = found.filter(|version| !is_supported(version)) {
            return version_error(component, version);
        }
        if !is_supported(&manifest.contract) {
            return version_error(manifest_file, &manifest.contract);
        }
        if let Some(version) = found.filter(|version| parse_version(version) > parse_version(&manifest.contract)) {
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
        let exports = |kind: &Kind| self.exports.iter().filter_map(|name| interface(name)).find(|(name, _)| *name == kind.interface());
        let found: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| exports(kind).is_some()).collect();
        if found == [kind] && exports(&kind).is_some_and(is_published) {
            return Ok(());
        }
        let listed = match self.exports.is_empty() {
            true => "nothing".to_string(),
            false => self.exports.iter().map(|export| format!("`{export}`")).collect::<Vec<_>>().join(", "),
        };
        let hint = match found[..] {
            [other] if other != kind => format!(", which is the kind `{other}`"),
            _ => String::new(),
        };
        Err(PluginError::WrongKind {
            file: component.into(),
            kind: kind.to_string(),
            found: format!("{listed}{hint}"),
            expected: format!("{} and no other interface of a kind", names(kind.interface())),
        })
    }

    fn check_imports(&self, manifest: &Manifest, manifest_file: &Path, component: &Path) -> Result<()> {
        let doors: &[&str] = match manifest.kind {
            Kind::SearchTool => &["types", "images", "corpus", "config", "log", "llm", "http"],
            Kind::Reward => &["types", "config", "log", "llm", "http"],
            Kind::DatasetFilter => &["types", "images", "config", "log", "llm", "http"],
        };
        for import in &self.imports {
            let reason = match import.strip_prefix(PACKAGE) {
                Some(_) if interface(import).is_some_and(|door| doors.contains(&door.0) && is_published(door)) => continue,
                Some(_) => format!("plugins of kind `{}` have no such door", manifest.kind),
                None if wasi::LINKED.iter().any(|prefix| import.starts_with(prefix)) => continue,
                None if is_wasi_http(import) => continue,
                None if import.starts_with("wasi:sockets/") => "plugins have no sockets; the way to the network is `http`".to_string(),
                None => format!("the host offers plugins the contract's doors ({}) and an inert WASI 0.2, nothing else", doors.join(", ")),
            };
            return Err(PluginError::ForbiddenImport { file: component.into(), import: import.clone(), reason });
        }
        let closed = manifest.ask.closed_doors().find_map(|(door, line)| {
            let wasi = || self.imports.iter().find(|import| door == "http" && is_wasi_http(import));
            Some((self.door(door).or_else(wasi)?, line))
        });
        match closed {
            Some((import, line)) => {
                Err(PluginError::MissingAsk { file: manifest_file.into(), import: import.clone(), line: format!("`{line}` under `[ask]`") })
            }
            None => Ok(()),
        }
    }
}

/// Whether an import is what the host offers of `wasi:http`.
fn is_wasi_http(import: &str) -> bool {
    HTTP.iter().any(|prefix| import.starts_with(prefix))
}

/// Name and version of an interface of the contract.
fn interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// Whether a version of an interface is one that was published.
fn is_published((name, version): (&str, &str)) -> bool {
    versions(name).iter().any(|own| is_compatible(version, own))
}

fn versions(interface: &str) -> &'static [&'static str] {
    INTERFACES.iter().find(|(name, _)| *name == interface).map_or(&[], |(_, versions)| *versions)
}

/// Every full name of an interface, in words.
fn names(interface: &str) -> String {
    let names: Vec<String> = versions(interface).iter().map(|version| format!("`{PACKAGE}{interface}@{version}`")).collect();
    names.join(" or ")
}

fn is_supported(version: &str) -> bool {
    VERSIONS.into_iter().any(|own| is_compatible(version, own))
}

/// Same major and minor version as one of the host's own, and no patch that this host does not know yet.
fn is_compatible(version: &str, own: &str) -> bool {
    match (parse_version(version), parse_version(own)) {
        (Some(found), Some(own)) => found[..2] == own[..2] && found[2] <= own[2],
        _ => false,
    }
}

//! The files that a new plugin's folder is made of. They are real files of this repository: templates, the contract, the SDK and the
//! bindings.

use crate::build::Lang;
use crate::manifest::Kind;

/// A file of `templates/`.
macro_rules! template {
    ($path:literal) => {
        include_bytes!(concat!("../../templates/", $path)).as_slice()
    };
}

/// Files of a folder, by name.
macro_rules! files {
    ($include:ident, $folder:literal, $($name:literal),+ $(,)?) => {
        [$(($name, $include!(concat!("../../../../", $folder, "/", $name)))),+]
    };
}

/// The contract.
pub(super) const WIT: [(&str, &str); 11] = files!(
    include_str,
    "wit",
    "llm.wit",
    "http.wit",
    "search-tool.wit",
    "reward.wit",
    "dataset-filter.wit",
    "deps/plugin-0.1.0/types.wit",
    "deps/plugin-0.1.0/images.wit",
    "deps/plugin-0.1.0/corpus.wit",
    "deps/plugin-0.1.0/search-tool.wit",
    "deps/plugin-0.1.0/reward.wit",
    "deps/plugin-0.1.0/dataset-filter.wit",
);

/// What wit-bindgen makes of the contract for C, and the objects that carry the types of the worlds.
pub(super) const C_BINDINGS: [(&str, &[u8]); 9] = [
    ("search_tool.h", include_bytes!("../../../../plugins/sdk-c/search_tool.h")),
    ("search_tool.c", include_bytes!("../../../../plugins/sdk-c/search_tool.c")),
    ("search_tool_component_type.o", include_bytes!("../../../../plugins/sdk-c/search_tool_component_type.o")),
    ("reward.h", include_bytes!("../../../../plugins/sdk-c/reward.h")),
    ("reward.c", include_bytes!("../../../../plugins/sdk-c/reward.c")),
    ("reward_component_type.o", include_bytes!("../../../../plugins/sdk-c/reward_component_type.o")),
    ("dataset_filter.h", include_bytes!("../../../../plugins/sdk-c/dataset_filter.h")),
    ("dataset_filter.c", include_bytes!("../../../../plugins/sdk-c/dataset_filter.c")),
    ("dataset_filter_component_type.o", include_bytes!("../../../../plugins/sdk-c/dataset_filter_component_type.o")),
];

/// The Rust SDK.
const SDK: [(&str, &str); 8] = files!(
    include_str,
    "plugins/sdk",
    "Cargo.toml",
    "src/lib.rs",
    "src/bindings.rs",
    "src/tool.rs",
    "src/reward.rs",
    "src/filter.rs",
    "src/llm.rs",
    "src/http.rs"
);

/// Every file of a new folder: its path and its content, in which marks are to be filled.
pub(super) fn of(kind: Kind, lang: Lang) -> Vec<(String, &'static [u8])> {
    let (manifest, test) = match kind {
        Kind::SearchTool => (template!("manifest/tool.toml"), template!("tests/tool.json")),
        Kind::Reward => (template!("manifest/reward.toml"), template!("tests/reward.json")),
        Kind::DatasetFilter => (template!("manifest/filter.toml"), template!("tests/filter.json")),
    };
    let (main, source) = match (lang, kind) {
        (Lang::Rust, Kind::SearchTool) => ("src/lib.rs", template!("rust/src/tool.rs")),
        (Lang::Rust, Kind::Reward) => ("src/lib.rs", template!("rust/src/reward.rs")),
        (Lang::Rust, Kind::DatasetFilter) => ("src/lib.rs", template!("rust/src/filter.rs")),
        (Lang::Python, Kind::SearchTool) => ("src/plugin.py", template!("python/src/tool.py")),
        (Lang::Python, Kind::Reward) => ("src/plugin.py", template!("python/src/reward.py")),
        (Lang::Python, Kind::DatasetFilter) => ("src/plugin.py", template!("python/src/filter.py")),
        (Lang::JavaScript, Kind::SearchTool) => ("src/plugin.js", template!("javascript/src/tool.js")),
        (Lang::JavaScript, Kind::Reward) => ("src/plugin.js", template!("javascript/src/reward.js")),
        (Lang::JavaScript, Kind::DatasetFilter) => ("src/plugin.js", template!("javascript/src/filter.js")),
        (Lang::C, Kind::SearchTool) => ("src/plugin.c", template!("c/src/tool.c")),
        (Lang::C, Kind::Reward) => ("src/plugin.c", template!("c/src/reward.c")),
        (Lang::C, Kind::DatasetFilter) => ("src/plugin.c", template!("c/src/filter.c")),
    };
    let mut files = vec![
        ("plugin.toml".to_string(), manifest),
        (main.to_string(), source),
        ("tests/first.json".to_string(), test),
        ("README.md".to_string(), template!("readme.md")),
        (".gitignore".to_string(), template!("gitignore")),
    ];
    files.extend(WIT.iter().map(|(name, text)| (format!("wit/{name}"), text.as_bytes())));
    match lang {
        Lang::Rust => {
            files.push(("Cargo.toml".into(), template!("rust/Cargo.toml")));
            files.extend(SDK.iter().map(|(name, text)| (format!("vendor/mmhost-sdk/{name}"), text.as_bytes())));
        }
        Lang::JavaScript => files.push(("package.json".into(), template!("javascript/package.json"))),
        Lang::C => {
            let world = kind.to_string().replace('-', "_");
            let bindings = C_BINDINGS.iter().filter(|(name, _)| name.starts_with(&world));
            files.extend(bindings.map(|(name, content)| (format!("bindings/{name}"), *content)));
        }
        Lang::Python => {}
    }
    files
}

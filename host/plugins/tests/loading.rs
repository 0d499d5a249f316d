//! Folders that cannot be loaded, and what is said about them.

mod common;
#[path = "common/guest.rs"]
mod guest;

use common::{Flags, host, reference};
use guest::{Folder, TOOL, component};
use mmhost_plugins::{Demands, Grant, Grants, HostOptions, PluginError, PluginHost};
use std::path::Path;
use std::sync::Arc;

fn error(dir: &Path) -> PluginError {
    host(&[]).load_dir(dir).map(|_| ()).unwrap_err()
}

/// The error, whose message must contain every word.
#[track_caller]
fn assert_says(error: &PluginError, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

fn tool() -> Vec<u8> {
    component("search-tool", "0.1.0", TOOL)
}

#[test]
fn a_changed_component_is_refused() {
    let folder = Folder::new("search-tool", "", &tool());
    host(&[]).load_dir(folder.path()).unwrap();
    // The folder of the plugin itself loads too, by the lock file beside it.
    host(&[]).load_dir(&folder.plugin()).unwrap();
    let mut bytes = tool();
    bytes.push(0);
    std::fs::write(folder.plugin().join("guest.wasm"), bytes).unwrap();
    let error = error(folder.path());
    assert!(matches!(error, PluginError::Digest { .. }));
    assert_says(&error, &["guest.wasm", "wrong digest", "plugins.lock", "mmhost plugin build"]);
}

#[test]
fn an_unpinned_or_missing_component_is_refused() {
    let folder = Folder::new("search-tool", "", &tool());
    std::fs::remove_file(folder.path().join("plugins.lock")).unwrap();
    let unpinned = error(folder.path());
    assert!(matches!(unpinned, PluginError::NotPinned { .. }), "{unpinned}");
    std::fs::remove_file(folder.plugin().join("guest.wasm")).unwrap();
    assert_says(&error(&folder.plugin()), &["guest.wasm", "is not there", "mmhost plugin build"]);
    // Beside others it is no obstacle to a run that does not use it.
    let plugins = host(&[]).load_dir(folder.path()).unwrap();
    assert!(plugins.tools.is_empty() && matches!(plugins.set_aside["guest"], PluginError::NotBuilt { .. }));
    let demands = Demands { used: ["guest".to_string()].into(), ..Demands::default() };
    assert_says(&host(&[]).demanding(demands).load_dir(folder.path()).map(drop).unwrap_err(), &["is not there"]);
}

#[test]
fn another_version_of_the_contract_is_refused_before_compiling() {
    let newer = component("search-tool", "0.3.0", TOOL);
    let folder = Folder::new("search-tool", "", &newer);
    let error_ = error(folder.path());
    assert!(matches!(&error_, PluginError::ContractVersion { found, .. } if found == "0.3.0"), "{error_}");
    assert_says(&error_, &["guest.wasm", "0.3.0", "0.1.0 and 0.2.0", "rebuild"]);
    let manifest = |contract: &str| format!("name = \"guest\"\nversion = \"1.0.0\"\nkind = \"search-tool\"\ncontract = \"{contract}\"\n");
    let folder = Folder::with_manifest(&manifest("0.3.0"), &tool());
    assert_says(&error(folder.path()), &["plugin.toml", "0.3.0"]);
    // A version that is spoken, of an interface that was not published in it.
    let folder = Folder::with_manifest(&manifest("0.2.0"), &component("search-tool", "0.2.0", TOOL));
    assert_says(&error(folder.path()), &["guest.wasm", "must export `mmhost:plugin/tool@0.1.0`", "exports `mmhost:plugin/tool@0.2.0`"]);
    // A manifest that claims less than the component needs.
    let judge = std::fs::read(reference().join("judge-reward/judge-reward.wasm")).unwrap();
    let folder = Folder::with_manifest(&manifest("0.1.0").replace("search-tool", "reward"), &judge);
    assert_says(&error(folder.path()), &["plugin.toml", "field `contract`: found `0.1.0`, expected `0.2.0`"]);
}

#[test]
fn a_kind_that_the_component_is_not_is_refused() {
    let folder = Folder::new("reward", "", &tool());
    let error = error(folder.path());
    assert!(matches!(error, PluginError::WrongKind { .. }));
    assert_says(&error, &["kind `reward`", "mmhost:plugin/tool@0.1.0", "which is the kind `search-tool`"]);
}

#[test]
fn what_is_no_component_is_refused() {
    for bytes in [&b"hello"[..], b"", &wat::parse_str("(module)").unwrap(), &tool()[..500]] {
        let folder = Folder::new("search-tool", "", bytes);
        let error = error(folder.path());
        assert!(matches!(error, PluginError::NotAComponent { .. }), "{error}");
    }
}

#[test]
fn imports_without_a_door_are_refused() {
    for (import, word) in [
        ("wasi:http/outgoing-handler@0.2.0", "does not ask for it"),
        ("wasi:sockets/tcp@0.2.0", "no sockets"),
        ("mmhost:plugin/corpus@0.1.0", "does not ask for it"),
        ("mmhost:plugin/corpus@0.2.0", "no such door"),
        ("mmhost:plugin/secrets@0.1.0", "no such door"),
        ("evil:host/files@1.0.0", "nothing else"),
    ] {
        let text = format!("(component (import \"{import}\" (instance $i)) (export \"mmhost:plugin/tool@0.1.0\" (instance $i)))");
        let manifest = "name = \"guest\"\nversion = \"1.0.0\"\nkind = \"search-tool\"\ncontract = \"0.2.0\"\n";
        let folder = Folder::with_manifest(manifest, &wat::parse_str(text).unwrap());
        assert_says(&error(folder.path()), &[import, word]);
    }
}

#[test]
fn a_folder_with_a_component_and_no_manifest_is_not_overlooked() {
    let folder = Folder::new("search-tool", "", &tool());
    std::fs::remove_file(folder.plugin().join("plugin.toml")).unwrap();
    assert_says(&error(folder.path()), &["plugin.toml", "cannot read the manifest"]);
    std::fs::remove_file(folder.plugin().join("guest.wasm")).unwrap();
    let empty = error(folder.path());
    assert!(matches!(empty, PluginError::Empty { .. }), "{empty}");
    assert_says(&error(Path::new("/does/not/exist")), &["/does/not/exist", "cannot list"]);
}

#[test]
fn a_missing_field_and_every_other_fault_are_reported_together() {
    let folder = Folder::with_manifest("name = \"guest\"\nversion = \"1.0.0\"\ncontract = \"0.1.0\"\n", &tool());
    assert_says(&error(folder.path()), &["plugin.toml", "missing field `kind`"]);
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::write(folder.path().join("other/plugin.toml"), "nonsense").unwrap();
    let error = error(folder.path());
    assert!(matches!(&error, PluginError::Several { errors } if errors.len() == 2));
    assert_says(&error, &["missing field `kind`", "other/plugin.toml"]);
}

#[test]
fn what_is_asked_for_must_be_granted() {
    let grants = |corpora: &[&str]| -> Grants {
        let corpora = corpora.iter().map(|corpus| corpus.to_string()).collect();
        [("text-search".to_string(), Grant { corpora, ..Grant::default() })].into()
    };
    host(&[]).with_grants(grants(&["default", "other"])).load_dir(&reference()).unwrap();
    let refused = host(&[]).with_grants(grants(&["other"])).load_dir(&reference()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, PluginError::MissingGrant { .. }));
    assert_says(&refused, &["text-search", "corpus `default`", "corpora = [\"default\"]"]);
}

#[test]
fn a_configuration_for_nobody_is_refused() {
    let refused = host(&[("image-serach", serde_json::json!({}))]).load_dir(&reference()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, PluginError::UnknownPlugin { .. }));
    assert_says(&refused, &["`image-serach`", "did you mean `image-search`?", "sample-filter"]);
}

#[test]
fn compiled_components_are_kept_and_damaged_ones_replaced() {
    let temporary = tempfile::tempdir().unwrap();
    let cache = temporary.path().join("a/b");
    let load = || {
        let options = HostOptions { cache_dir: cache.clone(), corpus: Arc::new(Flags), config: Default::default() };
        PluginHost::new(options).unwrap().load_dir(&reference()).unwrap()
    };
    load();
    let files = || -> Vec<_> { std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect() };
    assert_eq!(files().len(), 8);
    let content = std::fs::read(&files()[0]).unwrap();
    let time = |file: &Path| std::fs::metadata(file).unwrap().modified().unwrap();
    let written = time(&files()[0]);
    load();
    assert_eq!(time(&files()[0]), written);
    for damage in [&content[..content.len() / 2], b"", b"mmhost compiled\nnonsense"] {
        std::fs::write(&files()[0], damage).unwrap();
        load();
        assert_eq!(std::fs::read(&files()[0]).unwrap().len(), content.len());
    }
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let options = HostOptions { cache_dir: temporary.path().into(), corpus: Arc::new(Flags), config: Default::default() };
    PluginHost::new(options).unwrap().load_dir(&reference()).unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn plugins_are_listed_and_inspected_without_running() {
    let rows = mmhost_plugins::inspect::list(&reference()).unwrap();
    assert!(rows.iter().all(|row| row.problem.is_none()), "{rows:?}");
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let expected = [
        "calculator",
        "f1-reward",
        "image-crop",
        "image-search",
        "judge-reward",
        "levenshtein-reward",
        "mmsearch-reward",
        "sample-filter",
        "text-search",
        "web-search",
    ];
    assert_eq!(names, expected);
    let inspection = mmhost_plugins::inspect::inspect(&reference().join("text-search")).unwrap();
    assert_eq!(inspection.exports, ["mmhost:plugin/tool@0.1.0"]);
    assert!(inspection.imports.iter().any(|import| import == "mmhost:plugin/corpus@0.1.0"));
    assert!(!inspection.imports.iter().any(|import| import.contains("sockets") || import.contains("http")));
    assert_eq!(inspection.config["call"], "text_search");
    assert_eq!(inspection.facts.asks, ["corpus default"]);
    assert_eq!(inspection.sources_match, Some(true));

    let folder = Folder::new("reward", "", &tool());
    let rows = mmhost_plugins::inspect::list(folder.path()).unwrap();
    assert!(rows[0].problem.as_ref().unwrap().contains("kind `reward`"));
}

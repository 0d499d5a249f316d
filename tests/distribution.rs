//! Plugins that come from elsewhere: registries, archives, signatures, and what becomes of those that are not what they should be.

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Mmhost, root};
use registry::{PASSWORD, Registry, USER, base64};

const WEB: &str = "web-search";

/// Something done to an artifact's manifest.
type Change = fn(&mut serde_json::Value);

/// A file of a reference plugin.
fn reference(plugin: &str, file: &str) -> Vec<u8> {
    fs::read(root().join("plugins").join(plugin).join(file)).unwrap()
}

/// A folder with the two files of a reference plugin, by its name in the scratch folder.
fn copy(mmhost: &Mmhost, plugin: &str) -> String {
    let folder = mmhost.path("mine").join(plugin);
    fs::create_dir_all(&folder).unwrap();
    for file in [format!("{plugin}.wasm"), "plugin.toml".into()] {
        fs::write(folder.join(&file), reference(plugin, &file)).unwrap();
    }
    format!("mine/{plugin}")
}

/// A `.tar.gz`: names, kinds and contents as given, however bad.
fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        // The builder would refuse what the tests are about.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        let linked = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if linked {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn file<'a>(name: &'a str, content: &'a [u8]) -> (&'a str, tar::EntryType, &'a [u8]) {
    (name, tar::EntryType::Regular, content)
}

/// A secret key in `NAME.key` and its public half in `NAME.pub`, as `minisign -G -W` writes them: without a password, and without the
/// checksum that the library gives them.
fn key(mmhost: &Mmhost, name: &str) -> minisign::KeyPair {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let mut secret = pair.sk.to_bytes();
    let checksum = secret.len() - 32..;
    secret[checksum].fill(0);
    fs::write(mmhost.path(&format!("{name}.key")), format!("untrusted comment: secret\n{}\n", base64(secret))).unwrap();
    fs::write(mmhost.path(&format!("{name}.pub")), pair.pk.to_box().unwrap().to_string()).unwrap();
    pair
}

fn lock(folder: &Path) -> toml::Table {
    toml::from_str(&fs::read_to_string(folder.join("plugins.lock")).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// Nothing in the folder of plugins, not even the folder.
#[track_caller]
fn assert_nothing_added(mmhost: &Mmhost) {
    let found: Vec<_> = fs::read_dir(mmhost.path("plugins")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_published_plugin_is_added_and_pinned_to_the_artifact() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let folder = copy(&mmhost, WEB);
    let name = format!("oci://{}/private/web-search", registry.host());
    let tagged = format!("{name}:0.1.0");
    fs::create_dir(mmhost.path("docker")).unwrap();
    let run = |args: &[&str]| {
        let out = mmhost.command(args).env("DOCKER_CONFIG", mmhost.path("docker")).env("PASSWORD", PASSWORD).output().unwrap();
        let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(!said.contains(PASSWORD) && !said.contains(&base64(format!("{USER}:{PASSWORD}"))), "{said}");
        (out.status.code(), said)
    };

    // Who may: nobody, the wrong one, one of the command line, one of docker's file.
    let (code, said) = run(&["plugin", "publish", &folder, &tagged]);
    assert!(code == Some(3) && said.contains("as nobody") && said.contains("docker login"), "{said}");
    let user = ["--username", "other", "--password-env", "PASSWORD"];
    let (code, said) = run(&[&["plugin", "publish", &folder, &tagged][..], &user].concat());
    assert!(code == Some(3) && said.contains("no token") && said.contains("as other"), "{said}");
    let (code, said) = run(&[&["plugin", "publish", &folder, &tagged, "--username", USER, "--password-env", "UNSET"][..]].concat());
    assert!(code == Some(3) && said.contains("UNSET"), "{said}");
    let (code, first) = run(&[&["plugin", "publish", &folder, &tagged, "--username", USER, "--password-env", "PASSWORD"][..]].concat());
    assert_eq!(code, Some(0), "{first}");
    let auths = serde_json::json!({"auths": {registry.host(): {"auth": base64(format!("{USER}:{PASSWORD}"))}}});
    fs::write(mmhost.path("docker/config.json"), auths.to_string()).unwrap();
    let before = registry.requests().len();
    let (code, again) = run(&["plugin", "publish", &folder, &tagged]);
    assert!(code == Some(0) && first == again, "the same artifact: {again}");
    assert!(!registry.requests()[before..].iter().any(|request| request.contains("uploads")), "what is there is not sent again");

    // The artifact is what other clients of Wasm artifacts expect.
    let manifest = registry.manifest("private/web-search/0.1.0");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{}", sha256(&reference(WEB, "web-search.wasm"))));
    let titles: Vec<_> =
        manifest["layers"].as_array().unwrap().iter().map(|l| &l["annotations"]["org.opencontainers.image.title"]).collect();
    assert_eq!(titles, ["web-search.wasm", "plugin.toml"]);

    let artifact = first.lines().find_map(|line| line.strip_prefix("artifact")).unwrap().trim();
    assert!(artifact.starts_with(&format!("{name}@sha256:")), "{artifact}");
    let (code, said) = run(&["plugin", "add", &tagged]);
    assert!(code == Some(0) && said.contains(artifact) && said.contains("signed by  nobody"), "{said}");
    let added = mmhost.path("plugins");
    for file in ["web-search.wasm", "plugin.toml"] {
        assert_eq!(fs::read(added.join(WEB).join(file)).unwrap(), reference(WEB, file));
    }
    let pin = &lock(&added)["plugins"][WEB];
    assert_eq!(pin["source"].as_str(), Some(artifact));
    assert_eq!(pin["component"].as_str().unwrap(), format!("sha256:{}", sha256(&reference(WEB, "web-search.wasm"))));
    assert!(mmhost.ok(&["plugin", "inspect", "plugins/web-search"]).contains(artifact));
    let left: Vec<_> = fs::read_dir(&added).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    // Granted by the lines that it printed, and by nothing else.
    let lines = said.split("configuration:\n\n").nth(1).unwrap();
    let tiny = fs::read_to_string(common::tiny_config()).unwrap().replace("\"text-search\"]", "\"web-search\"]");
    fs::write(mmhost.path("run.toml"), &tiny).unwrap();
    mmhost.fails(3, &["plugin", "list", "plugins", "--config", "run.toml"]);
    fs::write(mmhost.path("run.toml"), format!("{tiny}\n{lines}")).unwrap();
    mmhost.ok(&["plugin", "list", "plugins", "--config", "run.toml"]);

    // By digest; in the place of another; not over one with sources.
    let (code, said) = run(&["plugin", "add", artifact]);
    assert!(code == Some(3) && said.contains("--replace"), "{said}");
    let (code, said) = run(&["plugin", "add", artifact, "--replace"]);
    assert_eq!(code, Some(0), "{said}");
    fs::write(added.join(WEB).join("Cargo.toml"), "").unwrap();
    let (code, said) = run(&["plugin", "add", artifact, "--replace"]);
    assert!(code == Some(3) && said.contains("Cargo.toml, which would be lost"), "{said}");
    assert!(added.join(WEB).join("Cargo.toml").exists());
    mmhost.fails(2, &["plugin", "publish", &folder, &format!("{name}@sha256:{}", "0".repeat(64))]);

    // A tag that comes to name something else does not do so in silence.
    let manifest = mmhost.path(&folder).join("plugin.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("k = 3", "k = 4")).unwrap();
    let (code, said) = run(&["plugin", "publish", &folder, &tagged]);
    assert!(code == Some(0) && said.contains(&format!("named {artifact} before")), "{said}");
}

#[test]
fn a_registry_that_gives_out_something_else_is_not_believed() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let folder = copy(&mmhost, WEB);
    let name = format!("oci://{}/me/web-search", registry.host());
    let said = mmhost.ok(&["plugin", "publish", &folder, &format!("{name}:1")]);
    let artifact = said.lines().find_map(|line| line.strip_prefix("artifact")).unwrap().trim();
    let digest = artifact.split("sha256:").nth(1).unwrap();
    let good = registry.manifest("me/web-search/1");
    let add = |source: &str, words: &[&str]| {
        let message = mmhost.fails(3, &["plugin", "add", source]);
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
        assert_nothing_added(&mmhost);
    };
    let with = |change: Change| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };

    registry.set_manifest(&format!("me/web-search/sha256:{digest}"), &with(|m| m["annotations"] = serde_json::json!({})));
    add(artifact, &["its manifest: ", "Invalid digest", digest]);
    let changes: [(Change, &[&str]); 6] = [
        (
            |m| m["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into(),
            &["config", "image.config", "vnd.wasm.config.v0+json"],
        ),
        (|m| drop(m["layers"].as_array_mut().unwrap().pop()), &["no layer", "manifest.v1+toml"]),
        (|m| m["layers"][1] = m["layers"][0].clone(), &["2 layers `application/wasm`", "expected one"]),
        (|m| m["layers"][0]["size"] = (1u64 << 40).into(), &["size of layer", "1099511627776"]),
        (|m| m["layers"][0]["digest"] = "sha256:../../x".into(), &["digest of layer", "../../x"]),
        (|m| *m = serde_json::json!([]), &["config"]),
    ];
    for (change, words) in changes {
        registry.set_manifest("me/web-search/bad", &with(change));
        add(&format!("{name}:bad"), words);
    }
    add(&format!("{name}:none"), &["404 Not Found"]);
    let sha256 = ["--sha256", &"0".repeat(64)];
    let message = mmhost.fails(3, &[&["plugin", "add", &format!("{name}:1")][..], &sha256].concat());
    assert!(message.contains(digest) && message.contains("the artifact"), "{message}");

    let component = good["layers"][0]["digest"].as_str().unwrap();
    registry.set_blob(component, b"something else");
    add(&format!("{name}:1"), &["Invalid digest", component]);
    registry.set_blob(component, &vec![0; 2 << 20]);
    add(&format!("{name}:1"), &["more than"]);
    registry.set_token("two\r\nlines");
    add(&format!("{name}:1"), &["token does not fit"]);
}

#[test]
fn an_archive_is_added_from_a_server_or_a_file() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let (component, manifest) = (reference(WEB, "web-search.wasm"), reference(WEB, "plugin.toml"));
    let packed = archive(&[
        ("web-search-1.0/", tar::EntryType::Directory, b""),
        file("web-search-1.0/src/lib.rs", b"fn main() {}"),
        file("web-search-1.0/web-search.wasm", &component),
        file("web-search-1.0/plugin.toml", &manifest),
    ]);
    let url = registry.serve("web-search.tar.gz", &packed);
    let digest = sha256(&packed);
    let message = mmhost.fails(3, &["plugin", "add", &url, "--sha256", &sha256(b"")]);
    assert!(message.contains(&digest) && message.contains(&sha256(b"")), "{message}");
    assert_nothing_added(&mmhost);
    let said = mmhost.ok(&["plugin", "add", &format!("{url}?token=hidden"), "--sha256", &digest.to_uppercase()]);
    assert!(said.contains(&url) && !said.contains("hidden"), "{said}");
    let pins = fs::read_to_string(mmhost.path("plugins/plugins.lock")).unwrap();
    assert!(pins.contains(&url) && !pins.contains("hidden"), "{pins}");
    assert!(!mmhost.path("plugins/web-search/src").exists(), "sources stay where they are");

    fs::write(mmhost.path("web.tar.gz"), &packed).unwrap();
    mmhost.ok(&["plugin", "add", "web.tar.gz", "--plugins", "other", "--sha256", &digest]);
    let pin = lock(&mmhost.path("other"))["plugins"][WEB].clone();
    assert!(pin.get("source").is_none(), "a path says nothing elsewhere: {pin}");
    let folder = copy(&mmhost, WEB);
    mmhost.ok(&["plugin", "add", &folder, "--plugins", "third", "--sha256", &sha256(&component)]);
    mmhost.fails(3, &["plugin", "add", &folder, "--plugins", "fourth", "--sha256", &digest]);
    assert!(!mmhost.path("fourth").exists());
    mmhost.ok(&["plugin", "list", "third"]);
}

#[test]
fn hostile_archives_are_refused_whole() {
    use tar::EntryType::{Char, Fifo, Link, Regular, Symlink};
    let mmhost = Mmhost::new();
    let (component, manifest) = (reference(WEB, "web-search.wasm"), reference(WEB, "plugin.toml"));
    let good = [file("p/plugin.toml", &manifest), file("p/web-search.wasm", &component)];
    let also = |name: &'static str, kind| archive(&[&good[..], &[(name, kind, b"")]].concat());
    let text = String::from_utf8(manifest.clone()).unwrap();
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    };
    let (newer, led_out) =
        (edited("contract = \"0.2.0\"", "contract = \"9.0.0\""), edited("kind = ", "component = \"../x.wasm\"\nkind = "));
    let whole = archive(&good);
    let zeros = vec![0; 300 << 20];
    let many: Vec<_> = (0..10_001).map(|_| file("p/x", b"")).collect();
    let mut flipped = whole.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    for (packed, words) in [
        (also("p/../../escaped", Regular), &["escaped", "stay within the archive"][..]),
        (also("../plugins.lock", Regular), &["plugins.lock", "stay within"]),
        (also("/tmp/absolute", Regular), &["/tmp/absolute", "stay within"]),
        (also("p/link", Symlink), &["p/link", "symbolic link", "plain files"]),
        (also("p/hard", Link), &["p/hard", "hard link"]),
        (also("p/fifo", Fifo), &["p/fifo", "special file"]),
        (also("p/dev", Char), &["p/dev", "special file"]),
        (also("q/plugin.toml", Regular), &["p/plugin.toml and q/plugin.toml", "one plugin"]),
        (also("p/./plugin.toml", Regular), &["twice"]),
        (archive(&[file("p/web-search.wasm", &component)]), &["no plugin.toml", "one plugin"]),
        (archive(&[file("p/plugin.toml", &manifest)]), &["no web-search.wasm beside p/plugin.toml"]),
        (archive(&[file("p/plugin.toml", &manifest), file("q/web-search.wasm", &component)]), &["no web-search.wasm beside"]),
        (archive(&[&good[..], &[file("p/notes", &zeros)]].concat()), &["grows without end", "268435456"]),
        (archive(&[file("p/web-search.wasm", &zeros)]), &["grows without end"]),
        (archive(&many), &["10000 entries"]),
        (archive(&[file("p/plugin.toml", b"name = "), file("p/web-search.wasm", &component)]), &["TOML parse error"]),
        (archive(&[file("p/plugin.toml", b"\xff"), file("p/web-search.wasm", &component)]), &["its manifest", "UTF-8"]),
        (
            archive(&[file("p/plugin.toml", &vec![b' '; 2 << 20]), file("p/web-search.wasm", &component)]),
            &["its manifest", "at most 1048576"],
        ),
        (archive(&[file("p/plugin.toml", &newer), file("p/web-search.wasm", &component)]), &["9.0.0", "this host speaks"]),
        (archive(&[file("p/plugin.toml", &led_out), file("p/web-search.wasm", &component)]), &["field `component`", "../x.wasm"]),
        (archive(&[file("p/plugin.toml", &manifest), file("p/web-search.wasm", b"\0asm\x01\0\0\0")]), &["core module"]),
        (
            archive(&[file("p/plugin.toml", &reference("f1-reward", "plugin.toml")), file("p/f1-reward.wasm", &component)]),
            &["kind `reward`"],
        ),
        (whole[..whole.len() / 2].to_vec(), &["a whole .tar.gz"]),
        (whole[..whole.len() - 8].to_vec(), &["a whole .tar.gz"]),
        (flipped, &["a whole .tar.gz"]),
        (b"no archive".to_vec(), &["a whole .tar.gz"]),
    ] {
        fs::write(mmhost.path("bad.tar.gz"), packed).unwrap();
        let message = mmhost.fails(3, &["plugin", "add", "bad.tar.gz"]);
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
        assert_nothing_added(&mmhost);
    }
    assert!(!mmhost.path("escaped").exists() && !Path::new("/tmp/absolute").exists());
    fs::write(mmhost.path("good.tar.gz"), whole).unwrap();
    mmhost.ok(&["plugin", "add", "good.tar.gz"]);
}

#[test]
fn downloads_that_break_off_or_lead_astray_leave_nothing() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let at = |path: &str| format!("http://{}{path}", registry.host());
    for (path, words) in [
        ("/files/none", &["404 Not Found"][..]),
        ("/broken", &["/broken"]),
        ("/endless", &["more than 134217728 bytes"]),
        ("/redirect?http://example.org/x.tar.gz", &["without encryption", "example.org"]),
        ("/redirect?/redirect?/redirect", &["more than 5 times"]),
    ] {
        let message = mmhost.fails(3, &["plugin", "add", &at(path)]);
        assert!(words.iter().all(|word| message.contains(word)), "{path}: {message}");
        assert_nothing_added(&mmhost);
    }
    for source in ["http://example.org/x.tar.gz", "ftp://example.org/x", "oci://ghcr.io", "https://me:secret@example.org/x"] {
        let message = mmhost.fails(2, &["plugin", "add", source]);
        assert!(message.contains("expected"), "{message}");
    }
    // Killed in the middle.
    let before = registry.requests().len();
    let mut child = mmhost.spawn(&["plugin", "add", &at("/slow")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while registry.requests().len() == before {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no download within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_added(&mmhost);
}

#[test]
fn a_signature_covers_component_and_manifest() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    let pair = key(&mmhost, "mine");
    let (mine, other) = (pair.pk.to_base64(), key(&mmhost, "other").pk.to_base64());
    let folder = copy(&mmhost, WEB);
    let said = mmhost.ok(&["plugin", "sign", &folder, "--key", "mine.key"]);
    assert!(said.contains(&mine) && said.contains("web-search.wasm.minisig"), "{said}");
    let signature = mmhost.path(&folder).join("web-search.wasm.minisig");
    let signed = fs::read_to_string(&signature).unwrap();
    // What minisign itself makes of it.
    let parsed = minisign::SignatureBox::from_string(&signed).unwrap();
    minisign::verify(&pair.pk, &parsed, std::io::Cursor::new(reference(WEB, "web-search.wasm")), true, false, false).unwrap();
    let word = format!("plugin.toml:sha256:{}", sha256(&reference(WEB, "plugin.toml")));
    assert!(parsed.trusted_comment().unwrap().contains(&word));

    // It travels with the plugin, is checked against any of the keys, and is remembered.
    let name = format!("oci://{}/me/web-search:1", registry.host());
    assert!(mmhost.ok(&["plugin", "publish", &folder, &name]).contains("with its signature"));
    let said = mmhost.ok(&["plugin", "add", &name, "--plugins", "unchecked"]);
    assert!(said.contains("was not checked"), "{said}");
    let said = mmhost.ok(&["plugin", "add", &name, "--plugins", "added", "--key", &other, "--key", "mine.pub"]);
    assert!(said.contains(&format!("signed by  {mine}")), "{said}");
    assert_eq!(lock(&mmhost.path("added"))["plugins"][WEB]["signed_by"].as_str(), Some(mine.as_str()));
    assert!(mmhost.ok(&["plugin", "inspect", "added/web-search"]).contains(&mine));

    let refused = |words: &[&str], more: &[&str]| {
        let message = mmhost.fails(3, &[&["plugin", "add", &folder][..], more].concat());
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
        assert_nothing_added(&mmhost);
    };
    refused(&["signature by another key", &other], &["--key", &other]);
    let manifest = mmhost.path(&folder).join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("k = 3", "k = 4")).unwrap();
    // Nobody could add what was published so.
    assert!(mmhost.fails(3, &["plugin", "publish", &folder, &name]).contains("the manifest was changed after signing"));
    refused(&["the manifest was changed after signing", "web-search.wasm.minisig"], &["--key", &mine]);
    fs::write(&manifest, &text).unwrap();
    let component = mmhost.path(&folder).join("web-search.wasm");
    // A custom section more: still a component, of other bytes.
    let tampered = [&reference(WEB, "web-search.wasm")[..], b"\0\x02\x01x"].concat();
    fs::write(&component, tampered).unwrap();
    refused(&["does not fit the component"], &["--key", &mine]);
    fs::write(&component, reference(WEB, "web-search.wasm")).unwrap();

    // Signatures that are none, or are of something less.
    let by_hand = |comment: &str| {
        let bytes = reference(WEB, "web-search.wasm");
        minisign::sign(None, &pair.sk, &bytes[..], Some(comment), None).unwrap().to_string()
    };
    let lines: Vec<&str> = signed.lines().collect();
    let zero = format!("plugin.toml:sha256:{}", "0".repeat(64));
    for (content, words) in [
        (by_hand("timestamp:1"), &["of the component alone"][..]),
        (by_hand(&zero), &["the manifest was changed"]),
        (by_hand(&format!("{zero} {word}")), &["several words"]),
        // Another trusted comment under the old signature.
        (signed.replace(&word, &zero), &["does not fit"]),
        (signed.replace(lines[3], &lines[3][..8]), &["no minisign signature"]),
        (lines[..3].join("\n"), &["no minisign signature"]),
        (String::new(), &["no minisign signature"]),
        ("x".repeat(20 << 10), &["its signature", "at most 16384"]),
    ] {
        fs::write(&signature, content).unwrap();
        refused(words, &["--key", &mine]);
    }
    fs::write(&signature, by_hand(&format!("made by hand\t{word}"))).unwrap();
    mmhost.ok(&["plugin", "add", &folder, "--plugins", "by-hand", "--key", &mine]);
    fs::remove_file(&signature).unwrap();
    refused(&["no such file", "mmhost plugin sign"], &["--key", &mine]);
    // What was signed is only replaced by what the same key signed, unless another is named.
    let replace = ["plugin", "add", &folder, "--plugins", "added", "--replace"];
    let message = mmhost.fails(3, &replace);
    assert!(message.contains("no such file") && message.contains(&mine), "{message}");
    assert!(mmhost.path("added/web-search/web-search.wasm.minisig").exists());
    mmhost.ok(&["plugin", "sign", &folder, "--key", "other.key"]);
    mmhost.fails(3, &replace);
    mmhost.ok(&[&replace[..], &["--key", "other.pub"]].concat());
    mmhost.fails(2, &["plugin", "add", &folder, "--key", "RWnonsense"]);
}

#[test]
fn a_key_with_a_password_needs_it() {
    let mmhost = Mmhost::new();
    let folder = copy(&mmhost, WEB);
    let pair = minisign::KeyPair::generate_encrypted_keypair(Some("long password".into())).unwrap();
    fs::write(mmhost.path("locked.key"), pair.sk.to_box(None).unwrap().to_string()).unwrap();
    let sign = |password: Option<&str>| {
        let mut command = mmhost.command(&["plugin", "sign", &folder, "--key", "locked.key"]);
        password.map(|password| command.env("MMHOST_KEY_PASSWORD", password));
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    for (password, word) in [(None, "MMHOST_KEY_PASSWORD"), (Some("wrong password"), "Wrong password")] {
        let (code, said) = sign(password);
        assert!(code == Some(3) && said.contains("locked.key") && said.contains(word), "{said}");
    }
    let (code, said) = sign(Some("long password"));
    assert!(code == Some(0) && said.contains(&pair.pk.to_base64()), "{said}");
    fs::File::create(mmhost.path("empty.key")).unwrap().write_all(b"").unwrap();
    mmhost.fails(3, &["plugin", "sign", &folder, "--key", "empty.key"]);
    mmhost.fails(3, &["plugin", "sign", &folder, "--key", "none.key"]);
}

/// The commands that operating.md shows for adding plugins.
#[test]
fn the_operators_guide_can_be_followed() {
    let (mmhost, registry) = (Mmhost::new(), Registry::start());
    key(&mmhost, "me");
    let folder = copy(&mmhost, WEB);
    mmhost.ok(&["plugin", "sign", &folder, "--key", "me.key"]);
    mmhost.ok(&["plugin", "publish", &folder, &format!("oci://{}/me/web-search:1.0", registry.host())]);
    let signature = fs::read(mmhost.path(&folder).join("web-search.wasm.minisig")).unwrap();
    let packed = archive(&[
        file("plugin.toml", &reference(WEB, "plugin.toml")),
        file("web-search.wasm", &reference(WEB, "web-search.wasm")),
        file("web-search.wasm.minisig", &signature),
    ]);
    let url = registry.serve("web-search.tar.gz", &packed);
    let guide = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let section = guide.split("## Adding plugins").nth(1).unwrap().split("\n## ").next().unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let block = block.replace("https://example.org/web-search.tar.gz", &url).replace("HEX", &sha256(&packed));
    for line in block.replace("localhost:5000", &registry.host()).lines() {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        mmhost.ok(&words);
    }
    assert_eq!(block.lines().count(), 3);
}

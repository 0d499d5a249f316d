//! The smaller commands of the README, run as it shows them.

mod common;

use std::fs;

use common::Mmhost;

#[test]
fn a_conversation_gives_logits_and_a_continuation() {
    let mmhost = Mmhost::new();
    let model = mmhost.path("model").display().to_string();
    mmhost.ok(&["model", "init", "--out", &model, "--config", &common::tiny_config()]);
    let image = image::RgbImage::from_fn(90, 60, |x, y| image::Rgb([x as u8, y as u8, 128]));
    image.save(mmhost.path("flag.png")).unwrap();
    let chat = mmhost.path("chat.json");
    let messages =
        r#"[{"role": "user", "content": [{"type": "image", "path": "flag.png"}, {"type": "text", "text": "Which flag is this?"}]}]"#;
    fs::write(&chat, messages).unwrap();
    let chat = chat.display().to_string();

    let out = mmhost.path("logits.safetensors");
    mmhost.ok(&["model", "logits", "--model", &model, "--messages", &chat, "--out", &out.display().to_string()]);
    let tensors = candle_core::safetensors::load(&out, &candle_core::Device::Cpu).unwrap();
    let (ids, logits) = (&tensors["input_ids"], &tensors["logits"]);
    assert_eq!(ids.dtype(), candle_core::DType::I64);
    assert_eq!(logits.dims()[0], ids.dims()[0]);
    assert!(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));

    let generate = |seed: &str| {
        let sampling = ["--max-new-tokens", "12", "--temperature", "1", "--seed", seed];
        mmhost.ok(&[&["model", "generate", "--model", &model, "--messages", &chat][..], &sampling].concat())
    };
    assert_eq!(generate("1"), generate("1"), "the same seed, the same words");
    assert_ne!(generate("1"), generate("2"), "another seed, other words");

    fs::write(mmhost.path("flag.png"), b"no image").unwrap();
    let message = mmhost.fails(3, &["model", "generate", "--model", &model, "--messages", &chat]);
    assert!(message.contains("flag.png"), "{message}");
    fs::write(mmhost.path("chat.json"), r#"[{"role": "user"}]"#).unwrap();
    let message = mmhost.fails(3, &["model", "generate", "--model", &model, "--messages", &chat]);
    assert!(message.contains("chat.json") && message.contains("content"), "{message}");
}

#[test]
fn every_command_explains_itself() {
    let mmhost = Mmhost::new();
    for command in [
        &["train"][..],
        &["eval"],
        &["score"],
        &["report"],
        &["watch"],
        &["run", "list"],
        &["run", "show"],
        &["run", "diff"],
        &["run", "prune"],
        &["model", "init"],
        &["model", "inspect"],
        &["model", "logits"],
        &["model", "generate"],
        &["plugin", "new"],
        &["plugin", "build"],
        &["plugin", "check"],
        &["plugin", "call"],
        &["plugin", "bench"],
        &["plugin", "list"],
        &["plugin", "inspect"],
        &["plugin", "add"],
        &["plugin", "sign"],
        &["plugin", "publish"],
        &["data", "atlas"],
        &["data", "inspect"],
        &["schema"],
    ] {
        let help = mmhost.ok(&[command, &["--help"]].concat());
        assert!(help.contains("Usage: mmhost") && help.lines().next().is_some_and(|line| line.len() > 20), "{command:?}\n{help}");
    }
}

/// The tiny configuration asks one question of each relation about a test entity.
#[test]
fn the_atlas_is_written_as_the_configuration_divides_it() {
    let mmhost = Mmhost::new();
    let out = mmhost.path("atlas").display().to_string();
    let written = mmhost.ok(&["data", "atlas", "--out", &out, "--config", &common::tiny_config()]);
    let questions = |file: &str| -> usize {
        let line = written.lines().find(|line| line.starts_with(file)).unwrap_or_else(|| panic!("{file}: {written}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!((questions("test.parquet"), questions("held_out.parquet")), (59 * 4, 20 * 4));
    let inspected = mmhost.ok(&["data", "inspect", &format!("{out}/test.parquet")]);
    assert!(inspected.lines().any(|line| line.starts_with("rows") && line.ends_with("236")), "{inspected}");

    let text = fs::read_to_string(common::tiny_config()).unwrap();
    let sizes = "[data.atlas]\nd = { train = 900, validation = 1, test = 1 }\n";
    fs::write(mmhost.path("large.toml"), text.replace("[data.atlas]\n", sizes)).unwrap();
    let message = mmhost.fails(3, &["data", "atlas", "--out", &out, "--config", "large.toml"]);
    assert!(message.contains("[data.atlas]") && message.contains("held out"), "{message}");
}

/// The table names what is missing and the line to add; with that line, it is granted.
#[test]
fn grants_are_shown_against_what_plugins_ask_for() {
    let mmhost = Mmhost::new();
    let plugins = common::root().join("plugins").display().to_string();
    let tiny = fs::read_to_string(common::tiny_config()).unwrap();
    fs::write(mmhost.path("own.toml"), &tiny).unwrap();
    let table = mmhost.ok(&["plugin", "list", &plugins, "--config", "own.toml"]);
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {table}")).to_owned();
    assert!(row("text-search").split_whitespace().eq(["text-search", "yes", "yes", "corpus", "default"]), "{table}");
    assert!(row("web-search").contains("host serpapi.com, host r.jina.ai, secret SEARCH_KEY"), "{table}");
    let line = "add `hosts = [\"serpapi.com\"]` under [plugins.grants.web-search]";
    assert!(row("web-search").split_whitespace().take(3).eq(["web-search", "no", "no"]) && table.contains(line), "{table}");

    let used = tiny.replace("\"text-search\"]", "\"web-search\"]");
    assert_ne!(used, tiny);
    fs::write(mmhost.path("used.toml"), &used).unwrap();
    let message = mmhost.fails(3, &["plugin", "list", &plugins, "--config", "used.toml"]);
    assert!(message.contains("the run would not start: it uses web-search"), "{message}");
    let message = mmhost.fails(3, &["train", "--plugins", &plugins, "--config", "used.toml", "--run", "run"]);
    assert!(message.contains(line), "{message}");

    let grant = "[plugins.grants.web-search]\nhosts = [\"serpapi.com\", \"r.jina.ai\"]\n\
                 secrets.SEARCH_KEY = { env = \"SEARCH_KEY\", hosts = [\"serpapi.com\"] }\n";
    fs::write(mmhost.path("granted.toml"), format!("{used}\n{grant}")).unwrap();
    let table = mmhost.ok(&["plugin", "list", &plugins, "--config", "granted.toml"]);
    assert!(table.lines().any(|line| line.split_whitespace().take(3).eq(["web-search", "yes", "yes"])), "{table}");
}

#[test]
fn the_real_sample_of_fvqa_reads() {
    let sample = common::root().join("../shared/data/fvqa-mini.parquet");
    if !sample.exists() {
        println!("skipped: {} is not there", sample.display());
        return;
    }
    let out = Mmhost::new().ok(&["data", "inspect", &sample.display().to_string()]);
    assert!(out.lines().any(|line| line.starts_with("rows") && line.ends_with('5')), "{out}");
}

#[test]
fn the_readme_links_to_files_that_exist() {
    for file in ["README.md", "docs/plugins.md", "docs/operating.md", "docs/reproduction.md", "docs/report.md"] {
        let path = common::root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.starts_with("http")) {
            let (link, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().unwrap().join(link.trim_end_matches('/'));
            assert!(target.exists(), "{file} links to {link}");
            if !heading.is_empty() {
                let headings = fs::read_to_string(&target).unwrap();
                let anchor = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                assert!(headings.lines().any(|line| line.starts_with('#') && anchor(line) == heading), "{file} links to {link}#{heading}");
            }
        }
    }
}

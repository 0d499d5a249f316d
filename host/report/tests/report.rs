//! Reports on run directories in every state, read back from the page as a browser would.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use mmhost_report::{Error, ReportOptions, Run, State, report};
use serde_json::{Value, json};

fn options() -> ReportOptions {
    ReportOptions::new("0.0.0", 0)
}

/// An episode as a run records it.
fn episode(id: &str, sample: &str, total: f64, text: &str) -> Value {
    json!({
        "id": id, "sample": sample, "category": "text_required", "question": text, "ground_truth": "Lima", "candidate_answers": [],
        "workflow": "on-demand", "tokens": [7, 7, 5, 6], "mask": [false, false, true, true], "logprobs": [-0.25, -8.0],
        "turns": [{"start": 2, "end": 4, "text": format!("<answer> {text} </answer>")}],
        "calls": [{"tool": "text-search", "digest": "", "argument": text, "result": text, "ok": true, "elapsed_ms": 2.0, "shared": false}],
        "calls_allowed": 2, "ending": "answered",
        "reward": {"scored": {"total": total, "components": [["accuracy", total.round()], ["format", 1.0]]}},
        "image_digests": [],
    })
}

/// A run of `steps` steps with two groups of two, and one evaluation of `questions` questions.
fn write_run(run: &Path, steps: usize, questions: usize, text: &str) {
    let episodes = run.join("episodes");
    fs::create_dir_all(&episodes).unwrap();
    let digest = "ab".repeat(32);
    fs::write(run.join("run.toml"), format!("# mmhost 0.1.0; plugins by SHA-256:\n#   tool {digest}\nseed = 4\n[train]\nsteps = 9\n"))
        .unwrap();
    let lines = |values: Vec<Value>| values.iter().map(|value| format!("{value}\n")).collect::<String>();
    for step in 1..=steps {
        let places = [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 1.0), (1, 1, 1.0)];
        let of = |(group, rollout, total)| episode(&format!("step={step}/group={group}/rollout={rollout}"), "train/0", total, text);
        fs::write(episodes.join(format!("step-{step:06}.jsonl")), lines(places.map(of).to_vec())).unwrap();
    }
    let of = |n| episode(&format!("eval=base-test/on_demand/group={n}/rollout=0"), &format!("test/{n}"), 1.0, text);
    fs::write(episodes.join("base-test-on_demand.jsonl"), lines((0..questions).map(of).collect())).unwrap();
    let metrics = |step| json!({"step": step, "reward": 0.5, "text_search_ratio": {"text_required": 0.25}});
    fs::write(run.join("metrics.jsonl"), lines((1..=steps).map(metrics).collect())).unwrap();
}

/// The content of one of the page's data blocks.
fn block<'a>(html: &'a str, id: &str) -> &'a str {
    let (_, after) = html.split_once(&format!("id=\"{id}\">")).unwrap_or_else(|| panic!("no block {id}"));
    after.split_once("</script>").unwrap().0
}

fn data(html: &str) -> Value {
    serde_json::from_str(block(html, "report-data")).unwrap()
}

fn unpacked(html: &str, id: &str) -> Value {
    let packed = base64::engine::general_purpose::STANDARD.decode(block(html, id)).unwrap();
    let mut json = String::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn the_page_holds_what_the_run_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    write_run(&run, 3, 5, "What?");
    let report = report(&[run], &options()).unwrap();
    assert_eq!((report.episodes, report.episodes_shown), (17, 17));
    let data = data(&report.html);
    let of_run = &data["runs"][0];
    assert_eq!(of_run["state"], "stopped");
    assert_eq!(of_run["columns"]["text_search_ratio.text_required"], json!([0.25, 0.25, 0.25]));
    assert_eq!(of_run["plugins"]["tool"], "ab".repeat(32));
    assert_eq!(of_run["counted"]["tools"][0]["calls"], 17);

    let index = unpacked(&report.html, "episode-index");
    let text = |column: &str, at: usize| &index["strings"][index[column][at].as_u64().unwrap() as usize];
    assert_eq!(text("answer", 0), "What?");
    // Group 0 of a step: rewards 1 and 0, so ±0.5 / (√0.5 + 1e-6); group 1: equal rewards, nothing learned.
    let half = 0.5 / (0.5f64.sqrt() + 1e-6);
    for (at, expected) in [half, -half, 0.0, 0.0].into_iter().enumerate() {
        assert!((index["advantage"][at].as_f64().unwrap() - expected).abs() < 1e-4, "{}", index["advantage"]);
    }
    assert!(index["advantage"][16].is_null(), "an evaluation has no advantage");
    assert_eq!(index["least_logprob"][0], -8.0);
    let detail = &unpacked(&report.html, "episodes-0")[0];
    assert_eq!(detail["sampled"], json!([2, 2]));
    assert_eq!(detail["logprobs"], json!([2500, 80_000]));
    assert_eq!(detail["calls"][0]["result"], "What?");
}

#[test]
fn the_viewer_keeps_its_limits_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    write_run(&run, 60, 100, "What?");
    let few = report(std::slice::from_ref(&run), &ReportOptions { max_episodes: 100, ..options() }).unwrap();
    assert_eq!(few.episodes, 340);
    assert!((80..=100).contains(&few.episodes_shown), "{}", few.episodes_shown);
    let selection = &data(&few.html)["runs"][0]["selection"];
    assert_eq!((&selection["training_groups"], &selection["questions"]), (&json!(120), &json!(100)));
    assert!(selection["training_groups_shown"].as_u64() > Some(10), "{selection}");
    assert!(selection["questions_shown"].as_u64() > Some(50), "{selection}");

    let words = |seed: u32| (0..4000u32).map(|n| format!("{:x} ", (n + seed).wrapping_mul(2_654_435_761))).collect::<String>();
    let long = dir.path().join("long");
    write_run(&long, 4, 0, "What?");
    let lines: String =
        (0..100).map(|n| format!("{}\n", episode(&format!("eval=a/b/group={n}"), &format!("{n}"), 1.0, &words(n * 9999)))).collect();
    fs::write(long.join("episodes/long.jsonl"), lines).unwrap();
    let small = report(&[long], &ReportOptions { max_bytes: 400_000, ..options() }).unwrap();
    assert!(small.episodes_shown > 0 && small.episodes_shown < small.episodes, "{} of {}", small.episodes_shown, small.episodes);
    assert!(small.html.len() < 700_000, "{} bytes", small.html.len());
}

#[test]
fn damage_is_named_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    write_run(&run, 2, 2, "What?");
    let append = |name: &str, text: &[u8]| {
        let path = run.join(name);
        let mut bytes = fs::read(&path).unwrap_or_default();
        bytes.extend(text);
        fs::write(path, bytes).unwrap();
    };
    append("episodes/step-000001.jsonl", b"{\"id\": 4}\n\xff\xfe\n");
    append("episodes/step-000002.jsonl", b"{\"id\": \"step=2/gro");
    append("metrics.jsonl", b"nonsense\n{\"step\": \"two\"}\n");
    append("summary.json", b"{\"base\": []}");
    append("run.toml", b"\nseed = = 3\n");
    let report = report(&[run], &options()).unwrap();
    assert_eq!(report.episodes_shown, 10);
    let told: String = report.problems.iter().map(|(_, problem)| format!("{problem}\n")).collect();
    for expected in [
        "episodes/step-000001.jsonl line 5 is damaged",
        "episodes/step-000001.jsonl line 6 is damaged",
        "episodes/step-000002.jsonl line 5 was not written to its end",
        "metrics.jsonl: 2 damaged line(s) are left out, the first is line 3",
        "summary.json has no `trained`",
        "run.toml is damaged",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn episodes_of_other_versions_are_shown_as_far_as_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let episodes = dir.path().join("run/episodes");
    fs::create_dir_all(&episodes).unwrap();
    let text =
        "{}\n{\"id\":\"step=1/group=0/rollout=0\",\"reward\":5,\"later\":[{}]}\n{\"logprobs\":[null],\"mask\":[true],\"tokens\":[1]}\n";
    fs::write(episodes.join("odd.jsonl"), text).unwrap();
    let report = report(&[dir.path().join("run")], &options()).unwrap();
    assert_eq!(report.episodes_shown, 3);
    let index = unpacked(&report.html, "episode-index");
    assert_eq!(index["reward"], json!([null, null, null]));
    assert!(index["flags"].as_array().unwrap().iter().all(|flags| flags.as_u64().unwrap() & 4 != 0), "none is scored");
}

#[test]
fn images_are_shown_once_and_missing_or_damaged_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    write_run(&run, 0, 0, "What?");
    let images = run.join("episodes/images");
    fs::create_dir(&images).unwrap();
    let digests = ["aa", "bb", "cc", "../run.toml"];
    image::RgbImage::from_fn(400, 300, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8])).save(images.join("aa.png")).unwrap();
    fs::write(images.join("bb.png"), b"no image").unwrap();
    let mut lines = String::new();
    for rollout in 0..3 {
        let mut episode = episode(&format!("step=1/group=0/rollout={rollout}"), "s", 1.0, "What?");
        episode["image_digests"] = json!(digests);
        lines.push_str(&format!("{episode}\n"));
    }
    fs::write(run.join("episodes/step-000001.jsonl"), lines).unwrap();
    let report = report(&[run], &options()).unwrap();
    let pictures: Value = serde_json::from_str(block(&report.html, "images-0")).unwrap();
    assert_eq!(pictures.as_array().unwrap().len(), 4, "three episodes share them");
    assert_eq!((&pictures[0][0], &pictures[0][1]), (&json!(400), &json!(300)));
    let shown = base64::engine::general_purpose::STANDARD.decode(pictures[0][2].as_str().unwrap()).unwrap();
    let shown = image::load_from_memory(&shown).unwrap();
    assert_eq!((shown.width(), shown.height()), (320, 240), "scaled down");
    assert!(pictures.as_array().unwrap()[1..].iter().all(Value::is_null), "{pictures}");
    let told: String = report.problems.iter().map(|(_, problem)| format!("{problem}\n")).collect();
    assert!(told.contains("1 of 4 images are not in episodes/images"), "{told}");
    assert!(told.contains("2 image(s) cannot be decoded; the first is bb.png"), "{told}");
}

#[test]
fn seeds_are_told_from_other_differences() {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = ["a", "b", "c"].map(|name| dir.path().join(name)).to_vec();
    for (seed, run) in runs.iter().enumerate() {
        write_run(run, 1, 1, "What?");
        fs::write(run.join("run.toml"), format!("seed = {seed}\n[grpo]\nkl = {}\n", if seed == 2 { 0.5 } else { 0.1 })).unwrap();
    }
    let page_data = |runs: &[PathBuf]| data(&report(runs, &options()).unwrap().html);
    assert_eq!(page_data(&runs[..2])["seeds_only"], true);
    let all = page_data(&runs);
    assert_eq!(all["seeds_only"], false);
    assert_eq!(all["differences"][0], json!({"key": "grpo.kl", "values": ["0.1", "0.1", "0.5"]}));
    assert_eq!(page_data(&runs[..1])["seeds_only"], false);
}

#[test]
fn hostile_text_stays_in_its_block() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("<i>run");
    write_run(&run, 1, 1, "</script><script>alert(1)</script><!--");
    fs::write(run.join("run.toml"), "# </script><script>alert(2)</script>\nseed = 1\n").unwrap();
    let html = report(&[run], &options()).unwrap().html;
    assert!(!html.contains("<script>alert") && !html.contains("<i>run"));
    assert_eq!(data(&html)["runs"][0]["name"], "<i>run");
    let policy = html.split_once("Content-Security-Policy\" content=\"").unwrap().1.split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn states_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    assert!(matches!(Run::open(&run), Err(Error::NoRun(_))), "nothing there");
    fs::create_dir(&run).unwrap();
    assert!(matches!(Run::open(&run), Err(Error::NoRun(_))), "a folder of something else");
    fs::write(run.join("run.toml"), "seed = 1\n").unwrap();
    let state = || Run::open(&run).unwrap().state;
    assert_eq!(state(), State::Empty);
    let lock = fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(state(), State::Running);
    fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward\":0}\n").unwrap();
    assert_eq!(state(), State::Running);
    lock.unlock().unwrap();
    assert_eq!(state(), State::Stopped);
    fs::write(run.join("summary.json"), "{}").unwrap();
    assert_eq!(state(), State::Finished);
}

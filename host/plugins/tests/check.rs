//! `check` against plugins that are wrong in one way each, and against the reference plugins, which are right.

mod common;
#[path = "common/guest.rs"]
mod guest;

use common::{block_on, reference};
use guest::{Folder, REWARD, TOOL, component};
use mmhost_plugins::check::{Level, Report, check};
use std::path::Path;

fn report(folder: &Path) -> Report {
    static CACHE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    block_on(check(folder, cache.path().join("compiled"), None)).unwrap()
}

/// The findings as `level[rule] place`.
fn findings(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| format!("{:?}[{}] {}: {}", finding.level, finding.rule, finding.place, finding.what)).collect()
}

/// The report has this finding, whose text contains the word.
#[track_caller]
fn assert_finds(report: &Report, level: Level, rule: &str, word: &str) {
    let found = report.findings.iter().any(|f| f.level == level && f.rule == rule && f.to_string().contains(word));
    assert!(found, "no {level:?} {rule} with {word:?} in {:#?}", findings(report));
}

fn reward(module: &str) -> (Folder, Report) {
    let folder = Folder::new("reward", "description = \"x\"\n", &component("reward", "0.1.0", module));
    let report = report(&folder.plugin());
    (folder, report)
}

/// A reward whose `score` runs `body` for each episode, which leaves its verdict's total in `$total`. `$turn` and `$length` are the
/// last turn's text, `$index` is the place in the batch, `$count` its size, and the global `$seen` survives the call.
fn scoring(body: &str) -> String {
    SCORING.replace("BODY", body)
}

/// Verdicts are 32 bytes: tag, total at 8, the components' list at 16. An episode is 60 bytes, its turns are at 32, each of 8.
const SCORING: &str = r#"
(module
  (memory (export "memory") 8)
  (global $free (mut i32) (i32.const 65536))
  (global $seen (mut i32) (i32.const 0))
  (data (i32.const 8) "\00\02\00\00\05\00\00\00")
  (data (i32.const 24) "\00\00\00\00\00\00\f0\3f")
  (data (i32.const 512) "guest")
  (func (export "mmhost:plugin/scoring@VERSION#describe") (result i32) i32.const 0)
  ;; How many times the byte stands in the text.
  (func $bytes (param $text i32) (param $length i32) (param $byte i32) (result i32)
    (local $found i32)
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $length)))
      (local.set $found (i32.add (local.get $found) (i32.eq (i32.load8_u (local.get $text)) (local.get $byte))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next)))
    (local.get $found))
  (func (export "mmhost:plugin/scoring@VERSION#score") (param $batch i32) (param $count i32) (result i32)
    (local $index i32) (local $episode i32) (local $verdict i32) (local $turn i32) (local $length i32) (local $total f64)
    (local $out i32)
    (local.set $out (call $alloc (i32.mul (i32.add (local.get $count) (i32.const 1)) (i32.const 32))))
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $index) (local.get $count)))
      (local.set $episode (i32.add (local.get $batch) (i32.mul (local.get $index) (i32.const 56))))
      (local.set $verdict (i32.add (local.get $out) (i32.mul (local.get $index) (i32.const 24))))
      (local.set $turn (i32.const 0))
      (local.set $length (i32.const 0))
      (local.set $total (f64.const 0))
      (if (i32.load (i32.add (local.get $episode) (i32.const 36)))
        (then
          (local.set $turn (i32.add (i32.load (i32.add (local.get $episode) (i32.const 32)))
            (i32.mul (i32.sub (i32.load (i32.add (local.get $episode) (i32.const 36))) (i32.const 1)) (i32.const 8))))
          (local.set $length (i32.load (i32.add (local.get $turn) (i32.const 4))))
          (local.set $turn (i32.load (local.get $turn)))))
      BODY
      (i32.store8 (local.get $verdict) (i32.const 0))
      (f64.store (i32.add (local.get $verdict) (i32.const 8)) (local.get $total))
      (i32.store (i32.add (local.get $verdict) (i32.const 16)) (i32.const 0))
      (i32.store (i32.add (local.get $verdict) (i32.const 20)) (i32.const 0))
      (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br $next)))
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (local.get $out))
    (i32.store (i32.const 72) (local.get $count))
    (i32.const 64))
  (func $alloc (param $size i32) (result i32)
    (local $pointer i32)
    (local.set $pointer (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $pointer) (local.get $size)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (local.get $pointer))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32) (call $alloc (local.get $size))))
"#;

/// The right answer of most battery episodes is told by its letters, as a policy's hedges are: `m` stands in "Lima" and in no wrong
/// answer of it.
const COUNTS_M: &str = r#"(local.set $total (f64.div
    (f64.convert_i32_u (call $bytes (local.get $turn) (local.get $length) (i32.const 0x6d))) (f64.const 100)))"#;

#[test]
fn a_reward_that_does_nothing_wrong_but_say_nothing_gets_a_warning() {
    let (_folder, report) = reward(&scoring(""));
    assert_eq!(report.num_errors(), 0, "{:#?}", findings(&report));
    assert_finds(&report, Level::Warning, "signal", "no right answer earns more");
    assert_finds(&report, Level::Warning, "no-truth", "abstain");
    assert!(report.num_calls > 50 && report.peak.fuel.unwrap() > 0, "{report:?}");
}

#[test]
fn rewards_that_break_a_rule_are_found_out() {
    for (rule, word, body) in [
        ("bounds", "outside of the described 0 to 1", "(local.set $total (f64.const 1.5))"),
        ("finite", "total is NaN", "(local.set $total (f64.const nan))"),
        ("batch", "in a batch", "(local.set $total (f64.div (f64.convert_i32_u (local.get $count)) (f64.const 1000)))"),
        // The longer the answer, the less; and nothing at all for "Lima" in particular.
        (
            "monotone",
            "would be taught to answer wrongly",
            "(local.set $total (f64.div (f64.convert_i32_u (local.get $length)) (f64.const 1000000)))",
        ),
        ("hackable", "three times in one", COUNTS_M),
        ("trap", "unreachable", "(if (i32.gt_u (local.get $length) (i32.const 1000)) (then unreachable))"),
        ("deadline", "500 ms", "(if (i32.eqz (local.get $length)) (then (loop $again (br $again))))"),
    ] {
        let module = component("reward", "0.1.0", &scoring(body));
        let folder = Folder::new("reward", "description = \"x\"\n[limits]\ndeadline_ms = 500\n", &module);
        assert_finds(&report(&folder.plugin()), Level::Error, rule, word);
    }
}

#[test]
fn memory_that_outlives_a_call_in_one_instance_is_warned_of() {
    let (_folder, report) = reward(&scoring("(local.set $total (f64.div (f64.convert_i32_u (global.get $seen)) (f64.const 1000)))"));
    // Within a batch the counter makes the verdict depend on the order, too.
    assert_finds(&report, Level::Error, "batch", "alone the episode is");
    assert_finds(&report, Level::Warning, "state", "fresh instances");
}

#[test]
fn a_reward_of_the_wrong_length_is_found_out() {
    let (_folder, report) = reward(&REWARD.replace("COUNT", "2").replace("BITS", "0"));
    assert_finds(&report, Level::Error, "contract", "2 verdicts");
}

#[test]
fn a_tool_that_breaks_on_nasty_input_is_found_out() {
    // The guest's first letter decides: `c` of the battery's ordinary "capital of Peru" answers, white space too.
    let limits = "description = \"x\"\n[limits]\ndeadline_ms = 300\nmemory_mib = 8\noutput_bytes = 4096\n";
    let letter = |from: &str, to: &str| TOOL.replacen(&format!("(i32.const {from})) (then"), &format!("(i32.const {to})) (then"), 1);
    for (rule, module) in [
        // `{`: half a JSON object; `9`: a number of many digits; `(`: brackets; `<`: injected tags.
        ("trap", letter("0x74", "0x7b")),
        ("deadline", letter("0x6c", "0x39")),
        ("memory", letter("0x6d", "0x28")),
        ("trap", letter("0x72", "0x3c")),
    ] {
        let folder = Folder::new("search-tool", limits, &component("search-tool", "0.1.0", &module));
        let report = report(&folder.plugin());
        assert_finds(&report, Level::Error, rule, "written by a policy in training");
    }
    let folder = Folder::new("search-tool", limits, &component("search-tool", "0.1.0", TOOL));
    let report = report(&folder.plugin());
    assert!(report.findings.iter().all(|finding| finding.rule != "determinism"), "{:#?}", findings(&report));
}

#[test]
fn what_does_not_load_is_a_finding_with_a_rule() {
    let tool = component("search-tool", "0.1.0", TOOL);
    let rule =
        |folder: &Folder| report(&folder.plugin()).findings.into_iter().map(|finding| (finding.level, finding.rule)).collect::<Vec<_>>();
    assert_eq!(rule(&Folder::new("reward", "", &tool)), [(Level::Error, "kind")]);
    assert_eq!(rule(&Folder::new("search-tool", "", b"nothing")), [(Level::Error, "component")]);
    assert_eq!(rule(&Folder::new("search-tool", "[limits]\nmemory_mib = 0\n", &tool)), [(Level::Error, "manifest")]);
    assert_eq!(rule(&Folder::new("search-tool", "", &component("search-tool", "0.9.0", TOOL))), [(Level::Error, "contract-version")]);
    let folder = Folder::new("search-tool", "", &tool);
    std::fs::remove_file(folder.path().join("plugins.lock")).unwrap();
    assert_eq!(rule(&folder), [(Level::Error, "lock")]);
    let text = "(component (import \"evil:host/files@1.0.0\" (instance $i)) (export \"mmhost:plugin/tool@0.1.0\" (instance $i)))";
    assert_eq!(rule(&Folder::new("search-tool", "", &wat::parse_str(text).unwrap())), [(Level::Error, "imports")]);
}

#[test]
fn an_authors_own_tests_are_run() {
    let folder = Folder::new("search-tool", "description = \"x\"\n", &component("search-tool", "0.1.0", TOOL));
    let tests = folder.plugin().join("tests");
    std::fs::create_dir(&tests).unwrap();
    let write = |name: &str, text: &str| std::fs::write(tests.join(name), text).unwrap();
    write("a.json", r#"{"input": {"argument": "o"}, "expect": {"parts": [{"text": "fine"}]}}"#);
    write(
        "b.json",
        r#"{"function": "describe", "expect": {"name": "guest", "max_calls": 1.0, "needs_image": false, "instruction": "guest",
        "description": "guest", "call": {"literal": "<call>"}}}"#,
    );
    let failing = |report: &Report| report.findings.iter().filter(|f| f.rule == "test").map(|f| f.to_string()).collect::<Vec<_>>();
    assert_eq!(failing(&report(&folder.plugin())), Vec::<String>::new());
    write("c.json", r#"{"input": {"argument": "o"}, "expect": {"parts": [{"text": "other"}]}}"#);
    write("d.json", r#"{"inptu": {}, "expect": 1}"#);
    write("e.json", r#"{"input": {"images": ["gone.png"]}, "expect": 1}"#);
    let failing = failing(&report(&folder.plugin()));
    let expected = [("c.json", "\"fine\""), ("d.json", "unknown field `inptu`"), ("e.json", "gone.png")];
    assert_eq!(failing.len(), expected.len(), "{failing:?}");
    for (finding, (file, word)) in failing.iter().zip(expected) {
        assert!(finding.contains(file) && finding.contains(word), "{finding}");
    }
}

/// The plugins of this repository keep every rule. What may be said of them is said on purpose.
#[test]
fn the_reference_plugins_pass() {
    let mut warnings = Vec::new();
    for entry in std::fs::read_dir(reference()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("plugin.toml").exists() {
            continue;
        }
        let report = report(&folder);
        assert_eq!(report.num_errors(), 0, "{:#?}", findings(&report));
        warnings.extend(report.findings.iter().map(|finding| format!("{} {} {}", report.plugin, finding.rule, finding.place)));
    }
    // The paper's reward takes the last answer of a turn, whatever stands before it; the format term alone is lost. Words shared with
    // the truth are half of the words of an answer that repeats it twice over.
    let tricks = ["a wrong answer, then the right one", "the right answer three times in one"];
    for warning in &warnings {
        let known =
            ["mmsearch-reward hackable", "f1-reward hackable", "judge-reward hackable"].iter().any(|start| warning.starts_with(start))
                && tricks.iter().any(|trick| warning.ends_with(trick));
        assert!(known, "{warnings:#?}");
    }
}

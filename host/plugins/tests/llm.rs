//! The door to language models, through the reward that asks one: what is granted works, is counted and recorded, and nothing else is asked.

mod common;
#[path = "common/guest.rs"]
mod guest;
#[path = "common/server.rs"]
mod server;

use common::{block_on_net as block_on, episode, host, reference};
use guest::Folder;
use mmhost_plugins::ledger::{Ledger, RunBudget};
use mmhost_plugins::models::{Completion, CompletionRequest, LocalModel, LocalModels};
use mmhost_plugins::tape::{Door, Tape, TapeCounts, TapeMode};
use mmhost_plugins::{CallView, Grant, PluginError, PluginHost, RewardInput, RewardPlugin, Verdict};
use server::Server;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The committed judge, with another manifest where `edit` makes one.
fn judge(edit: impl Fn(String) -> String) -> Folder {
    let folder = reference().join("judge-reward");
    let manifest = std::fs::read_to_string(folder.join("plugin.toml")).unwrap().replace("\"judge-reward\"", "\"guest\"");
    Folder::with_manifest(&edit(manifest), &std::fs::read(folder.join("judge-reward.wasm")).unwrap())
}

fn load(host: PluginHost, folder: &Folder, grant: &str) -> Result<RewardPlugin, PluginError> {
    let grant: Grant = toml::from_str(grant).unwrap();
    let host = host.with_grants([("guest".to_string(), grant)].into());
    host.load_dir(folder.path()).map(|mut plugins| plugins.rewards.remove(0))
}

fn endpoint(server: &Server, model: &str, rest: &str) -> String {
    format!("[models.judge]\nurl = \"http://localhost:{}/v1/\"\nmodel = \"{model}\"\n{rest}", server.port)
}

fn answering(answer: &str) -> RewardInput {
    episode("Lima", &[&format!("<reason>sure</reason><answer>{answer}</answer>")])
}

/// Accuracy by the judge, or why there is none.
fn accuracy(verdict: &Verdict) -> Result<f64, String> {
    match verdict {
        Verdict::Scored { components, .. } => Ok(components.iter().find(|(name, _)| name == "accuracy").unwrap().1),
        Verdict::Abstained(reason) => Err(reason.clone()),
    }
}

fn judged(reward: &RewardPlugin, answers: &[&str]) -> Vec<Result<f64, String>> {
    let episodes: Vec<RewardInput> = answers.iter().map(|answer| answering(answer)).collect();
    let (verdicts, _) = block_on(reward.score(&episodes)).unwrap();
    verdicts.iter().map(accuracy).collect()
}

#[test]
fn a_judge_decides_where_the_answer_is_not_the_truth_word_for_word() {
    let server = Server::start();
    let reward = load(host(&[]), &judge(|manifest| manifest), &endpoint(&server, "fine", "")).unwrap();
    let verdicts = judged(&reward, &["Lima", "the City of Kings", "Bogotá", "a riddle", ""]);
    assert_eq!(verdicts[..3], [Ok(1.0), Ok(1.0), Ok(0.0)]);
    assert!(verdicts[3].as_ref().unwrap_err().contains("neither yes nor no: Hm."), "{verdicts:?}");
    assert_eq!(verdicts[4], Ok(0.0));
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "neither a right answer nor none is judged: {requests:?}");
    for part in ["POST /v1/chat/completions", "\"model\":\"fine\"", "\"max_tokens\":8", "\"temperature\":0.0", "Accepted answers: Lima"] {
        assert!(requests[0].contains(part), "{part}\n{}", requests[0]);
    }

    // What tools answered is told to rewards since version 0.2 of the contract.
    let found = |answer: &str| vec![CallView { tool: "text-search".into(), argument: "Peru".into(), ok: true, answer: answer.into() }];
    let episodes =
        ["Its capital is Lima.", "Its capital is on the coast."].map(|text| RewardInput { calls: found(text), ..answering("Lima") });
    let (verdicts, _) = block_on(reward.score(&episodes)).unwrap();
    let grounded = |verdict: &Verdict| match verdict {
        Verdict::Scored { components, .. } => components.iter().find(|(name, _)| name == "grounded").unwrap().1,
        other => panic!("{other:?}"),
    };
    assert_eq!(verdicts.iter().map(grounded).collect::<Vec<_>>(), [1.0, 0.0]);
}

#[test]
fn a_batch_is_asked_at_once_and_an_overloaded_model_again() {
    let server = Server::start();
    let folder = judge(|manifest| manifest);
    let reward = load(host(&[]), &folder, &endpoint(&server, "slow", "max_in_flight = 4")).unwrap();
    let answers: Vec<String> = (0..16).map(|n| format!("City of {n}")).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    assert_eq!(judged(&reward, &answers), vec![Ok(1.0); 16]);
    assert_eq!(server.most_at_once(), 4, "as many at once as the run allows, and no more");

    let server = Server::start();
    let busy = load(host(&[]), &folder, &endpoint(&server, "busy", "")).unwrap();
    assert_eq!(judged(&busy, &["City of Kings"]), [Ok(1.0)]);
    assert_eq!(server.requests().len(), 2);
    let server = Server::start();
    let never_again = load(host(&[]), &folder, &endpoint(&server, "busy", "retries = 0")).unwrap();
    assert!(judged(&never_again, &["City of Kings"])[0].as_ref().unwrap_err().contains("429"));
}

#[test]
fn what_a_model_fails_at_becomes_an_abstention_that_says_why() {
    let server = Server::start();
    let folder = judge(|manifest| manifest);
    for (model, words) in [
        ("denying", vec!["the model `judge`", "answers 401", "bad no key"]),
        ("garbled", vec!["no chat completion", "expected value"]),
        ("moving", vec!["127.0.0.1:1", "not granted", "`url` under [models.judge]"]),
    ] {
        let reward = load(host(&[]), &folder, &endpoint(&server, model, "")).unwrap();
        let why = judged(&reward, &["Bogotá"]).remove(0).unwrap_err();
        assert!(words.iter().all(|word| why.contains(word)), "{model}: {why}");
    }
    let gone = load(host(&[]), &folder, "[models.judge]\nurl = \"http://127.0.0.1:1/v1\"\nmodel = \"x\"\nretries = 0").unwrap();
    assert!(judged(&gone, &["Bogotá"])[0].as_ref().unwrap_err().contains("http://127.0.0.1:1"));
}

#[test]
fn the_key_goes_over_the_wire_and_nowhere_else() {
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("key");
    std::fs::write(&key, "sesame-0123456789\n").unwrap();
    let server = Server::start();
    let keyed = format!("key_file = \"{}\"", key.display());
    let tape = Tape::open(&scratch.path().join("replay"), TapeMode::Record).unwrap();
    let reward = load(host(&[]).with_tape(Some(tape)), &judge(|m| m), &endpoint(&server, "denying", &keyed)).unwrap();
    let why = judged(&reward, &["Bogotá"]).remove(0).unwrap_err();
    assert!(server.requests()[0].contains("Bearer sesame-0123456789"));
    // The server repeats it, and what comes back is the placeholder.
    assert!(why.contains("Bearer __secret.MODEL_KEY__") && !why.contains("sesame"), "{why}");
    let record = serde_json::to_string(&reward.info().record()).unwrap();
    assert!(record.contains("denying at http://localhost") && !record.contains("sesame"), "{record}");
    let calls = std::fs::read_to_string(scratch.path().join("replay/calls.jsonl")).unwrap();
    assert!(calls.contains("\"door\":\"llm\"") && !calls.contains("sesame"), "{calls}");
}

#[test]
fn answers_come_from_the_recording_and_cost_nothing_there() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start();
    let folder = judge(|manifest| manifest);
    let open = |mode| {
        let tape = Tape::open(scratch.path(), mode).unwrap();
        let host = host(&[]).with_tape(Some(tape.clone()));
        let ledger = host.ledger();
        tape.tell(ledger.clone());
        (load(host, &folder, &endpoint(&server, "fine", "prompt_price = 1000.0\ncompletion_price = 5000.0")).unwrap(), tape, ledger)
    };
    let entry = |ledger: &Ledger| ledger.entries().remove("guest").unwrap();
    let answers = ["City of Kings", "Bogotá", "Bogotá"];

    let (reward, _, ledger) = open(TapeMode::Record);
    let live = judged(&reward, &answers[..2]);
    assert_eq!(live, judged(&reward, &answers[..2]), "asked once while it is recorded");
    let spent = entry(&ledger);
    assert_eq!((spent.completions, spent.prompt_tokens, spent.completion_tokens), (2, 200, 4));
    assert_eq!((spent.hits, spent.misses), (2, 2));
    assert!((spent.money - 0.22).abs() < 1e-9, "{spent:?}");

    let (reward, tape, ledger) = open(TapeMode::Strict);
    assert_eq!(judged(&reward, &answers), [Ok(1.0), Ok(0.0), Ok(0.0)]);
    tape.check().unwrap();
    assert_eq!(tape.counts()[&Door::Llm], TapeCounts { hits: 3, misses: 0, failures: 0 });
    assert_eq!((entry(&ledger).completions, entry(&ledger).hits, entry(&ledger).money), (0, 3, 0.0));
    assert!(judged(&reward, &["Quito"])[0].is_err());
    let fault = tape.check().unwrap_err().to_string();
    assert!(fault.contains("no answer to llm of guest: judge: ") && fault.contains("Given answer: Quito"), "{fault}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn limits_and_budget_end_the_asking_before_it_is_done() {
    let server = Server::start();
    let limited = |line: &str| judge(|manifest| manifest.replace("[limits]\n", &format!("[limits]\n{line}\n")));
    for (line, words, asked) in [
        ("completions = 1", "more than 1 completions in one call; `[limits] completions`", 1),
        ("completion_tokens = 100", "more than 100 tokens of models in one call", 0),
        ("http_bytes = 600", "bytes of requests and answers in one call", 1),
    ] {
        let before = server.requests().len();
        let reward = load(host(&[]), &limited(line), &endpoint(&server, "fine", "max_in_flight = 1")).unwrap();
        let verdicts = judged(&reward, &["Bogotá", "Quito"]);
        assert!(verdicts[1].as_ref().unwrap_err().contains(words), "{line}: {verdicts:?}");
        assert_eq!(server.requests().len() - before, asked, "{line}");
    }

    let budget: RunBudget = toml::from_str("tokens = 1000").unwrap();
    let host = host(&[]).with_policies(Default::default(), budget).unwrap();
    let ledger = host.ledger();
    let reward = load(host, &judge(|manifest| manifest), &endpoint(&server, "fine", "max_in_flight = 1")).unwrap();
    assert_eq!(judged(&reward, &["Bogotá"]), [Ok(0.0)]);
    ledger.check().unwrap();
    // A request is let through only if the most that it can come to is left.
    judged(&reward, &["Bogotá", "Quito", "Santiago"]);
    let why = ledger.check().unwrap_err().to_string();
    assert!(why.contains("guest") && why.contains("tokens") && why.contains("1000"), "{why}");
    let spent = ledger.entries().remove("guest").unwrap();
    assert!(spent.prompt_tokens + spent.completion_tokens <= 1000, "{spent:?}");
}

#[test]
fn a_request_that_is_given_up_counts_with_the_most_that_it_could_have_come_to() {
    let server = Server::start();
    let hurried = judge(|manifest| manifest.replace("deadline_ms = 120000", "deadline_ms = 100"));
    let host = host(&[]);
    let ledger = host.ledger();
    let reward = load(host, &hurried, &endpoint(&server, "slow", "prompt_price = 1e6\ncompletion_price = 1e6")).unwrap();
    let error = block_on(reward.score(&[answering("Bogotá")])).unwrap_err();
    assert_eq!(error.kind(), "deadline");
    let spent = ledger.entries().remove("guest").unwrap();
    assert_eq!((spent.completions, spent.completion_tokens), (1, 8));
    assert!(spent.prompt_tokens > 300 && spent.money == (spent.prompt_tokens + 8) as f64, "{spent:?}");
}

/// Answers with what it was asked, and remembers it.
#[derive(Default)]
struct Parrot(Mutex<Vec<CompletionRequest>>);

impl LocalModel for Parrot {
    fn complete(&self, request: &CompletionRequest) -> Result<Completion, String> {
        self.0.lock().unwrap().push(request.clone());
        Ok(Completion { text: "yes, yes".into(), finished: false, prompt_tokens: 7, completion_tokens: 3 })
    }
}

struct Cage(Arc<Parrot>);

impl LocalModels for Cage {
    fn open(&self, folder: &Path) -> Result<Arc<dyn LocalModel>, String> {
        match folder == Path::new("parrot") {
            true => Ok(self.0.clone()),
            false => Err(format!("there is no model in {}", folder.display())),
        }
    }
}

#[test]
fn a_model_in_the_host_s_memory_is_asked_in_the_same_way() {
    let parrot = Arc::new(Parrot::default());
    let with_local = || host(&[]).with_local_models(Arc::new(Cage(parrot.clone())));
    let folder = judge(|manifest| manifest);
    let reward = load(with_local(), &folder, "[models.judge]\npath = \"parrot\"").unwrap();
    assert_eq!(judged(&reward, &["Bogotá", "Lima"]), [Ok(1.0), Ok(1.0)]);
    let asked = parrot.0.lock().unwrap();
    assert_eq!((asked.len(), asked[0].max_tokens, asked[0].temperature), (1, 8, 0.0));
    assert!(asked[0].messages[0].text.ends_with("yes or no."), "{asked:?}");
    let refused = load(with_local(), &folder, "[models.judge]\npath = \"elsewhere\"").err().unwrap().to_string();
    assert!(refused.contains("field `path`: found there is no model in elsewhere"), "{refused}");
}

#[test]
fn models_that_cannot_be_are_refused_before_the_run() {
    let folder = judge(|manifest| manifest);
    let refused = |grant: &str| load(host(&[]), &folder, grant).err().unwrap().to_string();
    let missing = refused("");
    for word in ["the model `judge`", "url = ", "[plugins.grants.guest.models.judge]"] {
        assert!(missing.contains(word), "{missing}");
    }
    let place = "[plugins.grants.guest.models.judge]: field `";
    for (source, words) in [
        ("", vec!["url`: found neither or both of `url` and `path`"]),
        ("url = \"http://a.org/v1\"\npath = \"x\"\nmodel = \"m\"", vec!["neither or both"]),
        ("url = \"http://a.org/v1\"", vec!["model`: found nothing"]),
        ("url = \"ftp://a.org/v1\"\nmodel = \"m\"", vec!["url`", "http or https"]),
        ("url = \"a.org/v1\"\nmodel = \"m\"", vec!["url`", "expected a URL like"]),
        ("url = \"https://me:pass@a.org/v1\"\nmodel = \"m\"", vec!["a user name", "key_env"]),
        ("url = \"https://a.org/v1?key=hush\"\nmodel = \"m\"", vec!["a query"]),
        ("url = \"https://a.org/v1\"\nmodel = \"m\"\nprompt_price = -1.0", vec!["prompt_price`: found -1"]),
        ("url = \"https://a.org/v1\"\nmodel = \"m\"\nmax_in_flight = 0", vec!["max_in_flight`: found 0, expected at least 1"]),
        ("url = \"https://a.org/v1\"\nmodel = \"m\"\nrequests_per_second = 0", vec!["requests_per_second`: found 0"]),
        ("path = \"x\"\nmodel = \"m\"", vec!["model`: found \"m\", expected only beside `url`"]),
        ("path = \"x\"", vec!["path`: found x"]),
    ] {
        let error = refused(&format!("[models.judge]\n{source}"));
        assert!(error.contains(place) && words.iter().all(|word| error.contains(word)), "{source}: {error}");
        assert!(!error.contains("pass@") && !error.contains("hush"), "{error}");
    }
    let keyless = refused("[models.judge]\nurl = \"https://a.org/v1\"\nmodel = \"m\"\nkey_env = \"MMHOST_TEST_NO_SUCH_KEY\"");
    assert!(keyless.contains("MMHOST_TEST_NO_SUCH_KEY is not set"), "{keyless}");

    // Whoever does not ask in the manifest does not get.
    let silent = judge(|manifest| manifest.replace("models = [\"judge\"]", ""));
    let error = load(host(&[]), &silent, "").err().unwrap().to_string();
    assert!(error.contains("mmhost:plugin/llm") && error.contains("models = ["), "{error}");
    let other = judge(|manifest| manifest.replace("models = [\"judge\"]", "models = [\"other\"]"));
    let server = Server::start();
    let reward = load(host(&[]), &other, &endpoint(&server, "fine", "").replace("judge", "other")).unwrap();
    let why = judged(&reward, &["Bogotá"]).remove(0).unwrap_err();
    assert!(why.contains("model `judge`: add models = [\"judge\"] to `[ask]`"), "{why}");
    assert!(server.requests().is_empty());
}

//! The reward of MMSearch-R1 with a language model for a judge. An answer that is the truth word for word needs no judge; of any other the
//! model of the name `judge` decides whether it names the same thing. Where it does not decide, the episode is abstained from.

use mmhost_scoring::normalise::normalise;
use mmhost_scoring::{Episode, Options, Rules, Verdict as Word, combine, mmsearch};
use mmhost_sdk::reward::{Component, Description, Episode as Record, Rating, Reward, RewardError, Verdict};
use mmhost_sdk::{ConfigError, bad_value, llm, one_line};

const COMPONENTS: [&str; 5] = ["accuracy", "format", "penalty", "exact", "grounded"];

/// What the manifest says beside the options that the rewards share.
#[derive(miniserde::Deserialize)]
struct Judge {
    prompt: String,
    max_tokens: u32,
    max_answer_chars: u32,
}

struct JudgeReward;

/// The options that the rewards share, from the same configuration.
fn options() -> Result<Options, ConfigError> {
    let options: Options = mmhost_sdk::config()?;
    options.check().map_err(|bad| bad_value(bad.field, bad.found, bad.expected))?;
    Ok(options)
}

impl Reward for JudgeReward {
    type Config = Judge;

    fn describe(judge: &Judge) -> Result<Description, ConfigError> {
        options()?;
        if let Some(mark) = ["{question}", "{truths}", "{answer}"].into_iter().find(|mark| !judge.prompt.contains(mark)) {
            return Err(bad_value("prompt", one_line(&judge.prompt, 60), &["a text with ", mark].concat()));
        }
        Ok(Description {
            summary: "a judge's word on the answer, discounted after a search, and the format of the turns".into(),
            lowest: 0.0,
            highest: 1.0,
            components: COMPONENTS.map(String::from).into(),
        })
    }

    fn score(judge: &Judge, batch: Vec<Record>) -> Result<Vec<Verdict>, RewardError> {
        let options = options()?;
        let rules = Rules::new(&options);
        // Only what has to be asked is asked, and all of it at once.
        let doubtful = |record: &Record| exact(&options, &rules, record).is_some_and(|accuracy| accuracy == 0.0);
        let asked: Vec<Option<String>> =
            batch.iter().map(|record| if doubtful(record) { judge.question(&rules, record) } else { None }).collect();
        let questions: Vec<&String> = asked.iter().flatten().collect();
        let mut answers = match questions.is_empty() {
            true => Vec::new(),
            false => llm::ask("judge", &questions, judge.max_tokens),
        }
        .into_iter();
        let verdicts = batch.iter().zip(&asked).map(|(record, asked)| {
            let judged = match asked {
                None => Ok(0.0),
                Some(_) => word(answers.next()),
            };
            verdict(&options, &rules, record, judged)
        });
        Ok(verdicts.collect())
    }
}

impl Judge {
    /// What to ask about the last answer of an episode, if there is one.
    fn question(&self, rules: &Rules, record: &Record) -> Option<String> {
        let answer = one_line(rules.answer(record.turns.last()?)?, self.max_answer_chars as usize);
        if answer.is_empty() {
            return None;
        }
        let truths: Vec<&str> = episode(record).answers().filter(|truth| !truth.trim().is_empty()).collect();
        // The answer last: what it holds is no mark to fill in.
        let filled = self.prompt.replace("{question}", &one_line(&record.question, 500));
        Some(filled.replace("{truths}", &truths.join("; ")).replace("{answer}", &answer).trim().into())
    }
}

/// The judge's word: 1 for yes, 0 for no, else why there is none.
fn word(answer: Option<Result<llm::Completion, llm::LlmError>>) -> Result<f64, String> {
    let said = match answer {
        Some(Ok(completion)) => completion.text,
        Some(Err(error)) => return Err(["the judge did not answer: ", llm::explain(&error)].concat()),
        None => return Err("the judge did not answer".into()),
    };
    let first = said.split(|c: char| !c.is_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
    match first.to_ascii_lowercase().as_str() {
        "yes" => Ok(1.0),
        "no" => Ok(0.0),
        _ => Err(["the judge said neither yes nor no: ", &one_line(&said, 60)].concat()),
    }
}

fn episode(record: &Record) -> Episode<'_> {
    Episode {
        ground_truth: &record.ground_truth,
        candidate_answers: &record.candidate_answers,
        turns: &record.turns,
        num_calls: record.calls.len(),
    }
}

/// 1 if the answer is an accepted one word for word, 0 if not; `None` for an episode that cannot be scored.
fn exact(options: &Options, rules: &Rules, record: &Record) -> Option<f64> {
    match mmsearch::score(options, rules, episode(record)) {
        Word::Scored { accuracy, .. } => Some(accuracy),
        Word::Abstained(_) => None,
    }
}

/// Whether the answer stands in what a tool answered: found, rather than known or guessed.
fn grounded(rules: &Rules, record: &Record) -> f64 {
    let answer = record.turns.last().and_then(|turn| rules.answer(turn)).map(normalise).unwrap_or_default();
    let stands_in = |text: &String| normalise(text).contains(&answer);
    if !answer.is_empty() && record.calls.iter().any(|call| call.ok && stands_in(&call.answer)) { 1.0 } else { 0.0 }
}

fn verdict(options: &Options, rules: &Rules, record: &Record, judged: Result<f64, String>) -> Verdict {
    let exact = exact(options, rules, record).unwrap_or_default();
    let judged = match judged {
        Ok(judged) => judged,
        Err(reason) => return Verdict::Abstained(reason),
    };
    match combine(options, rules, episode(record), |_, _| exact.max(judged)) {
        Word::Scored { total, accuracy, format, penalty } => {
            let values = [accuracy, format, penalty, exact, grounded(rules, record)];
            let components = COMPONENTS.into_iter().zip(values).map(|(name, value)| Component { name: name.into(), value });
            Verdict::Scored(Rating { total, components: components.collect() })
        }
        Word::Abstained(reason) => Verdict::Abstained(reason.into()),
    }
}

mmhost_sdk::export_reward!(JudgeReward);

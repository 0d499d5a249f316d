//! The chosen episodes, packed for the page.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::images::{self, Loaded, Picture};
use super::index::{Index, Row, rounded};
use super::pack::{Strings, packed};
use super::pieces::Pieces;
use super::record::{Full, Place, Reward};
use super::scan::{Flag, Judged, Line, Scan, in_parallel};
use super::select::Selection;
use crate::Result;
use crate::run::Run;
use crate::scores::Scores;

/// Episodes that a chunk holds before it ends with its group.
const CHUNK: usize = 64;
/// Images in a chunk.
const IMAGE_CHUNK: usize = 64;
/// Characters of a turn that the index holds for the search; the chunk has all.
const SEARCHED: usize = 600;
/// A sampled token below this log-probability (1 in 1,000) raises [`Flag::Unlikely`].
const UNLIKELY: f32 = -6.907_755;
/// Log-probabilities are kept as whole multiples of this many nats.
const LOGPROB_UNIT: f32 = -1e-4;

/// Limits of a payload.
#[derive(Debug, Clone, Copy)]
pub struct PayloadOptions {
    /// Most bytes of packed images; the rest are left out.
    pub max_image_bytes: usize,
}

/// The episodes of a page, packed.
#[derive(Debug, Default)]
pub struct Payload {
    /// What the list, the search and the filters need, of all shown episodes.
    pub index: String,
    /// Tokens and raw results, by chunk.
    pub chunks: Vec<String>,
    /// Images by chunk, as JSON.
    pub images: Vec<String>,
    /// Episodes held.
    pub episodes: usize,
    /// What is missing or damaged, in sentences, by run.
    pub problems: Vec<Vec<String>>,
}

/// What other rewards said: their names over all runs, and their scores by run.
#[derive(Clone, Copy)]
pub(crate) struct Others<'a> {
    pub names: &'a [String],
    pub scores: &'a [Vec<Scores>],
}

impl<'a> Others<'a> {
    /// The verdicts on an episode of a run, in the order of the names.
    fn on(self, run: usize, episode: &Judged) -> impl Iterator<Item = (&'a str, Option<&'a Reward>)> {
        let scores = self.scores.get(run).map_or(&[][..], Vec::as_slice);
        let (id, total) = (episode.id.clone(), episode.total);
        self.names.iter().map(move |name| {
            let of_reward = scores.iter().find(|scores| &scores.head.reward == name);
            (name.as_str(), of_reward.and_then(|scores| scores.verdict(&id, total)))
        })
    }
}

/// A chunk's entry for one episode.
#[derive(Serialize)]
struct Detail<'a> {
    id: &'a str,
    candidates: &'a [String],
    tokens: &'a [u32],
    /// Start and length of each stretch of sampled tokens.
    sampled: Vec<usize>,
    /// Of the sampled tokens, in units of −10⁻⁴ nats; `null` where it is no number.
    logprobs: Vec<Option<u32>>,
    turns: Vec<(usize, usize, &'a str)>,
    calls: Vec<DetailCall<'a>>,
    calls_allowed: usize,
    components: &'a [(String, f64)],
    abstained: Option<&'a str>,
    others: Vec<DetailOther<'a>>,
}

/// Another reward's verdict.
#[derive(Serialize)]
struct DetailOther<'a> {
    reward: &'a str,
    total: Option<f64>,
    components: &'a [(String, f64)],
    abstained: Option<&'a str>,
}

#[derive(Serialize)]
struct DetailCall<'a> {
    tool: &'a str,
    argument: &'a str,
    result: &'a str,
    ok: bool,
    ms: f64,
    shared: bool,
}

/// One chunk, made on some core.
struct Made {
    packed: String,
    rows: Vec<Row>,
    tokens: BTreeSet<u32>,
    problems: Vec<String>,
}

impl Payload {
    /// Reads the chosen episodes of each run in full and packs them.
    ///
    /// # Errors
    /// When compressing fails. Episodes that cannot be read are named in `problems`.
    pub fn pack(runs: &[(&Run, &Scan, &Selection)], others: Others, options: &PayloadOptions) -> Result<Self> {
        let mut payload = Self::default();
        let mut index = Index { image_chunk: IMAGE_CHUNK, ..Index::new(others.names.len()) };
        let mut strings = Strings::default();
        let mut image_numbers: HashMap<String, usize> = HashMap::new();
        let mut digests: Vec<String> = Vec::new();
        for (number, (run, scan, selection)) in runs.iter().enumerate() {
            let mut problems = Vec::new();
            let plan = plan(&scan.lines, &selection.lines);
            let mut tokens = BTreeSet::new();
            for made in in_parallel(plan.len(), |at| make(scan, &plan[at], others, number)) {
                let made = made?;
                let chunk = payload.chunks.len();
                payload.chunks.push(made.packed);
                tokens.extend(made.tokens);
                problems.extend(made.problems);
                for (at, row) in made.rows.into_iter().enumerate() {
                    let images = row.images.iter().map(|digest| {
                        *image_numbers.entry(digest.clone()).or_insert_with(|| {
                            digests.push(digest.clone());
                            digests.len() - 1
                        })
                    });
                    index.image.push(images.collect());
                    index.chunk.push(chunk);
                    index.at.push(at);
                    index.run.push(number);
                    index.add(row, &mut strings);
                }
            }
            index.pieces.push(pieces(run, &tokens, &mut problems));
            payload.problems.push(problems);
        }
        payload.episodes = index.run.len();
        index.images = digests.len();
        payload.add_images(runs, &digests, options)?;
        index.strings = strings.into_texts();
        payload.index = packed(&index)?;
        Ok(payload)
    }

    fn add_images(&mut self, runs: &[(&Run, &Scan, &Selection)], digests: &[String], options: &PayloadOptions) -> Result<()> {
        let dirs: Vec<PathBuf> = runs.iter().map(|(run, ..)| run.path.join("episodes").join("images")).collect();
        let (mut missing, mut too_many, mut damaged) = (0, 0, Vec::new());
        let mut room = options.max_image_bytes;
        let mut shown: Vec<Option<Picture>> = Vec::with_capacity(digests.len());
        for loaded in images::load(&dirs, digests) {
            shown.push(match loaded {
                Loaded::Shown(picture) if picture.2.len() <= room => {
                    room -= picture.2.len();
                    Some(picture)
                }
                Loaded::Shown(_) => {
                    too_many += 1;
                    None
                }
                Loaded::Missing => {
                    missing += 1;
                    None
                }
                Loaded::Damaged(reason) => {
                    damaged.push(reason);
                    None
                }
            });
        }
        for chunk in shown.chunks(IMAGE_CHUNK) {
            self.images.push(serde_json::to_string(chunk)?);
        }
        let Some(problems) = self.problems.last_mut() else { return Ok(()) };
        if missing > 0 {
            problems.push(format!("{missing} of {} images are not in episodes/images.", digests.len()));
        }
        if let Some(first) = damaged.first() {
            problems.push(format!("{} image(s) cannot be decoded; the first is {first}.", damaged.len()));
        }
        if too_many > 0 {
            problems.push(format!("{too_many} of {} images are left out to keep the page small.", digests.len()));
        }
        Ok(())
    }

    /// Bytes that the payload adds to a page.
    pub fn bytes(&self) -> usize {
        self.index.len() + self.chunks.iter().chain(&self.images).map(String::len).sum::<usize>()
    }

    /// Bytes without the images.
    pub fn episode_bytes(&self) -> usize {
        self.index.len() + self.chunks.iter().map(String::len).sum::<usize>()
    }
}

/// Cuts the chosen lines into chunks of whole groups.
fn plan(lines: &[Line], chosen: &[usize]) -> Vec<Vec<usize>> {
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let bundle =
        |at: usize| (lines[at].step, lines[at].step.map(|_| lines[at].group), lines[at].step.is_none().then_some(&lines[at].sample));
    for at in chosen {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK || chunk.last().is_some_and(|last| bundle(*last) == bundle(*at)) => chunk.push(*at),
            _ => chunks.push(vec![*at]),
        }
    }
    chunks
}

/// Reads one chunk's episodes and packs them.
fn make(scan: &Scan, chunk: &[usize], others: Others, run: usize) -> Result<Made> {
    let (read, problems) = read_full(scan, chunk);
    let advantages = advantages(scan, &read);
    let mut tokens = BTreeSet::new();
    let mut rows = Vec::with_capacity(read.len());
    for ((at, episode), advantage) in read.iter().zip(advantages) {
        tokens.extend(&episode.tokens);
        rows.push(row(scan, *at, episode, advantage, others, run));
    }
    let details: Vec<Detail> = read.iter().map(|(at, episode)| detail(episode, others.on(run, &scan.lines[*at].judged))).collect();
    Ok(Made { packed: packed(&details)?, rows, tokens, problems })
}

/// The episodes of some lines in full.
fn read_full(scan: &Scan, chunk: &[usize]) -> (Vec<(usize, Full)>, Vec<String>) {
    let mut problems = Vec::new();
    let mut read: Vec<(usize, Full)> = Vec::with_capacity(chunk.len());
    let mut open: HashMap<u32, File> = HashMap::new();
    for at in chunk {
        let line = &scan.lines[*at];
        let path = &scan.files[line.file as usize];
        match episode(&mut open, path, line) {
            Ok(episode) => read.push((*at, episode)),
            Err(reason) => problems.push(format!("An episode of {} cannot be shown: {reason}.", file_name(path))),
        }
    }
    (read, problems)
}

fn episode(open: &mut HashMap<u32, File>, path: &Path, line: &Line) -> std::result::Result<Full, String> {
    if let std::collections::hash_map::Entry::Vacant(vacant) = open.entry(line.file) {
        vacant.insert(File::open(path).map_err(|error| error.to_string())?);
    }
    let file = open.get_mut(&line.file).ok_or("the file is gone")?;
    let mut bytes = vec![0; line.len as usize];
    file.seek(SeekFrom::Start(line.offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The advantage of each training episode within its group, as GRPO's learner standardises it: (r − mean) / (std + 1e-6) with the
/// unbiased deviation, zero where all rewards are equal.
fn advantages(scan: &Scan, episodes: &[(usize, Full)]) -> Vec<Option<f64>> {
    let group_of = |at: usize| scan.lines[at].step.map(|step| (step, scan.lines[at].group));
    let reward = |episode: &Full| episode.reward.as_ref().and_then(Reward::scored).map(|scored| scored.total);
    let mut groups: HashMap<(usize, usize), Vec<f64>> = HashMap::new();
    for (at, episode) in episodes {
        if let (Some(group), Some(reward)) = (group_of(*at), reward(episode)) {
            groups.entry(group).or_default().push(reward);
        }
    }
    let advantage = |at: usize, episode: &Full| {
        let rewards = groups.get(&group_of(at)?)?;
        let reward = reward(episode)?;
        if rewards.len() < 2 || rewards.windows(2).all(|pair| pair[0] == pair[1]) {
            return Some(0.0);
        }
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (rewards.len() - 1) as f64;
        Some((reward - mean) / (variance.sqrt() + 1e-6))
    };
    episodes.iter().map(|(at, episode)| advantage(*at, episode)).collect()
}

fn row(scan: &Scan, at: usize, episode: &Full, advantage: Option<f64>, others: Others, run: usize) -> Row {
    let line = &scan.lines[at];
    let path = &scan.files[line.file as usize];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let scored = episode.reward.as_ref().and_then(Reward::scored);
    let mut tools: Vec<&str> = episode.calls.iter().map(|call| call.tool.as_str()).collect();
    tools.sort_unstable();
    tools.dedup();
    let least_logprob = episode.logprobs.iter().flatten().copied().min_by(f32::total_cmp);
    let unlikely = least_logprob.is_some_and(|least| least < UNLIKELY);
    Row {
        place: Place::of(&episode.id, &stem),
        sample: episode.sample.clone(),
        class: episode.category.clone().unwrap_or_default(),
        question: episode.question.clone(),
        truth: episode.ground_truth.clone(),
        answer: answer(episode).unwrap_or_default().to_owned(),
        tools: tools.join(" + "),
        ending: episode.ending.clone(),
        reward: scored.map(|scored| scored.total),
        accuracy: scored.map(|scored| scored.accuracy()),
        advantage,
        flags: line.flags | if unlikely { Flag::Unlikely.bit() } else { 0 },
        tool_ms: episode.calls.iter().map(|call| call.elapsed_ms).sum(),
        least_logprob,
        turns: episode.turns.iter().map(|turn| turn.text.chars().take(SEARCHED).collect()).collect(),
        images: episode.image_digests.clone(),
        others: others
            .on(run, &line.judged)
            .map(|(_, verdict)| verdict.and_then(Reward::scored).map(|scored| (scored.total, scored.accuracy())))
            .collect(),
    }
}

/// Text of the last `<answer>` of the last turn.
fn answer(episode: &Full) -> Option<&str> {
    let (_, after) = episode.turns.last()?.text.rsplit_once("<answer>")?;
    Some(after.split_once("</answer>")?.0.trim())
}

fn detail<'a>(episode: &'a Full, others: impl Iterator<Item = (&'a str, Option<&'a Reward>)>) -> Detail<'a> {
    let mut sampled = Vec::new();
    let mut at = 0;
    for stretch in episode.mask.chunk_by(|a, b| a == b) {
        if stretch[0] {
            sampled.extend([at, stretch.len()]);
        }
        at += stretch.len();
    }
    let unit = |logprob: &Option<f32>| logprob.filter(|l| l.is_finite()).map(|l| (l / LOGPROB_UNIT).round().max(0.0) as u32);
    Detail {
        id: &episode.id,
        candidates: &episode.candidate_answers,
        tokens: &episode.tokens,
        sampled,
        logprobs: episode.logprobs.iter().map(unit).collect(),
        turns: episode.turns.iter().map(|turn| (turn.start, turn.end, turn.text.as_str())).collect(),
        calls: episode
            .calls
            .iter()
            .map(|call| DetailCall {
                tool: &call.tool,
                argument: &call.argument,
                result: &call.result,
                ok: call.ok,
                ms: rounded(call.elapsed_ms, 1e3),
                shared: call.shared,
            })
            .collect(),
        calls_allowed: episode.calls_allowed,
        components: episode.reward.as_ref().and_then(Reward::scored).map_or(&[], |scored| &scored.components),
        abstained: episode.reward.as_ref().and_then(Reward::abstained),
        others: others
            .filter_map(|(reward, verdict)| {
                let verdict = verdict?;
                let scored = verdict.scored();
                Some(DetailOther {
                    reward,
                    total: scored.map(|scored| scored.total),
                    components: scored.map_or(&[], |scored| &scored.components),
                    abstained: verdict.abstained(),
                })
            })
            .collect(),
    }
}

/// What a page that is being looked at gets of the episodes: the same, as plain JSON, a part at a time.
pub(crate) struct LivePayload;

/// A part of the list.
#[derive(Serialize)]
struct Part<'a> {
    /// Number of its first episode.
    from: usize,
    index: &'a Index,
    /// The digests of the images that the index counts.
    digests: &'a [String],
}

impl LivePayload {
    /// The index of some episodes, of which the first has the number `from`.
    pub fn part(scan: &Scan, chosen: &[usize], from: usize, others: Others, pieces: Option<&Pieces>) -> Result<String> {
        // Groups stand together, so that a part that is cut anywhere else than between parts told before holds them whole.
        let (read, _) = read_full(scan, chosen);
        let advantages = advantages(scan, &read);
        let (mut index, mut strings) = (Index::new(others.names.len()), Strings::default());
        let (mut tokens, mut digests) = (BTreeSet::new(), Vec::new());
        let mut image_numbers: HashMap<String, usize> = HashMap::new();
        for ((at, episode), advantage) in read.iter().zip(advantages) {
            tokens.extend(&episode.tokens);
            let row = row(scan, *at, episode, advantage, others, 0);
            let images = row.images.iter().map(|digest| {
                *image_numbers.entry(digest.clone()).or_insert_with(|| {
                    digests.push(digest.clone());
                    digests.len() - 1
                })
            });
            index.image.push(images.collect());
            index.chunk.push(0);
            // The line's number is what a detail is asked for by.
            index.at.push(*at);
            index.run.push(0);
            index.add(row, &mut strings);
        }
        let text = |id: &u32| Some((*id, pieces?.get(*id)?.to_owned()));
        index.pieces.push(tokens.iter().filter_map(text).collect());
        index.images = digests.len();
        index.strings = strings.into_texts();
        Ok(serde_json::to_string(&Part { from, index: &index, digests: &digests })?)
    }

    /// One episode in full; `None` where there is none, or it cannot be read any more.
    pub fn detail(scan: &Scan, at: usize, others: Others) -> Result<Option<String>> {
        if at >= scan.lines.len() {
            return Ok(None);
        }
        let (read, _) = read_full(scan, &[at]);
        let Some((_, episode)) = read.first() else { return Ok(None) };
        Ok(Some(serde_json::to_string(&detail(episode, others.on(0, &scan.lines[at].judged)))?))
    }

    /// An image, as it stands in a report; `None` where it is missing or damaged.
    pub fn picture(run: &Path, digest: &str) -> Result<Option<String>> {
        let found = images::load(&[run.join("episodes").join("images")], &[digest.to_owned()]);
        match found.into_iter().next() {
            Some(Loaded::Shown(picture)) => Ok(Some(serde_json::to_string(&picture)?)),
            _ => Ok(None),
        }
    }
}

/// The run's vocabulary, from its newest checkpoint that holds a readable one.
pub(crate) fn vocabulary(run: &Run) -> std::result::Result<Pieces, String> {
    let mut reason = "it has no checkpoint".to_owned();
    for checkpoint in run.checkpoints.iter().rev() {
        match Pieces::read(&checkpoint.path.join("tokenizer.json")) {
            Ok(pieces) => return Ok(pieces),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// The text of the tokens in use; empty where no checkpoint holds a readable tokenizer.
fn pieces(run: &Run, tokens: &BTreeSet<u32>, problems: &mut Vec<String>) -> BTreeMap<u32, String> {
    if tokens.is_empty() {
        return BTreeMap::new();
    }
    match vocabulary(run) {
        Ok(pieces) => tokens.iter().filter_map(|id| Some((*id, pieces.get(*id)?.to_owned()))).collect(),
        Err(reason) => {
            problems.push(format!("The tokens are shown by number, since the tokenizer of the run cannot be read: {reason}."));
            BTreeMap::new()
        }
    }
}

//! One rollout as a state machine: generate a turn, read its ending, call the tool, append its result, go on.

use crate::invariants::Witness;
use crate::protocol::{ANSWER, REASON, marks};
use crate::roller::GroupContext;
use crate::tools::{Content, Outcome, transcript};
use crate::{CallRecord, Ending, Episode, Error, Result, TurnEnding, TurnRecord, Workflow, turn_seed};
use mmhost_engine::{Engine, Finish, Sampling, SequenceId, TurnRequest};
use mmhost_model::{Message, Segment};
use std::sync::Arc;

/// A sequence that is closed when its rollout ends, however it ends.
pub(crate) struct OpenSequence {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) id: SequenceId,
}

impl Drop for OpenSequence {
    fn drop(&mut self) {
        self.engine.close(self.id);
    }
}

/// How a stretch of generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The policy ended its turn.
    Eos,
    /// A stop string appeared.
    Found,
    /// A limit of turn or episode was reached.
    Length,
    /// A token was drawn that the policy may not write; it is not part of the record.
    Forbidden,
}

/// One rollout under way.
pub(crate) struct Rollout {
    group: Arc<GroupContext>,
    /// Position within the group.
    index: usize,
    sequence: OpenSequence,
    /// The record as it grows.
    episode: Episode,
    /// Tokens that the engine has not read yet.
    pending: Segment,
    witness: Witness,
}

impl Rollout {
    pub(crate) fn new(group: Arc<GroupContext>, index: usize, sequence: OpenSequence) -> Self {
        let mut episode = group.blank_episode(index);
        let mut witness = Witness::default();
        episode.tokens.extend_from_slice(&group.prompt.tokens);
        episode.mask.resize(episode.tokens.len(), false);
        witness.handed_over(&episode.tokens);
        Self { group, index, sequence, episode, pending: Segment::default(), witness }
    }

    /// Runs to the end.
    pub(crate) async fn run(mut self) -> Result<Episode> {
        self.episode.ending = match self.group.workflow {
            Workflow::Direct => self.free(1).await?,
            Workflow::OnDemand => {
                let turns = self.group.shared.protocol.options().max_turns;
                self.free(turns).await?
            }
            Workflow::Rag => self.forced().await?,
        };
        self.witness.check(self.episode, &self.group.shared.processor)
    }

    /// The policy decides how each turn ends.
    async fn free(&mut self, max_turns: usize) -> Result<Ending> {
        let group = self.group.clone();
        let protocol = &group.shared.protocol;
        for turn in 0.. {
            let start = self.episode.tokens.len();
            let stop = self.generate(turn, 0, &[]).await?;
            let text = self.close_turn(start)?;
            match stop {
                Stop::Eos => {}
                Stop::Forbidden | Stop::Found => return Ok(Ending::Malformed),
                Stop::Length => return Ok(Ending::Length),
            }
            if group.shared.control_tokens_in(&self.episode.tokens[start..]) {
                return Ok(Ending::Malformed);
            }
            let (tool, argument) = match protocol.parse(group.workflow, &text) {
                Err(_) => return Ok(Ending::Malformed),
                Ok(TurnEnding::Answer(_)) => return Ok(Ending::Answered),
                Ok(TurnEnding::Call { tool, argument }) => (tool, argument),
            };
            let spec = &protocol.tools()[tool];
            let calls = &self.episode.calls;
            let of_tool = calls.iter().filter(|call| call.tool == spec.name).count();
            if calls.len() >= protocol.options().max_calls || of_tool >= spec.max_calls as usize {
                return Ok(Ending::OverLimit);
            }
            if turn + 1 >= max_turns {
                return Ok(Ending::Turns);
            }
            if !self.call(tool, &argument).await? {
                return Ok(Ending::Length);
            }
        }
        Ok(Ending::Turns)
    }

    /// The host forces each turn's ending: image search, text search, answer. The policy writes the reasons, the query and
    /// the answer. Forced tokens are not sampled.
    async fn forced(&mut self) -> Result<Ending> {
        let group = self.group.clone();
        let protocol = &group.shared.protocol;
        let rag = protocol.rag_tools()?;
        let tool_marks = |tool: usize| marks(&protocol.tools()[tool].call);

        // 1. Image search.
        let start = self.episode.tokens.len();
        if let Some(ending) = self.reason(0).await? {
            self.close_turn(start)?;
            return Ok(ending);
        }
        self.force(&tool_marks(rag.image).0)?;
        self.end_turn();
        self.close_turn(start)?;
        if !self.call(rag.image, "").await? {
            return Ok(Ending::Length);
        }

        // 2. Text search.
        let start = self.episode.tokens.len();
        let (open, close) = tool_marks(rag.text);
        let written = self.forced_tag(1, &open, &close.unwrap_or_default()).await?;
        let (query, _) = match written {
            Ok(content) => content,
            Err(ending) => {
                self.close_turn(start)?;
                return Ok(ending);
            }
        };
        self.end_turn();
        self.close_turn(start)?;
        if !self.call(rag.text, &query).await? {
            return Ok(Ending::Length);
        }

        // 3. Answer.
        let start = self.episode.tokens.len();
        let written = self.forced_tag(2, ANSWER.0, ANSWER.1).await?;
        self.close_turn(start)?;
        Ok(match written {
            Ok((_, true)) => Ending::Answered,
            Ok((_, false)) => Ending::Malformed,
            Err(ending) => ending,
        })
    }

    /// The policy's reason in a forced turn, closed by the host where the policy does not close it. `Some` ends the episode.
    async fn reason(&mut self, turn: usize) -> Result<Option<Ending>> {
        match self.generate(turn, 0, &[REASON.1]).await? {
            Stop::Found => Ok(None),
            Stop::Forbidden => Ok(Some(Ending::Malformed)),
            Stop::Length if self.room() == 0 => Ok(Some(Ending::Length)),
            Stop::Length | Stop::Eos => self.force(REASON.1).map(|()| None),
        }
    }

    /// A forced turn whose ending has content: the reason, the forced opening mark, then the policy's words up to the closing
    /// mark, which is forced when the turn's limit comes first. Gives the words and whether they are closed, or how the
    /// episode ended.
    async fn forced_tag(&mut self, turn: usize, open: &str, close: &str) -> Result<std::result::Result<(String, bool), Ending>> {
        if let Some(ending) = self.reason(turn).await? {
            return Ok(Err(ending));
        }
        self.force(open)?;
        let start = self.episode.tokens.len();
        let stop = self.generate(turn, 1, &[close]).await?;
        let text = self.decode(&self.episode.tokens[start..])?;
        let closed = match stop {
            Stop::Forbidden => return Ok(Err(Ending::Malformed)),
            Stop::Length if self.room() == 0 => return Ok(Err(Ending::Length)),
            Stop::Length => {
                self.force(close)?;
                true
            }
            Stop::Found | Stop::Eos => text.contains(close),
        };
        let words = text.split(close).next().unwrap_or_default();
        Ok(Ok((words.trim().to_owned(), closed)))
    }

    /// Generates one stretch of a turn.
    async fn generate(&mut self, turn: usize, stretch: usize, stops: &[&str]) -> Result<Stop> {
        let shared = &self.group.shared;
        let max_new_tokens = shared.protocol.options().max_turn_tokens.min(self.room());
        if max_new_tokens == 0 {
            return Ok(Stop::Length);
        }
        self.witness.handed_over(&self.episode.tokens);
        let request = TurnRequest {
            append: std::mem::take(&mut self.pending),
            sampling: Sampling {
                temperature: self.group.temperature,
                top_p: 1.0,
                top_k: 0,
                seed: turn_seed(self.group.seed, self.group.index, self.index, turn, stretch),
            },
            max_new_tokens,
            stop_strings: stops.iter().map(|stop| (*stop).to_owned()).collect(),
        };
        let generated = shared
            .engine
            .generate(self.sequence.id, request)
            .await
            .map_err(|source| Error::Engine { episode: self.episode.id.clone(), source })?;

        // A sampled image placeholder has no features behind it: the record ends before it.
        let forbidden = generated.tokens.iter().position(|id| shared.placeholders.contains(id));
        let kept = forbidden.unwrap_or(generated.tokens.len());
        let start = self.episode.tokens.len();
        self.episode.tokens.extend_from_slice(&generated.tokens[..kept]);
        self.episode.mask.resize(start + kept, true);
        self.episode.logprobs.extend(generated.logprobs.iter().take(match forbidden {
            Some(_) => kept,
            // All of them, so that one too many is noticed.
            None => usize::MAX,
        }));
        self.witness.sampled(start..start + kept);
        Ok(match generated.finish {
            _ if forbidden.is_some() => Stop::Forbidden,
            Finish::Eos => Stop::Eos,
            Finish::Length => Stop::Length,
            Finish::Stop(_) => Stop::Found,
        })
    }

    /// Calls a tool and appends what it returned. False when not even a withheld result fits into the episode.
    async fn call(&mut self, tool: usize, argument: &str) -> Result<bool> {
        let group = self.group.clone();
        let outcome = group.calls.call(tool, argument).await;
        let (segment, body, mut result) = self.fit(tool, &outcome)?;
        // The record says more than the policy is told, where there is more to say.
        if let Some(fault) = outcome.fault.as_ref().filter(|fault| !result.contains(fault.as_str())) {
            result.push_str(&format!("\n[{fault}]"));
        }
        self.episode.calls.push(CallRecord {
            tool: group.shared.protocol.tools()[tool].name.clone(),
            digest: group.shared.tools[tool].about().digest.to_owned(),
            argument: argument.to_owned(),
            result,
            ok: outcome.fault.is_none(),
            elapsed_ms: outcome.elapsed_ms,
            shared: false, // set by the group when all its calls are known
        });
        let Some(segment) = segment else {
            return Ok(false);
        };
        for content in body {
            if let Content::Image { file, digest, .. } = content {
                self.episode.image_files.push(file);
                self.episode.image_digests.push(digest);
            }
        }
        self.episode.images.extend(segment.images.iter().cloned());
        self.append(segment);
        Ok(true)
    }

    /// The continuation with as much of the result as leaves room for another turn. `None` when even an empty result does not
    /// fit. Also what of the result is in it, and the record's text.
    fn fit(&self, tool: usize, outcome: &Outcome) -> Result<(Option<Segment>, Vec<Content>, String)> {
        let options = self.group.shared.protocol.options();
        let reserve = (options.max_turn_tokens / 4).max(1);
        let room = self.room().saturating_sub(reserve);

        let whole = self.continuation(tool, &outcome.body)?;
        if whole.tokens.len() <= room {
            return Ok((Some(whole), outcome.body.clone(), transcript(&outcome.body)));
        }
        let frame = self.continuation(tool, &[])?;
        if frame.tokens.len() > room {
            let note = "\n[withheld: the episode has no room for it]";
            return Ok((None, Vec::new(), transcript(&outcome.body) + note));
        }
        // Marks around an image and joints of words cost a few tokens more than their parts: shrink until it fits.
        let mut budget = room - frame.tokens.len();
        loop {
            let body = self.cut(&outcome.body, budget)?;
            let segment = self.continuation(tool, &body)?;
            if segment.tokens.len() <= room {
                let note = "\n[cut: the episode has no room for more]";
                let result = transcript(&body) + note;
                return Ok((Some(segment), body, result));
            }
            let over = segment.tokens.len() - room;
            budget = budget.saturating_sub(over.max(1));
        }
    }

    /// The beginning of a result that has at most `budget` tokens, counted part by part.
    fn cut(&self, body: &[Content], mut budget: usize) -> Result<Vec<Content>> {
        let shared = &self.group.shared;
        let cost = |text: &str| -> Result<usize> {
            let ids = shared.processor.tokenizer.encode_plain(text);
            Ok(ids.map_err(|error| self.text_error("encode a result", error))?.len())
        };
        let mut kept = Vec::new();
        for content in body {
            match content {
                Content::Image { input, .. } => {
                    let tokens = input.num_tokens(shared.merge_size);
                    if tokens > budget {
                        return Ok(kept);
                    }
                    budget -= tokens;
                    kept.push(content.clone());
                }
                Content::Text(text) => {
                    let tokens = cost(text)?;
                    if tokens <= budget {
                        budget -= tokens;
                        kept.push(content.clone());
                        continue;
                    }
                    // The longest prefix that fits, by bisection over character boundaries.
                    let ends: Vec<usize> = text.char_indices().map(|(end, _)| end).collect();
                    let (mut fits, mut over) = (0, ends.len());
                    while fits + 1 < over {
                        let middle = usize::midpoint(fits, over);
                        if cost(&text[..ends[middle]])? <= budget {
                            fits = middle;
                        } else {
                            over = middle;
                        }
                    }
                    if let Some(end) = ends.get(fits).filter(|end| **end > 0) {
                        kept.push(Content::Text(text[..*end].to_owned()));
                    }
                    return Ok(kept);
                }
            }
        }
        Ok(kept)
    }

    /// What follows the policy's turn: the user message with the result, and the opening of the next turn.
    fn continuation(&self, tool: usize, body: &[Content]) -> Result<Segment> {
        let protocol = &self.group.shared.protocol;
        let parts: Vec<_> = body.iter().map(Content::part).collect();
        let message = Message {
            role: "user".into(),
            content: protocol.after_tool(&protocol.tools()[tool], &parts, &self.group.task.sample.question),
        };
        let segment = self.group.shared.processor.encode_continuation(&[message]);
        segment.map_err(|error| self.text_error("encode a tool's result", error))
    }

    /// Appends tokens that nobody sampled.
    fn append(&mut self, segment: Segment) {
        self.episode.tokens.extend_from_slice(&segment.tokens);
        self.episode.mask.resize(self.episode.tokens.len(), false);
        self.pending.tokens.extend(segment.tokens);
        self.pending.images.extend(segment.images);
    }

    /// Appends text of the protocol within the policy's turn.
    fn force(&mut self, text: &str) -> Result<()> {
        let tokens = self.group.shared.processor.tokenizer.encode(text);
        let tokens = tokens.map_err(|error| self.text_error("encode a forced ending", error))?;
        self.append(Segment { tokens, images: Vec::new() });
        Ok(())
    }

    /// Ends a forced turn, unless the policy already did.
    fn end_turn(&mut self) {
        let shared = &self.group.shared;
        let ended = self.episode.tokens.last().is_some_and(|last| shared.processor.eos_ids().contains(last));
        if !ended {
            let tokens = vec![shared.end_of_turn];
            self.append(Segment { tokens, images: Vec::new() });
        }
    }

    /// Puts the turn that began at `start` on record and gives its text.
    fn close_turn(&mut self, start: usize) -> Result<String> {
        let end = self.episode.tokens.len();
        let text = self.decode(&self.episode.tokens[start..end])?;
        self.episode.turns.push(TurnRecord { start, end, text: text.clone() });
        Ok(text)
    }

    /// Text of tokens of a turn, end-of-turn tokens left out.
    fn decode(&self, tokens: &[u32]) -> Result<String> {
        let processor = &self.group.shared.processor;
        let words: Vec<u32> = tokens.iter().copied().filter(|id| !processor.eos_ids().contains(id)).collect();
        let text = processor.tokenizer.decode(&words);
        text.map_err(|error| self.text_error("decode a turn", error))
    }

    /// How many more tokens the episode may have.
    fn room(&self) -> usize {
        let limit = self.group.shared.protocol.options().max_episode_tokens;
        limit.saturating_sub(self.episode.tokens.len())
    }

    fn text_error(&self, action: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Text { episode: self.episode.id.clone(), action, source: source.into() }
    }
}

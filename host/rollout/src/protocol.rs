//! The texts that the policy reads. Tools contribute their lines, so a new tool needs no change here.
//!
//! Whatever tools and data sets say becomes [`Part::Untrusted`]: control tokens in it stay plain characters. Spaces and line
//! breaks between our text and theirs go with theirs, so that words are tokenised as in running text.

use crate::{Error, Result, Workflow};
use mmhost_model::{ImageInput, Message, Part};
use mmhost_plugins::{CallForm, ToolSpec};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stands in the context once for every feature of an image.
pub(crate) const IMAGE_PAD: &str = "<|image_pad|>";
/// The pair around the policy's thoughts.
pub(crate) const REASON: (&str, &str) = ("<reason>", "</reason>");
/// The pair around the final answer.
pub(crate) const ANSWER: (&str, &str) = ("<answer>", "</answer>");
/// The pair around a tool's result.
pub(crate) const INFORMATION: (&str, &str) = ("<information>", "</information>");
/// The pair around a JSON call.
pub(crate) const TOOL_CALL: (&str, &str) = ("<tool_call>", "</tool_call>");

/// The texts of the protocol and its limits; tools contribute their lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolOptions {
    /// Opening of the system prompt.
    pub opening: String,
    /// How the answer's line in the list of endings reads, e.g. `<answer>ANSWER</answer> final answer`.
    pub answer_line: String,
    /// Most turns of an episode.
    pub max_turns: usize,
    /// Most tool calls of an episode.
    pub max_calls: usize,
    /// Longest turn in tokens. In a forced turn of [`Workflow::Rag`], the reason and what follows it each have this many.
    pub max_turn_tokens: usize,
    /// Longest episode in tokens, prompt, images and results included.
    pub max_episode_tokens: usize,
    /// Most images of one result; a result with more counts as a failed call.
    pub max_result_images: usize,
    /// Most pixels of an image in a result; a larger one counts as a failed call.
    pub max_image_pixels: u64,
}

impl Default for ProtocolOptions {
    fn default() -> Self {
        Self {
            opening: "Think in <reason></reason>, then end the turn with one of:".into(),
            answer_line: "<answer>ANSWER</answer> final answer".into(),
            max_turns: 3,
            max_calls: 2,
            max_turn_tokens: 2048,
            max_episode_tokens: 8192,
            max_result_images: 8,
            max_image_pixels: 4096 * 4096,
        }
    }
}

/// The two tools whose calls [`Workflow::Rag`] forces, as positions in the list of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RagTools {
    /// The image search: the first tool that needs the image and is called by a literal.
    pub image: usize,
    /// The text search: the first tool called by a tag.
    pub text: usize,
}

/// The turn protocol over a list of tools: composes prompts, reads endings ([`Protocol::parse`]).
#[derive(Debug, Clone)]
pub struct Protocol {
    options: ProtocolOptions,
    tools: Vec<ToolSpec>,
}

impl Protocol {
    /// Checks that options and tools fit together.
    ///
    /// # Errors
    /// When a limit is zero, two tools share a name or could be confused with each other or with the protocol's own marks, or
    /// a call form contains control tokens.
    pub fn new(options: ProtocolOptions, tools: Vec<ToolSpec>) -> Result<Self> {
        for (name, value) in [
            ("max_turns", options.max_turns),
            ("max_turn_tokens", options.max_turn_tokens),
            ("max_episode_tokens", options.max_episode_tokens),
        ] {
            if value == 0 {
                return Err(Error::Protocol(format!("{name} is 0; it must be at least 1")));
            }
        }
        check_tools(&tools)?;
        Ok(Self { options, tools })
    }

    /// The options.
    pub fn options(&self) -> &ProtocolOptions {
        &self.options
    }

    /// The tools, in the order of the system prompt.
    pub fn tools(&self) -> &[ToolSpec] {
        &self.tools
    }

    /// The tools that a workflow offers: none in [`Workflow::Direct`], and none that needs an image for a question without one.
    pub fn offered(&self, workflow: Workflow, has_image: bool) -> impl Iterator<Item = &ToolSpec> {
        let tools = match workflow {
            Workflow::Direct => &[],
            Workflow::Rag | Workflow::OnDemand => self.tools.as_slice(),
        };
        tools.iter().filter(move |tool| has_image || !tool.needs_image)
    }

    /// How many calls an episode may make in all.
    pub fn calls_allowed(&self, workflow: Workflow, has_image: bool) -> usize {
        match workflow {
            Workflow::Direct => 0,
            Workflow::Rag => 2,
            Workflow::OnDemand => {
                let of_tools = self.offered(workflow, has_image).map(|tool| tool.max_calls as usize).fold(0, usize::saturating_add);
                of_tools.min(self.options.max_calls).min(self.options.max_turns - 1)
            }
        }
    }

    /// Which tools [`Workflow::Rag`] calls.
    ///
    /// # Errors
    /// When one of the two is not loaded.
    pub fn rag_tools(&self) -> Result<RagTools> {
        let image = self.tools.iter().position(|tool| tool.needs_image && matches!(tool.call, CallForm::Literal(_)));
        let text = self.tools.iter().position(|tool| matches!(tool.call, CallForm::Tag(_)));
        match (image, text) {
            (Some(image), Some(text)) => Ok(RagTools { image, text }),
            (None, _) => Err(Error::Protocol(
                "the rag workflow needs an image search: a tool with needs_image that is called by a literal; load one, or choose another workflow".into(),
            )),
            (_, None) => Err(Error::Protocol(
                "the rag workflow needs a text search: a tool that is called by a tag; load one, or choose another workflow".into(),
            )),
        }
    }

    /// The system prompt as text, for questions with an image.
    pub fn system_prompt(&self, workflow: Workflow) -> String {
        let mut text = String::new();
        for part in self.system_parts(workflow, true) {
            if let Part::Text(piece) | Part::Untrusted(piece) = part {
                text.push_str(&piece);
            }
        }
        text
    }

    /// The system prompt as it is encoded: call forms are ours, descriptions are the tools'.
    pub fn system_parts(&self, workflow: Workflow, has_image: bool) -> Vec<Part> {
        let mut parts = Parts::default();
        parts.ours(&self.options.opening);
        parts.ours("\n");
        for tool in self.offered(workflow, has_image) {
            let description = tool.description.trim();
            match &tool.call {
                CallForm::Literal(literal) => {
                    parts.ours(literal);
                    parts.theirs(&format!(" {description}\n"));
                }
                CallForm::Tag(tag) => {
                    parts.ours(&format!("<{tag}>QUERY</{tag}>"));
                    parts.theirs(&format!(" {description}\n"));
                }
                CallForm::Json(schema) => {
                    let name = serde_json::Value::from(tool.name.as_str());
                    let (open, close) = TOOL_CALL;
                    parts.ours(&format!("{open}{{\"name\": {name}, \"arguments\": ARGUMENTS}}{close}"));
                    parts.theirs(&format!(" {description}; ARGUMENTS is a JSON object of this schema: {}\n", schema.trim()));
                }
            }
        }
        parts.ours(&self.options.answer_line);
        parts.finish()
    }

    /// The conversation up to the policy's first turn: the system prompt, then the images and the question.
    pub fn prompt(&self, workflow: Workflow, question: &str, images: &[Arc<ImageInput>]) -> Vec<Message> {
        let mut parts = Parts::default();
        for image in images {
            parts.image(image.clone());
        }
        parts.theirs(question);
        vec![
            Message { role: "system".into(), content: self.system_parts(workflow, !images.is_empty()) },
            Message { role: "user".into(), content: parts.finish() },
        ]
    }

    /// The user message after a call: the result inside `<information>`, the question again, the tool's instruction. Every
    /// text of `result` counts as untrusted, whatever it is wrapped in.
    pub fn after_tool(&self, tool: &ToolSpec, result: &[Part], question: &str) -> Vec<Part> {
        let mut parts = Parts::default();
        parts.ours(INFORMATION.0);
        for part in result {
            match part {
                Part::Text(text) | Part::Untrusted(text) => parts.theirs(text),
                Part::Image(image) => parts.image(image.clone()),
            }
        }
        parts.ours(INFORMATION.1);
        parts.theirs(&format!("\n{question}\n{}", tool.instruction.trim()));
        parts.finish()
    }
}

/// Gathers parts, joining neighbours of one kind and leaving out empty ones.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn ours(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.0.push(Part::Text(text.to_owned())),
        }
    }

    fn theirs(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Untrusted(last)) => last.push_str(text),
            _ => self.0.push(Part::Untrusted(text.to_owned())),
        }
    }

    fn image(&mut self, image: Arc<ImageInput>) {
        self.0.push(Part::Image(image));
    }

    fn finish(self) -> Vec<Part> {
        self.0
    }
}

/// The texts that mark a call: one for a literal, opening and closing for the others.
pub(crate) fn marks(call: &CallForm) -> (String, Option<String>) {
    match call {
        CallForm::Literal(literal) => (literal.clone(), None),
        CallForm::Tag(tag) => (format!("<{tag}>"), Some(format!("</{tag}>"))),
        CallForm::Json(_) => (TOOL_CALL.0.to_owned(), Some(TOOL_CALL.1.to_owned())),
    }
}

fn check_tools(tools: &[ToolSpec]) -> Result<()> {
    let refuse = |message: String| Err(Error::Protocol(message));
    let mut taken: Vec<(String, String)> = Vec::new();
    for (owner, (open, close)) in
        [("the protocol's reason", REASON), ("the protocol's answer", ANSWER), ("the protocol's tool result", INFORMATION)]
    {
        taken.push((owner.to_owned(), open.to_owned()));
        taken.push((owner.to_owned(), close.to_owned()));
    }
    if !tools.iter().any(|tool| matches!(tool.call, CallForm::Json(_))) {
        // `<tool_call>` belongs to JSON tools even where none is loaded: policies know it from their pretraining.
        taken.push(("the JSON call form".to_owned(), TOOL_CALL.0.to_owned()));
        taken.push(("the JSON call form".to_owned(), TOOL_CALL.1.to_owned()));
    }
    let mut json_seen = false;
    for (index, tool) in tools.iter().enumerate() {
        let name = &tool.name;
        if name.trim().is_empty() {
            return refuse(format!("tool {index} has no name"));
        }
        if tools[..index].iter().any(|other| other.name == *name) {
            return refuse(format!("two tools are named {name:?}; names must differ"));
        }
        match &tool.call {
            CallForm::Literal(literal) => {
                if literal.trim().is_empty() || literal.trim() != literal {
                    return refuse(format!(
                        "tool {name:?} is called by {literal:?}; a literal must not be empty or begin or end with space"
                    ));
                }
                if literal.contains("<|") {
                    return refuse(format!(
                        "tool {name:?} is called by {literal:?}; a literal must not contain `<|`, which opens control tokens"
                    ));
                }
            }
            CallForm::Tag(tag) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if tag.is_empty() || !tag.chars().all(plain) {
                    return refuse(format!(
                        "tool {name:?} is called by the tag {tag:?}; a tag is made of ASCII letters, digits, `_` and `-`"
                    ));
                }
            }
            CallForm::Json(schema) => {
                let parsed: std::result::Result<serde_json::Map<_, _>, _> = serde_json::from_str(schema);
                if let Err(error) = parsed {
                    return refuse(format!("the argument schema of tool {name:?} is not a JSON object: {error}"));
                }
                if std::mem::replace(&mut json_seen, true) {
                    continue; // JSON tools share their marks and are told apart by name.
                }
            }
        }
        let (open, close) = marks(&tool.call);
        let own: Vec<String> = std::iter::once(open).chain(close).collect();
        for mark in &own {
            for (owner, other) in &taken {
                if mark.contains(other.as_str()) || other.contains(mark.as_str()) {
                    return refuse(format!(
                        "the call of tool {name:?}, {mark:?}, can be confused with {other:?} of {owner}; choose another call form"
                    ));
                }
            }
        }
        taken.extend(own.into_iter().map(|mark| (format!("tool {name:?}"), mark)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, call: CallForm, instruction: &str) -> ToolSpec {
        ToolSpec {
            name: name.into(),
            description: name.replace('-', " "),
            needs_image: matches!(call, CallForm::Literal(_)),
            call,
            max_calls: 1,
            instruction: instruction.into(),
        }
    }

    fn tools() -> Vec<ToolSpec> {
        vec![
            tool("image-search", CallForm::Literal("<search><img></search>".into()), "Answer or use text search."),
            tool("text-search", CallForm::Tag("text_search".into()), "Answer now."),
        ]
    }

    fn flat(parts: &[Part]) -> String {
        parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => format!("[{text}]"),
                Part::Untrusted(text) => text.clone(),
                Part::Image(_) => "[image]".into(),
            })
            .collect()
    }

    #[test]
    fn system_prompts_list_the_tools_in_order() {
        let protocol = Protocol::new(ProtocolOptions::default(), tools()).unwrap();
        assert_eq!(
            protocol.system_prompt(Workflow::OnDemand),
            "Think in <reason></reason>, then end the turn with one of:\n<search><img></search> image search\n\
             <text_search>QUERY</text_search> text search\n<answer>ANSWER</answer> final answer"
        );
        assert_eq!(protocol.system_prompt(Workflow::Rag), protocol.system_prompt(Workflow::OnDemand));
        assert_eq!(
            protocol.system_prompt(Workflow::Direct),
            "Think in <reason></reason>, then end the turn with one of:\n<answer>ANSWER</answer> final answer"
        );
    }

    #[test]
    fn questions_without_image_are_not_offered_an_image_search() {
        let protocol = Protocol::new(ProtocolOptions::default(), tools()).unwrap();
        let messages = protocol.prompt(Workflow::OnDemand, "Who?", &[]);
        assert!(!flat(&messages[0].content).contains("image search"));
        assert!(flat(&messages[0].content).contains("text search"));
        assert_eq!(protocol.calls_allowed(Workflow::OnDemand, false), 1);
    }

    #[test]
    fn json_tools_are_listed_with_their_schema() {
        let schema = r#"{"type": "object"}"#;
        let protocol = Protocol::new(
            ProtocolOptions::default(),
            vec![tool("calc", CallForm::Json(schema.into()), "Go on."), tool("clock", CallForm::Json(schema.into()), "Go on.")],
        )
        .unwrap();
        let text = protocol.system_prompt(Workflow::OnDemand);
        assert!(
            text.contains("<tool_call>{\"name\": \"calc\", \"arguments\": ARGUMENTS}</tool_call> calc; ARGUMENTS is a JSON object of this schema: {\"type\": \"object\"}\n"),
            "{text}"
        );
        assert!(text.contains("\"clock\""));
    }

    #[test]
    fn text_of_others_is_untrusted() {
        let protocol = Protocol::new(ProtocolOptions::default(), tools()).unwrap();
        let result = [Part::Text("1. </information>".into()), Part::Untrusted("<|im_end|>".into())];
        let parts = protocol.after_tool(&tools()[1], &result, "Who <answer>?");
        assert_eq!(flat(&parts), "[<information>]1. </information><|im_end|>[</information>]\nWho <answer>?\nAnswer now.");
        assert_eq!(
            flat(&protocol.system_parts(Workflow::OnDemand, true)),
            "[Think in <reason></reason>, then end the turn with one of:\n<search><img></search>] image search\n\
             [<text_search>QUERY</text_search>] text search\n[<answer>ANSWER</answer> final answer]"
        );
    }

    #[test]
    fn confusable_tools_are_refused() {
        let literal = |text: &str| CallForm::Literal(text.into());
        let tag = |text: &str| CallForm::Tag(text.into());
        for (call, needle) in [
            (tag("answer"), "answer"),
            (tag("reason"), "reason"),
            (tag("information"), "tool result"),
            (tag("tool_call"), "JSON call form"),
            (tag("text_search"), "text-search"),
            (tag("a b"), "ASCII letters"),
            (tag(""), "ASCII letters"),
            (literal(""), "must not be empty"),
            (literal(" x"), "must not be empty"),
            (literal("<|im_end|>"), "control tokens"),
            (literal("<search><img></search>!"), "image-search"),
            (literal("search"), "image-search"),
            (CallForm::Json("[]".into()), "not a JSON object"),
        ] {
            let mut all = tools();
            all.push(tool("third", call.clone(), ""));
            let error = Protocol::new(ProtocolOptions::default(), all).unwrap_err();
            assert!(error.to_string().contains(needle), "{call:?}: {error}");
        }
        let mut twice = tools();
        twice.push(tool("text-search", tag("other"), ""));
        assert!(Protocol::new(ProtocolOptions::default(), twice).is_err());
        let none = ProtocolOptions { max_turns: 0, ..Default::default() };
        assert!(Protocol::new(none, tools()).is_err());
    }

    #[test]
    fn rag_names_the_tool_that_is_missing() {
        let protocol = Protocol::new(ProtocolOptions::default(), tools()).unwrap();
        assert_eq!(protocol.rag_tools().unwrap(), RagTools { image: 0, text: 1 });
        let only_text = Protocol::new(ProtocolOptions::default(), tools()[1..].to_vec()).unwrap();
        assert!(only_text.rag_tools().unwrap_err().to_string().contains("image search"));
        let only_image = Protocol::new(ProtocolOptions::default(), tools()[..1].to_vec()).unwrap();
        assert!(only_image.rag_tools().unwrap_err().to_string().contains("text search"));
    }

    #[test]
    fn calls_allowed_is_the_tightest_limit() {
        let allowed = |max_turns, max_calls| {
            let options = ProtocolOptions { max_turns, max_calls, ..Default::default() };
            Protocol::new(options, tools()).unwrap().calls_allowed(Workflow::OnDemand, true)
        };
        assert_eq!(allowed(3, 2), 2);
        assert_eq!(allowed(2, 2), 1);
        assert_eq!(allowed(9, 9), 2);
        assert_eq!(allowed(9, 1), 1);
    }
}

//! Reads how a turn ended: exactly one legal ending at its end, or malformed.

use crate::protocol::{ANSWER, TOOL_CALL, marks};
use crate::{Protocol, Workflow};
use mmhost_plugins::CallForm;

/// A legal ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnEnding {
    /// The final answer, trimmed.
    Answer(String),
    /// A tool call.
    Call {
        /// Position in [`Protocol::tools`].
        tool: usize,
        /// Empty for a literal, the tag's trimmed content, or the JSON object of the arguments.
        argument: String,
    },
}

/// Why a turn has no legal ending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// None of the endings occurs.
    #[error("the turn has no ending")]
    Missing,
    /// More than one ending, or parts of several.
    #[error("the turn has more than one ending")]
    Several,
    /// Something follows the ending.
    #[error("the ending does not stand at the end of the turn")]
    NotAtEnd,
    /// The opening or the closing mark is missing, or they are out of order.
    #[error("the ending is not closed")]
    Unclosed,
    /// A tool is called in a workflow without tools.
    #[error("this workflow offers no tools")]
    NotOffered,
    /// A JSON call that is no object with a known `name` and an object `arguments`.
    #[error("the JSON call cannot be read: {0}")]
    Json(String),
}

impl Protocol {
    /// Reads the ending of a turn's text (end-of-turn token already removed). Space after the ending is allowed.
    ///
    /// The rule is strict: over the whole turn, reason included, the marks of exactly one ending occur, once, and nothing but
    /// space follows. So no text that merely mentions a call can trigger one.
    ///
    /// # Errors
    /// [`Malformed`], with why.
    pub fn parse(&self, workflow: Workflow, turn: &str) -> Result<TurnEnding, Malformed> {
        let text = turn.trim_end();
        // All kinds of ending, tools that are not offered included: a turn that mentions their marks is not well formed.
        let answer = (ANSWER.0.to_owned(), Some(ANSWER.1.to_owned()));
        let mut json_seen = false;
        let kinds = self
            .tools()
            .iter()
            .enumerate()
            .filter(|(_, tool)| {
                // JSON tools share their marks; the first stands for all.
                !matches!(tool.call, CallForm::Json(_)) || !std::mem::replace(&mut json_seen, true)
            })
            .map(|(index, tool)| (Some(index), marks(&tool.call)))
            .chain(std::iter::once((None, answer)));

        let mut found = None;
        for (tool, (open, close)) in kinds {
            let opened = text.matches(open.as_str()).count();
            let closed = close.as_ref().map(|close| text.matches(close.as_str()).count());
            if opened == 0 && closed.unwrap_or(0) == 0 {
                continue;
            }
            if found.is_some() || opened > 1 || closed.unwrap_or(1) > 1 {
                return Err(Malformed::Several);
            }
            if opened == 0 || closed == Some(0) {
                return Err(Malformed::Unclosed);
            }
            found = Some((tool, open, close));
        }
        let (tool, open, close) = found.ok_or(Malformed::Missing)?;

        let content = match close {
            None => {
                if !text.ends_with(open.as_str()) {
                    return Err(Malformed::NotAtEnd);
                }
                ""
            }
            Some(close) => {
                let body = text.strip_suffix(close.as_str()).ok_or(Malformed::NotAtEnd)?;
                let (_, content) = body.split_once(open.as_str()).ok_or(Malformed::Unclosed)?;
                content.trim()
            }
        };
        match tool {
            None => Ok(TurnEnding::Answer(content.to_owned())),
            Some(_) if workflow == Workflow::Direct => Err(Malformed::NotOffered),
            Some(tool) => match self.tools()[tool].call {
                CallForm::Json(_) => self.parse_json(content),
                CallForm::Literal(_) | CallForm::Tag(_) => Ok(TurnEnding::Call { tool, argument: content.to_owned() }),
            },
        }
    }

    fn parse_json(&self, content: &str) -> Result<TurnEnding, Malformed> {
        let refuse = |reason: String| Err(Malformed::Json(reason));
        let call: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(content) {
            Ok(call) => call,
            Err(error) => return refuse(error.to_string()),
        };
        let Some(name) = call.get("name").and_then(|name| name.as_str()) else {
            return refuse(format!("no `name` between {} and {}", TOOL_CALL.0, TOOL_CALL.1));
        };
        let tool = self.tools().iter().position(|tool| tool.name == name && matches!(tool.call, CallForm::Json(_)));
        let Some(tool) = tool else {
            return refuse(format!("no tool is named {name:?}"));
        };
        match call.get("arguments") {
            Some(arguments @ serde_json::Value::Object(_)) => Ok(TurnEnding::Call { tool, argument: arguments.to_string() }),
            _ => refuse("`arguments` is not an object".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProtocolOptions;
    use mmhost_plugins::ToolSpec;

    fn protocol() -> Protocol {
        let tool = |name: &str, call| ToolSpec {
            name: name.into(),
            description: String::new(),
            call,
            max_calls: 1,
            instruction: String::new(),
            needs_image: false,
        };
        Protocol::new(
            ProtocolOptions::default(),
            vec![
                tool("image-search", CallForm::Literal("<search><img></search>".into())),
                tool("text-search", CallForm::Tag("text_search".into())),
                tool("calc", CallForm::Json("{}".into())),
                tool("clock", CallForm::Json("{}".into())),
            ],
        )
        .unwrap()
    }

    fn call(tool: usize, argument: &str) -> Result<TurnEnding, Malformed> {
        Ok(TurnEnding::Call { tool, argument: argument.into() })
    }

    #[test]
    fn each_legal_ending_is_read() {
        let read = |text: &str| protocol().parse(Workflow::OnDemand, text);
        assert_eq!(read("<reason>r</reason><search><img></search>"), call(0, ""));
        assert_eq!(read("<reason>r</reason><text_search> capital of Chad </text_search>\n "), call(1, "capital of Chad"));
        assert_eq!(read("<answer>N'Djamena</answer>"), Ok(TurnEnding::Answer("N'Djamena".into())));
        assert_eq!(read("<answer></answer>"), Ok(TurnEnding::Answer(String::new())));
        assert_eq!(read(r#"x<tool_call>{"name": "clock", "arguments": {"zone": "UTC"}}</tool_call>"#), call(3, r#"{"zone":"UTC"}"#));
    }

    #[test]
    fn hostile_turns_are_malformed() {
        use Malformed::{Missing, NotAtEnd, Several, Unclosed};
        for (text, expected) in [
            ("", Missing),
            ("<reason>only thoughts</reason>", Missing),
            ("<information>x</information>", Missing),
            ("<answer>x", Unclosed),
            ("x</answer>", Unclosed),
            ("</answer>x<answer>", NotAtEnd),
            ("<text_search>a</text_search> and more", NotAtEnd),
            ("<search><img></search>.", NotAtEnd),
            ("<answer>x</answer><answer>y</answer>", Several),
            ("<answer><answer>x</answer>", Several),
            ("<search><img></search><search><img></search>", Several),
            ("<search><img></search><answer>x</answer>", Several),
            ("<text_search><answer>x</answer></text_search>", Several),
            ("<text_search>a</text_search></answer>", Several),
            ("<reason>maybe <text_search>a</text_search></reason><answer>x</answer>", Several),
        ] {
            assert_eq!(protocol().parse(Workflow::OnDemand, text), Err(expected), "{text}");
        }
        for text in [
            "<tool_call>not json</tool_call>",
            "<tool_call>[]</tool_call>",
            "<tool_call>{}</tool_call>",
            r#"<tool_call>{"name": "rm", "arguments": {}}</tool_call>"#,
            r#"<tool_call>{"name": "text-search", "arguments": {}}</tool_call>"#,
            r#"<tool_call>{"name": "calc", "arguments": "{}"}</tool_call>"#,
        ] {
            let read = protocol().parse(Workflow::OnDemand, text);
            assert!(matches!(read, Err(Malformed::Json(_))), "{text}: {read:?}");
        }
    }

    #[test]
    fn direct_offers_no_tools() {
        let read = |text: &str| protocol().parse(Workflow::Direct, text);
        assert_eq!(read("<text_search>a</text_search>"), Err(Malformed::NotOffered));
        assert_eq!(read("<search><img></search><answer>x</answer>"), Err(Malformed::Several));
        assert_eq!(read("<answer>x</answer>"), Ok(TurnEnding::Answer("x".into())));
    }

    /// Random strings of the protocol's own pieces: whatever is accepted obeys the rule, judged by a second, naive reading.
    #[test]
    fn whatever_is_accepted_has_one_ending_at_its_end() {
        let pieces = [
            "<reason>",
            "</reason>",
            "<search><img></search>",
            "<text_search>",
            "</text_search>",
            "<answer>",
            "</answer>",
            "<tool_call>",
            "</tool_call>",
            " ",
            "\n",
            "x",
            "é",
            "<",
            "</",
            "<search>",
            r#"{"name":"calc","arguments":{}}"#,
            "<information>",
            "</information>",
            "<|im_end|>",
        ];
        let protocol = protocol();
        let mut accepted = 0;
        for case in 0..60_000_u64 {
            let length = crate::turn_seed(case, 0, 0, 0, 0) % 7;
            let text: String = (0..length).map(|i| pieces[crate::turn_seed(case, 1, i as usize, 0, 0) as usize % pieces.len()]).collect();
            let Ok(ending) = protocol.parse(Workflow::OnDemand, &text) else {
                continue;
            };
            accepted += 1;
            let trimmed = text.trim_end();
            let opens = ["<search><img></search>", "<text_search>", "<answer>", "<tool_call>"];
            let closes = ["</text_search>", "</answer>", "</tool_call>"];
            let count = |marks: &[&str]| marks.iter().map(|m| text.matches(m).count()).sum::<usize>();
            assert_eq!(count(&opens), 1, "{text}");
            let (suffix, closings) = match &ending {
                TurnEnding::Answer(_) => ("</answer>", 1),
                TurnEnding::Call { tool: 0, .. } => ("<search><img></search>", 0),
                TurnEnding::Call { tool: 1, .. } => ("</text_search>", 1),
                TurnEnding::Call { .. } => ("</tool_call>", 1),
            };
            assert!(trimmed.ends_with(suffix), "{text}");
            assert_eq!(count(&closes), closings, "{text}");
        }
        assert!(accepted > 500, "only {accepted} accepted: the test proves little");
    }
}

//! What tools must keep.

use super::Checker;
use super::battery;
use crate::call::answered;
use crate::types::{CallForm, ResultPart, ToolInput};
use crate::{ToolError, ToolPlugin};
use serde_json::Value;

/// Most characters of a self-description; all of it stands in every system prompt.
const MAX_DESCRIPTION: usize = 500;

impl Checker {
    pub(super) async fn tool(&mut self, tool: &ToolPlugin) {
        self.tool_description(tool);
        let ordinary = ordinary(&tool.spec().call);
        let image = battery::png(56, 56);
        let input =
            |argument: String| ToolInput { argument, images: vec![image.clone()], question: "What is the capital of this country?".into() };
        let mut inputs: Vec<(String, ToolInput)> = vec![("an ordinary argument".into(), input(ordinary.clone()))];
        inputs.extend(battery::texts().into_iter().map(|(name, text)| (format!("{name} as the argument"), input(text))));
        inputs.extend(battery::texts().into_iter().map(|(name, text)| {
            let input = ToolInput { question: text, ..input(ordinary.clone()) };
            (format!("{name} as the question"), input)
        }));
        inputs.extend(battery::images().into_iter().map(|(name, images)| (name.into(), ToolInput { images, ..input(ordinary.clone()) })));
        for (name, input) in &inputs {
            self.one_call(tool, name, input).await;
        }
        self.tool_state(tool, &inputs[0].1, &inputs[1].1).await;
    }

    fn tool_description(&mut self, tool: &ToolPlugin) {
        let spec = tool.spec();
        let place = format!("{}: `describe`", self.folder.display());
        let length = spec.description.chars().count() + spec.instruction.chars().count();
        if length > MAX_DESCRIPTION {
            self.warning(
                "description",
                &place,
                format!("description and instruction have {length} characters"),
                "every episode carries them in its context",
                &format!("stay below {MAX_DESCRIPTION}"),
            );
        }
        if let CallForm::Json(schema) = &spec.call {
            let schema: Value = serde_json::from_str(schema).unwrap_or_default();
            if let Err(error) = jsonschema::validator_for(&schema) {
                self.error(
                    "description",
                    &place,
                    format!("the schema of the arguments is not valid: {error}"),
                    "the policy reads it in its system prompt",
                    "return a JSON Schema of an object",
                );
            } else if schema["type"] != "object" {
                self.warning(
                    "description",
                    &place,
                    "the schema of the arguments does not say `\"type\": \"object\"`",
                    "a call in JSON carries an object of arguments",
                    "add it",
                );
            }
        }
    }

    async fn one_call(&mut self, tool: &ToolPlugin, name: &str, input: &ToolInput) {
        let outcome = tool.answer(input).await;
        let answer = match &outcome {
            Err(error) => return self.failed("call", name, error),
            Ok((answer, cost)) => {
                self.spent(*cost);
                answer
            }
        };
        match answer {
            Err(ToolError::Internal(said)) => self.warning(
                "internal",
                self.at("call", name),
                format!("the tool reports an internal error: {said}"),
                "the policy learns nothing from it, and people look for a fault where there is none",
                "report `bad-argument`, `missing-image` or `nothing-found`, and say what would be right",
            ),
            Ok(parts) if is_blank(parts) => self.warning(
                "blank",
                self.at("call", name),
                "the answer is blank",
                "the policy sees an empty result and cannot tell why",
                "report `nothing-found`",
            ),
            Ok(_) if tool.spec().needs_image && input.images.is_empty() => self.warning(
                "missing-image",
                self.at("call", name),
                "the tool says that it needs an image, and answers without one",
                "it is not offered for questions without an image, though it could answer them",
                "report `missing-image`, or describe it with `needs-image` false",
            ),
            _ => {}
        }
        let again = tool.answer(input).await;
        if let (Ok((first, _)), Ok((second, _))) = (&outcome, &again)
            && answered(first) != answered(second)
        {
            self.error(
                "determinism",
                self.at("call", name),
                "the same input in a fresh instance gave another answer",
                "a run cannot be repeated, and what a group's rollouts earn is not comparable",
                "derive the answer from the input, the configuration and granted corpora alone",
            );
        }
    }

    /// What a call leaves behind in memory. The host discards it, so a plugin that counts on it is mistaken.
    async fn tool_state(&mut self, tool: &ToolPlugin, first: &ToolInput, between: &ToolInput) {
        let Ok(answers) = tool.answers_in_one_instance(&[first.clone(), between.clone(), first.clone()]).await else {
            // The contract promises a fresh instance, so to fail in a used one is no fault.
            return;
        };
        if answered(&answers[0]) != answered(&answers[2]) {
            self.stateful("call");
        }
    }

    pub(super) fn stateful(&mut self, function: &str) {
        self.warning(
            "state",
            self.at(function, "the same input before and after another one in one instance"),
            "the answer depends on the calls before",
            "the host calls in fresh instances, so what is kept in memory is lost",
            "keep nothing in global variables between calls",
        );
    }
}

fn is_blank(parts: &[ResultPart]) -> bool {
    parts.iter().all(|part| matches!(part, ResultPart::Text(text) if text.trim().is_empty()))
}

/// An argument as the tool's own description suggests it.
pub(crate) fn ordinary(call: &CallForm) -> String {
    match call {
        CallForm::Literal(_) => String::new(),
        CallForm::Tag(_) => "capital of Peru".into(),
        CallForm::Json(schema) => example(&serde_json::from_str(schema).unwrap_or_default(), 0).to_string(),
    }
}

/// A value that a schema allows, for the keywords that tools use: an example or default if it gives one.
fn example(schema: &Value, depth: usize) -> Value {
    let given =
        schema["examples"].get(0).or_else(|| schema.get("default")).or_else(|| schema.get("const")).or_else(|| schema["enum"].get(0));
    if let Some(given) = given {
        return given.clone();
    }
    match schema["type"].as_str() {
        Some("object") | None if depth < 8 => {
            let properties = schema["properties"].as_object();
            properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), example(schema, depth + 1)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Some("string") => "Peru".into(),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("boolean") => true.into(),
        Some("array") if depth < 8 => vec![example(&schema["items"], depth + 1)].into(),
        _ => Value::Null,
    }
}

//! The texts between the policy's words: what the host would say.

use std::sync::Arc;

use image::RgbImage;

use super::Part;

/// A hit of an image search as the policy sees it.
#[derive(Debug, Clone)]
pub struct ImageHit {
    /// Title of the page.
    pub title: String,
    /// Thumbnail of its image.
    pub thumbnail: Arc<RgbImage>,
}

/// What the host says to the policy, and the form of the policy's turns. The host composes these from the loaded tools; the warm-up uses
/// whatever it is given, so that the base policy is taught in the very words that it will meet.
pub trait Protocol: Send + Sync {
    /// The instructions, with the tools or without.
    fn system(&self, with_tools: bool) -> String;
    /// The user message after an image search.
    fn after_image(&self, hits: &[ImageHit], question: &str) -> Vec<Part>;
    /// The user message after a text search.
    fn after_text(&self, passages: &[String], question: &str) -> Vec<Part>;
    /// The ending that calls the image search.
    fn image_call(&self) -> String;
    /// The ending that calls the text search.
    fn text_call(&self, query: &str) -> String;
    /// The ending that answers. A space precedes the answer, as it precedes names everywhere: the tokens are then the same.
    fn answer(&self, answer: &str) -> String;
    /// The reason that opens a turn.
    fn reason(&self, reason: &str) -> String;
}

/// The protocol of the reference tools in fixed texts, for use without a rollout.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainProtocol;

impl Protocol for PlainProtocol {
    fn system(&self, with_tools: bool) -> String {
        let mut text = String::from("Think in <reason></reason>, then end the turn with one of:\n");
        if with_tools {
            text.push_str("<search><img></search> image search\n<text_search>QUERY</text_search> text search\n");
        }
        text.push_str("<answer>ANSWER</answer> final answer");
        text
    }

    fn after_image(&self, hits: &[ImageHit], question: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text = String::from("<information>");
        for (i, hit) in hits.iter().enumerate() {
            text.push_str(&format!("{}{}. ", if i == 0 { "" } else { "\n" }, i + 1));
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(Part::Image(hit.thumbnail.clone()));
            text.push_str(&hit.title);
        }
        text.push_str(&format!("</information>\n{question}\nAnswer or use text search."));
        parts.push(Part::Text(text));
        parts
    }

    fn after_text(&self, passages: &[String], question: &str) -> Vec<Part> {
        let numbered: Vec<String> = passages.iter().enumerate().map(|(i, passage)| format!("{}. {passage}", i + 1)).collect();
        vec![Part::Text(format!("<information>{}</information>\n{question}\nAnswer now.", numbered.join("\n")))]
    }

    fn image_call(&self) -> String {
        "<search><img></search>".into()
    }

    fn text_call(&self, query: &str) -> String {
        format!("<text_search>{query}</text_search>")
    }

    fn answer(&self, answer: &str) -> String {
        format!("<answer> {answer}</answer>")
    }

    fn reason(&self, reason: &str) -> String {
        format!("<reason>{reason}</reason>")
    }
}

//! Conversations before they are tokens.

use std::sync::Arc;

use crate::ImageInput;

/// One chat message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Text and images in order.
    pub content: Vec<Part>,
}

impl Message {
    /// A message of one trusted text.
    pub fn text(role: &str, text: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: vec![Part::Text(text.into())] }
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text of our own or the policy's making: special and added tokens in it count.
    Text(String),
    /// Text from elsewhere (tool output, data sets): control tokens in it stay plain characters.
    Untrusted(String),
    /// An image; the template writes its placeholder.
    Image(Arc<ImageInput>),
}

/// Tokens ready for the model: image placeholders already expanded to `num_tokens` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Images in order.
    pub images: Vec<Arc<ImageInput>>,
}

//! Chat messages in a JSON file, in the form that transformers' `apply_chat_template` takes.
//!
//! ```json
//! [{"role": "user", "content": [{"type": "image", "path": "flag.png"}, {"type": "text", "text": "Which flag is this?"}]}]
//! ```

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::config_json::show;
use crate::image_file::read_image;
use crate::{Error, Message, Part, Processor, Result};

/// Reads a file of chat messages: a list of them, or an object with the list under `messages`. The content of a message is a
/// string or a list of parts, `{"type": "text", "text": …}` or `{"type": "image", "path": …}`; paths are relative to the file.
/// Control tokens in its texts count, as they do in transformers.
///
/// # Errors
/// [`Error::Messages`] that says where the file has another form; errors of reading and scaling the images.
pub fn read_messages(path: &Path, processor: &Processor) -> Result<Vec<Message>> {
    let value = crate::processor::read_json(path)?;
    let reader = Reader { path, processor };
    let (list, at) = match value.get("messages") {
        Some(list) => (list, "messages"),
        None => (&value, "(whole file)"),
    };
    let messages = list.as_array().ok_or_else(|| reader.error(at, Some(list), "a list of messages"))?;
    if messages.is_empty() {
        return Err(reader.error(at, Some(list), "at least one message"));
    }
    messages.iter().enumerate().map(|(i, message)| reader.message(&format!("messages[{i}]"), message)).collect()
}

struct Reader<'a> {
    path: &'a Path,
    processor: &'a Processor,
}

impl Reader<'_> {
    fn error(&self, at: &str, found: Option<&Value>, expected: &'static str) -> Error {
        let found = found.map_or_else(|| "nothing".to_owned(), show);
        Error::Messages { path: self.path.to_owned(), at: at.to_owned(), found, expected }
    }

    fn message(&self, at: &str, value: &Value) -> Result<Message> {
        let role = value.get("role");
        let known = |role: &&str| ["system", "user", "assistant", "tool"].contains(role);
        let role = role
            .and_then(Value::as_str)
            .filter(known)
            .ok_or_else(|| self.error(&format!("{at}.role"), role, "\"system\", \"user\", \"assistant\" or \"tool\""))?;
        let content = match value.get("content") {
            Some(Value::String(text)) => vec![Part::Text(text.clone())],
            Some(Value::Array(parts)) => {
                parts.iter().enumerate().map(|(i, part)| self.part(&format!("{at}.content[{i}]"), part)).collect::<Result<_>>()?
            }
            other => return Err(self.error(&format!("{at}.content"), other, "a string or a list of parts")),
        };
        Ok(Message { role: role.to_owned(), content })
    }

    fn part(&self, at: &str, part: &Value) -> Result<Part> {
        let string = |name: &str, expected| {
            let value = part.get(name);
            value.and_then(Value::as_str).ok_or_else(|| self.error(&format!("{at}.{name}"), value, expected))
        };
        match part.get("type").and_then(Value::as_str) {
            Some("text") => Ok(Part::Text(string("text", "a string")?.to_owned())),
            Some("image") => {
                let file = string("path", "the path of an image file, relative to this file")?;
                let image = read_image(&self.path.parent().unwrap_or(Path::new("")).join(file))?;
                // transformers drops transparency when it loads an image of a message; only images handed over as pixels
                // are laid on white.
                let image = image::DynamicImage::ImageRgb8(image.to_rgb8());
                Ok(Part::Image(Arc::new(self.processor.process_image(&image)?)))
            }
            _ => Err(self.error(&format!("{at}.type"), part.get("type"), "\"text\" or \"image\"")),
        }
    }
}

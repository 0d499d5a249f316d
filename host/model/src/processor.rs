//! Tokenizer, chat template and image processor together: conversations to tokens.
//!
//! # Text that is not ours
//!
//! Tool results and data sets may contain `<|im_end|>` or `<answer>` as characters. A conversation is rendered to one text
//! before it is tokenised, so such characters must be kept apart from our own. The first character of every added token
//! that touches an untrusted part is replaced by a private-use character before rendering; the rendered text is then
//! divided at the added tokens that are left, and the stretches between them get their characters back and are encoded
//! as plain text. Text without such characters is tokenised exactly as transformers tokenises it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::chat_template::{CHATML, ChatTemplate};
use crate::image_processor::ImageProcessor;
use crate::tokenizer::Piece;
use crate::{Error, ImageInput, Message, ModelConfig, Part, Result, Segment, TokenIds, Tokenizer};

/// Files that a folder keeps as they were read.
const KEPT: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
];

/// Tokenizer, chat template and image processor together. Cheap to clone.
#[derive(Clone)]
pub struct Processor {
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    template: ChatTemplate,
    image_processor: ImageProcessor,
    eos_ids: Arc<[u32]>,
    image_id: u32,
    /// Contents of the files of this processor, by name.
    files: Arc<BTreeMap<String, String>>,
}

impl Processor {
    /// A processor for a model made here: `tokenizer` from [`Tokenizer::train`], our own ChatML template without a default system
    /// prompt, turns ended by `<|im_end|>`.
    ///
    /// # Errors
    /// When the tokenizer lacks a control token.
    pub fn new(tokenizer: Tokenizer, image_processor: ImageProcessor) -> Result<Self> {
        let tokens = token_ids(&tokenizer)?;
        let tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "Qwen2_5_VLProcessor",
            "add_prefix_space": false,
            "clean_up_tokenization_spaces": false,
            "bos_token": null,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": null,
            "model_max_length": 32_768,
        });
        let generation_config = json!({
            "bos_token_id": null,
            "eos_token_id": tokens.eos,
            "pad_token_id": tokens.pad,
            "do_sample": false,
        });
        let files = [
            ("tokenizer.json", tokenizer.to_json().to_owned()),
            ("tokenizer_config.json", format!("{tokenizer_config:#}\n")),
            ("chat_template.jinja", CHATML.to_owned()),
            ("preprocessor_config.json", format!("{:#}\n", image_processor.to_json())),
            ("generation_config.json", format!("{generation_config:#}\n")),
        ];
        Ok(Self {
            template: ChatTemplate::new(CHATML.to_owned(), None, &tokenizer_config)?,
            image_processor,
            eos_ids: tokens.eos.into(),
            image_id: tokens.image,
            files: Arc::new(files.map(|(name, text)| (name.to_owned(), text)).into()),
            tokenizer,
        })
    }

    /// Reads tokenizer, chat template, image processor and generation settings of a Hugging Face folder.
    ///
    /// # Errors
    /// When a file is missing, unreadable, or contradicts `config`.
    pub fn load(dir: &Path, config: &ModelConfig) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            let hint = "save the tokenizer with a recent version of transformers, which writes this file";
            return Err(Error::MissingFile { dir: dir.to_owned(), file: "tokenizer.json".into(), hint });
        }
        let tokenizer = Tokenizer::from_file(&path)?;
        let largest = tokenizer.vocab_size();
        if largest > config.text.vocab_size {
            let reason = format!("{largest} tokens, expected at most vocab_size of config.json ({})", config.text.vocab_size);
            return Err(Error::Tokenizer { path: Some(path), reason });
        }
        let tokenizer_config = read_json_if_there(&dir.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let template = ChatTemplate::from_folder(dir, &tokenizer_config)?;
        let image_processor = load_image_processor(dir, config)?;

        let generation = dir.join("generation_config.json");
        let mut eos = match read_json_if_there(&generation)? {
            Some(value) => crate::config_json::Fields::new(&value, &generation.display().to_string(), "")?.ids("eos_token_id")?,
            None => Vec::new(),
        };
        if eos.is_empty() {
            eos.clone_from(&config.tokens.eos);
        }
        let mut files = BTreeMap::new();
        for name in KEPT {
            let path = dir.join(name);
            if path.exists() {
                files.insert(name.to_owned(), std::fs::read_to_string(&path).map_err(Error::io("read", &path))?);
            }
        }
        Ok(Self { tokenizer, template, image_processor, eos_ids: eos.into(), image_id: config.tokens.image, files: Arc::new(files) })
    }

    /// Writes the files into an existing folder.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        for (name, text) in self.files.iter() {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// Renders a conversation with the chat template and encodes it; with `add_generation_prompt` it ends where the assistant begins.
    ///
    /// # Errors
    /// When the template refuses the messages, or writes another number of image placeholders than there are images.
    pub fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Segment> {
        let mut prepared = self.prepare(messages)?;
        let text = self.template.render(&prepared.messages, add_generation_prompt)?;
        self.encode_rendered(&text, std::mem::take(&mut prepared.images), &prepared.guard)
    }

    /// What follows a finished assistant turn (its end-of-turn token already there): the new messages and the opening of the next assistant turn.
    ///
    /// # Errors
    /// As [`Processor::encode_chat`]; also when the template ends an assistant turn otherwise than by one of
    /// [`Processor::eos_ids`].
    pub fn encode_continuation(&self, messages: &[Message]) -> Result<Segment> {
        let mut prepared = self.prepare(messages)?;
        // An assistant turn whose content is found again in the rendered text; what stands after its end is the continuation.
        let marker = prepared.guard.marker().to_string();
        let opening = [json!({ "role": "user", "content": "" }), json!({ "role": "assistant", "content": marker })];
        let conversation: Vec<Value> = opening.into_iter().chain(std::mem::take(&mut prepared.messages)).collect();
        let text = self.template.render(&conversation, true)?;
        let rest = text
            .split_once(&marker)
            .map(|(_, rest)| rest)
            .ok_or_else(|| self.template.error("it does not write the content of an assistant message".into()))?;
        let ends = self.eos_ids.iter().filter_map(|&id| self.tokenizer.decode(&[id]).ok());
        let rest = ends
            .filter_map(|end| rest.trim_start().strip_prefix(end.as_str()))
            .next()
            .ok_or_else(|| self.template.error("an assistant turn is not followed by an end-of-turn token".into()))?;
        self.encode_rendered(rest, std::mem::take(&mut prepared.images), &prepared.guard)
    }

    /// Decoded pixels to model input.
    ///
    /// # Errors
    /// [`Error::ImageSize`] when the image cannot be scaled to what the model reads.
    pub fn process_image(&self, image: &image::DynamicImage) -> Result<ImageInput> {
        self.image_processor.process(image)
    }

    /// The image processor.
    pub fn image_processor(&self) -> &ImageProcessor {
        &self.image_processor
    }

    /// Ids that end an assistant turn.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Ids for the configuration of a model made for this processor.
    ///
    /// # Errors
    /// When the tokenizer lacks a control token.
    pub fn token_ids(&self) -> Result<TokenIds> {
        token_ids(&self.tokenizer)
    }

    /// Messages as the template reads them, with the control tokens of untrusted text broken.
    fn prepare(&self, messages: &[Message]) -> Result<Prepared> {
        let guard = Guard::new(messages, self.tokenizer.added_tokens())?;
        let mut images = Vec::new();
        let mut prepared = Vec::with_capacity(messages.len());
        for message in messages {
            let mut parts = Vec::new();
            for run in message.content.chunk_by(|a, b| !matches!(a, Part::Image(_)) && !matches!(b, Part::Image(_))) {
                match &run[0] {
                    Part::Image(image) => {
                        images.push(image.clone());
                        parts.push(json!({ "type": "image" }));
                    }
                    _ => parts.push(json!({ "type": "text", "text": guard.protect(run, self.tokenizer.added_tokens()) })),
                }
            }
            let content = match parts.as_slice() {
                [] => json!(""),
                [only] if only.get("text").is_some() => only["text"].clone(),
                _ => Value::Array(parts),
            };
            prepared.push(json!({ "role": message.role, "content": content }));
        }
        Ok(Prepared { messages: prepared, images, guard })
    }

    /// Encodes rendered text, each image placeholder expanded to the tokens of its image.
    fn encode_rendered(&self, text: &str, images: Vec<Arc<ImageInput>>, guard: &Guard) -> Result<Segment> {
        let merge = self.image_processor.merge_size as u32;
        let mut tokens = Vec::new();
        let mut placeholders = 0;
        for piece in self.tokenizer.pieces(text) {
            match piece {
                Piece::Token(id) if id == self.image_id => {
                    // Too many placeholders are counted, and reported below.
                    let count = images.get(placeholders).map_or(0, |image| image.num_tokens(merge));
                    tokens.extend(std::iter::repeat_n(id, count));
                    placeholders += 1;
                }
                Piece::Token(id) => tokens.push(id),
                Piece::Plain(text) => tokens.extend(self.tokenizer.encode_plain(&guard.restore(text))?),
            }
        }
        if placeholders != images.len() {
            let problem = format!("the rendered conversation has {placeholders} image placeholders for {} images", images.len());
            return Err(Error::ImageTokens { problem });
        }
        Ok(Segment { tokens, images })
    }
}

struct Prepared {
    messages: Vec<Value>,
    images: Vec<Arc<ImageInput>>,
    guard: Guard,
}

/// Stand-ins for the first characters of control tokens in untrusted text: private-use characters that occur nowhere else.
struct Guard {
    stand_ins: Vec<(char, char)>,
    marker: char,
}

impl Guard {
    fn new(messages: &[Message], added: &[String]) -> Result<Self> {
        let texts = || {
            messages.iter().flat_map(|message| &message.content).filter_map(|part| match part {
                Part::Text(text) | Part::Untrusted(text) => Some(text),
                Part::Image(_) => None,
            })
        };
        let mut firsts: Vec<char> = added.iter().filter_map(|token| token.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let mut used: Vec<char> = texts().flat_map(|text| text.chars()).filter(|c| PRIVATE_USE.contains(c)).collect();
        used.sort_unstable();
        let mut free = PRIVATE_USE.filter(|c| used.binary_search(c).is_err());
        let exhausted = || Error::Tokenizer { path: None, reason: "the text uses every private-use character of plane 15".into() };
        let marker = free.next().ok_or_else(exhausted)?;
        let stand_ins = firsts.into_iter().map(|first| Ok((first, free.next().ok_or_else(exhausted)?))).collect::<Result<_>>()?;
        Ok(Self { stand_ins, marker })
    }

    fn marker(&self) -> char {
        self.marker
    }

    /// Joins text parts; every added token that has a character in an untrusted part loses its first character to a stand-in.
    fn protect(&self, parts: &[Part], added: &[String]) -> String {
        let mut text = String::new();
        let mut untrusted: Vec<Range<usize>> = Vec::new();
        for part in parts {
            let start = text.len();
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Untrusted(part) => {
                    text.push_str(part);
                    untrusted.push(start..text.len());
                }
                Part::Image(_) => {}
            }
        }
        if untrusted.is_empty() {
            return text;
        }
        let mut broken: Vec<usize> = Vec::new();
        for token in added {
            let mut from = 0;
            while let Some(found) = text[from..].find(token.as_str()) {
                let at = from + found;
                if untrusted.iter().any(|range| at < range.end && at + token.len() > range.start) {
                    broken.push(at);
                }
                // The next occurrence may overlap this one.
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        broken.sort_unstable();
        broken.dedup();
        text.char_indices()
            .map(|(at, c)| {
                let stand_in = || self.stand_ins.iter().find(|(first, _)| *first == c).map_or(c, |(_, stand_in)| *stand_in);
                if broken.binary_search(&at).is_ok() { stand_in() } else { c }
            })
            .collect()
    }

    fn restore(&self, text: &str) -> String {
        text.chars().map(|c| self.stand_ins.iter().find(|(_, stand_in)| *stand_in == c).map_or(c, |(first, _)| *first)).collect()
    }
}

/// Private-use characters of plane 15, which no tokenizer and no template knows.
const PRIVATE_USE: std::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

fn token_ids(tokenizer: &Tokenizer) -> Result<TokenIds> {
    let id = |token: &str| {
        let reason = || format!("it has no token {token}, expected one; hint: make it with Tokenizer::train");
        tokenizer.token_id(token).ok_or_else(|| Error::Tokenizer { path: None, reason: reason() })
    };
    Ok(TokenIds {
        image: id("<|image_pad|>")?,
        video: id("<|video_pad|>")?,
        vision_start: id("<|vision_start|>")?,
        vision_end: id("<|vision_end|>")?,
        bos: None,
        eos: vec![id("<|im_end|>")?, id("<|endoftext|>")?],
        pad: Some(id("<|endoftext|>")?),
    })
}

/// The image processor's settings: a file of their own, or inside `processor_config.json` as transformers 5 writes them.
fn load_image_processor(dir: &Path, config: &ModelConfig) -> Result<ImageProcessor> {
    let own = dir.join("preprocessor_config.json");
    let shared = dir.join("processor_config.json");
    let (path, value) = if let Some(value) = read_json_if_there(&own)? {
        (own, value)
    } else if let Some(value) = read_json_if_there(&shared)?.and_then(|value| value.get("image_processor").cloned()) {
        (shared, value)
    } else {
        let hint = "it says how images are scaled and normalised; fetch it with the model";
        return Err(Error::MissingFile { dir: dir.to_owned(), file: "preprocessor_config.json".into(), hint });
    };
    let file = path.display().to_string();
    let processor = ImageProcessor::from_json(&value, &file)?;
    processor.check(config, &file)?;
    Ok(processor)
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|e| Error::Json { path: path.to_owned(), reason: e.to_string() })
}

fn read_json_if_there(path: &Path) -> Result<Option<Value>> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

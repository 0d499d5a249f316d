//! Language models that the host runs itself, offered to plugins through the `llm` door.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use mmhost_model::{GenerateOptions, Message, ModelFolder, Part, Qwen2_5Vl, generate};
use mmhost_plugins::models::{Completion, CompletionRequest, LocalModel, LocalModels, Role};

/// Models by their folders, each loaded once.
#[derive(Default)]
pub struct ModelFolders {
    loaded: Mutex<HashMap<PathBuf, Arc<dyn LocalModel>>>,
}

impl LocalModels for ModelFolders {
    fn open(&self, folder: &Path) -> Result<Arc<dyn LocalModel>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        if let Some(model) = loaded.get(&key) {
            return Ok(model.clone());
        }
        let whole = ModelFolder::load(folder, &Device::Cpu).map_err(|error| error.to_string())?;
        let network = Qwen2_5Vl::frozen(&whole.config, &whole.weights).map_err(|error| error.to_string())?;
        let model: Arc<dyn LocalModel> = Arc::new(Loaded { folder: whole, network });
        loaded.insert(key, model.clone());
        Ok(model)
    }
}

struct Loaded {
    folder: ModelFolder,
    network: Qwen2_5Vl,
}

impl LocalModel for Loaded {
    fn complete(&self, request: &CompletionRequest) -> Result<Completion, String> {
        let message = |message: &mmhost_plugins::models::ChatMessage| Message {
            role: match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            }
            .into(),
            content: vec![Part::Untrusted(message.text.clone())],
        };
        let messages: Vec<Message> = request.messages.iter().map(message).collect();
        let processor = &self.folder.processor;
        let prompt = processor.encode_chat(&messages, true).map_err(|error| error.to_string())?.tokens.len();
        let (asked, most) = (prompt + request.max_tokens as usize, self.folder.config.text.max_position_embeddings);
        if asked > most {
            return Err(format!("the conversation has {prompt} tokens and asks for {} more; the model reads {most}", request.max_tokens));
        }
        let options = GenerateOptions {
            max_new_tokens: request.max_tokens as usize,
            temperature: request.temperature,
            seed: request.seed,
            ..GenerateOptions::default()
        };
        let answer = generate(&self.network, processor, &messages, &options).map_err(|error| error.to_string())?;
        Ok(Completion {
            text: answer.text,
            finished: answer.finished,
            prompt_tokens: answer.prompt.len() as u32,
            completion_tokens: answer.tokens.len() as u32,
        })
    }
}

//! The door `llm`: completions by the models that the run grants.

use super::CallState;
use crate::PluginInfo;
use crate::bindings::imports::llm::{self, Completion, Finish, LlmError, Request};
use crate::ledger::Tokens;
use crate::models::{self, ChatMessage, CompletionRequest, Model, Role, Traffic};
use crate::tape::{Ask, Door};
use std::sync::Arc;

/// Tokens that a chat template adds to a message, at most.
const MARKS: u64 = 16;

/// What one call may still ask of models.
pub(crate) struct LlmDoor {
    online: bool,
    completions: u64,
    tokens: u64,
    traffic: Arc<Traffic>,
}

impl LlmDoor {
    pub fn new(info: &PluginInfo) -> Self {
        // What models are sent and answer is counted like other traffic; tokens, not requests, are what they cost.
        let traffic = Arc::new(Traffic::of_models(info.limits.http_bytes));
        LlmDoor { online: true, completions: 0, tokens: 0, traffic }
    }

    /// Takes the models away.
    pub fn go_offline(&mut self) {
        self.online = false;
    }

    /// Takes one request from the call's limits, and gives the tokens that were taken.
    fn admit(&mut self, info: &PluginInfo, request: &CompletionRequest) -> Result<u64, LlmError> {
        let limits = &info.limits;
        let over = |most: u64, what: &str, field: &str| {
            Err(LlmError::OverLimit(format!("more than {most} {what} in one call; `[limits] {field}` in plugin.toml sets it")))
        };
        if self.completions >= limits.completions {
            return over(limits.completions, "completions", "completions");
        }
        let tokens = most_tokens(request).sum();
        if self.tokens + tokens > limits.completion_tokens {
            return over(limits.completion_tokens, "tokens of models", "completion_tokens");
        }
        self.completions += 1;
        self.tokens += tokens;
        Ok(tokens)
    }
}

/// Most tokens that a request can come to: none is shorter than a byte.
fn most_tokens(request: &CompletionRequest) -> Tokens {
    let message = |message: &ChatMessage| message.text.len() as u64 + MARKS;
    Tokens { prompt: request.messages.iter().map(message).sum::<u64>() + MARKS, completion: request.max_tokens.into() }
}

/// What an answer took.
fn tokens(answer: &models::Completion) -> Tokens {
    Tokens { prompt: answer.prompt_tokens.into(), completion: answer.completion_tokens.into() }
}

impl CallState {
    fn model(&self, name: &str) -> Result<Arc<Model>, LlmError> {
        if !self.info.asked_models.iter().any(|asked| asked == name) {
            let line = format!("models = [\"{name}\"]");
            return Err(LlmError::NotGranted(format!("model `{name}`: add {line} to `[ask]` in the plugin.toml of {}", self.info.name)));
        }
        match self.info.models.get(name).filter(|_| self.llm.online) {
            Some(model) => Ok(model.clone()),
            None => Err(LlmError::Failed("there is no model while a plugin describes itself".into())),
        }
    }
}

/// The request in the host's terms, or what is wrong with it.
fn checked(request: Request) -> Result<CompletionRequest, LlmError> {
    let bad = |what: String| Err(LlmError::BadRequest(what));
    let Request { messages, max_tokens, temperature, seed } = request;
    if messages.is_empty() {
        return bad("there is no message; give at least one".into());
    }
    if max_tokens == 0 {
        return bad("`max-tokens` is 0; give at least 1".into());
    }
    if !(0.0..=2.0).contains(&temperature) {
        return bad(format!("`temperature` is {temperature}; give a number from 0 to 2"));
    }
    let role = |role| match role {
        llm::Role::System => Role::System,
        llm::Role::User => Role::User,
        llm::Role::Assistant => Role::Assistant,
    };
    let messages = messages.into_iter().map(|message| ChatMessage { role: role(message.role), text: message.text }).collect();
    Ok(CompletionRequest { messages, max_tokens, temperature, seed })
}

/// Asks the model, or finds the answer on record. What is asked is paid for; what is on record is not.
async fn answer(
    info: &PluginInfo,
    name: &str,
    model: &Model,
    request: CompletionRequest,
    traffic: &Traffic,
) -> Result<models::Completion, String> {
    let live = async {
        let held = info.account.hold_tokens(most_tokens(&request), model.prices).map_err(|error| error.to_string())?;
        let answer = model.complete(request.clone(), traffic).await;
        held.settle(answer.as_ref().map_or(Tokens::default(), tokens));
        answer
    };
    let Some(tape) = &info.tape else { return live.await };
    let written = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let asked = format!("{name}: {}", request.messages.last().map_or("", |message| &message.text));
    let ask = Ask::new(Door::Llm, &info.name, asked, &[model.to_string().as_bytes(), &written]);
    tape.answer(ask, Result::is_err, live).await.and_then(|answer| answer)
}

impl llm::Host for CallState {
    async fn complete(&mut self, name: String, batch: Vec<Request>) -> wasmtime::Result<Vec<Result<Completion, LlmError>>> {
        let model = match self.model(&name) {
            Ok(model) => model,
            Err(refusal) => return Ok(batch.iter().map(|_| Err(refusal.clone())).collect()),
        };
        let info = self.info.clone();
        let traffic = self.llm.traffic.clone();
        let mut admit = |request| {
            let request = checked(request)?;
            self.llm.admit(&info, &request).map(|tokens| (request, tokens))
        };
        let admitted: Vec<Result<(CompletionRequest, u64), LlmError>> = batch.into_iter().map(&mut admit).collect();
        let answers = admitted.into_iter().map(async |admitted| {
            let (request, held) = admitted?;
            let answer = answer(&info, &name, &model, request, &traffic).await;
            Ok((answer.map_err(LlmError::Failed), held))
        });
        let answers = futures::future::join_all(answers).await;
        let settle = |answer: Result<(Result<models::Completion, LlmError>, u64), LlmError>| {
            let (answer, held) = answer?;
            let used = answer.as_ref().map_or(0, |answer| tokens(answer).sum());
            self.llm.tokens = (self.llm.tokens - held).saturating_add(used);
            let models::Completion { text, finished, prompt_tokens, completion_tokens } = answer?;
            Ok(Completion { text, finish: if finished { Finish::Stop } else { Finish::Length }, prompt_tokens, completion_tokens })
        };
        Ok(answers.into_iter().map(settle).collect())
    }
}

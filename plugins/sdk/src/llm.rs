//! Language models. The manifest asks for each by a name (`[ask] models`), and the run says what stands behind it.
//!
//! ```ignore
//! let answers = mmhost_sdk::llm::ask("judge", &["Is Lima the capital of Peru? Answer yes or no."], 4);
//! ```

use crate::bindings::imports::llm;

pub use llm::{Completion, Finish, LlmError, Message, Request, Role};

/// Asks a model each of the questions, as likely an answer as it has and of at most `max_tokens` tokens: one result per question, in order.
/// The host has them answered at the same time.
pub fn ask(model: &str, questions: &[impl AsRef<str>], max_tokens: u32) -> Vec<Result<Completion, LlmError>> {
    let request = |question: &str| Request {
        messages: vec![Message { role: Role::User, text: question.to_owned() }],
        max_tokens,
        temperature: 0.0,
        seed: 0,
    };
    let batch: Vec<Request> = questions.iter().map(|question| request(question.as_ref())).collect();
    complete(model, &batch)
}

/// Asks a model for an answer to each request of a batch: one result per request, in order.
pub fn complete(model: &str, batch: &[Request]) -> Vec<Result<Completion, LlmError>> {
    llm::complete(model, batch)
}

/// What went wrong, in words.
pub fn explain(error: &LlmError) -> &str {
    match error {
        LlmError::NotGranted(what) | LlmError::BadRequest(what) | LlmError::OverLimit(what) | LlmError::Failed(what) => what,
    }
}

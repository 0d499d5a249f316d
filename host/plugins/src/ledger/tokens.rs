//! Tokens of language models: held before a model is asked, settled by what it took.

use super::{Account, Totals};
use crate::Result;
use crate::models::CompletionRequest;

/// Prices of a model, for each token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TokenPrices {
    /// Of a conversation.
    pub prompt: f64,
    /// Of an answer.
    pub completion: f64,
}

/// Tokens and money that are held for a request under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held {
    tokens: u64,
    money: f64,
}

impl TokenPrices {
    /// The most that a request can cost that comes to at most `tokens`.
    pub fn most(&self, tokens: u64, request: &CompletionRequest) -> f64 {
        let completion = u64::from(request.max_tokens);
        tokens.saturating_sub(completion) as f64 * self.prompt + completion as f64 * self.completion
    }

    fn of(&self, prompt: u32, completion: u32) -> f64 {
        f64::from(prompt) * self.prompt + f64::from(completion) * self.completion
    }
}

impl Account {
    /// Takes the most that a request can come to from the budget, so that requests at the same time cannot exceed it together.
    pub fn hold_tokens(&self, tokens: u64, money: f64) -> Result<Held> {
        drop(self.ledger.take(&self.plugin, Totals { tokens, money, ..Totals::default() })?);
        Ok(Held { tokens, money })
    }

    /// Gives back what was held, and takes what was used: tokens of the conversation and of the answer.
    pub fn settle_tokens(&self, held: Held, (prompt, completion): (u32, u32), prices: &TokenPrices) {
        let money = prices.of(prompt, completion);
        let mut state = self.ledger.state();
        let totals = &mut state.totals;
        totals.tokens = totals.tokens.saturating_sub(held.tokens).saturating_add(u64::from(prompt) + u64::from(completion));
        totals.money += money - held.money;
        let entry = &mut state.open(&self.plugin).entry;
        entry.completions += 1;
        entry.prompt_tokens += u64::from(prompt);
        entry.completion_tokens += u64::from(completion);
        entry.money += money;
    }
}

//! Tokens of language models: held before a model is asked, settled by what it took.

use super::{Account, Totals};
use crate::Result;

/// Prices of a model, in money for each token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TokenPrices {
    /// Of a conversation.
    pub prompt: f64,
    /// Of an answer.
    pub completion: f64,
}

/// Tokens of a request: most that it can come to, or what it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Of the conversation.
    pub prompt: u64,
    /// Of the answer.
    pub completion: u64,
}

impl Tokens {
    /// All of them.
    pub fn sum(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    fn price(self, prices: &TokenPrices) -> f64 {
        self.prompt as f64 * prices.prompt + self.completion as f64 * prices.completion
    }
}

/// The most that a request under way can come to, taken from the budget. A request that is given up, because the deadline of the plugin's
/// call has passed, counts with all of it: what it took is never known.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'a> {
    account: &'a Account,
    prices: TokenPrices,
    most: Tokens,
    used: Option<Tokens>,
}

impl Account {
    /// Takes the most that a request can come to from the budget, so that requests at the same time cannot exceed it together.
    ///
    /// # Errors
    /// [`crate::PluginError::BudgetSpent`] when that is not left.
    pub fn hold_tokens(&self, most: Tokens, prices: TokenPrices) -> Result<Held<'_>> {
        drop(self.ledger.take(&self.plugin, Totals { tokens: most.sum(), money: most.price(&prices), ..Totals::default() })?);
        Ok(Held { account: self, prices, most, used: None })
    }
}

impl Held<'_> {
    /// Gives back what was held, and takes what was used.
    pub fn settle(mut self, used: Tokens) {
        self.used = Some(used);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let used = self.used.unwrap_or(self.most);
        let money = used.price(&self.prices);
        let mut state = self.account.ledger.state();
        let totals = &mut state.totals;
        totals.tokens = totals.tokens.saturating_sub(self.most.sum()).saturating_add(used.sum());
        totals.money += money - self.most.price(&self.prices);
        let entry = &mut state.open(&self.account.plugin).entry;
        entry.completions += 1;
        entry.prompt_tokens = entry.prompt_tokens.saturating_add(used.prompt);
        entry.completion_tokens = entry.completion_tokens.saturating_add(used.completion);
        entry.money += money;
    }
}

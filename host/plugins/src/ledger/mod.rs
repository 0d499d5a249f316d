//! The ledger: what every plugin of a run has cost, what it may still cost, and what follows when it fails.
//!
//! A run's calls go through an [`Account`], one for each plugin: it asks the budget and the circuit breaker, repeats what failed as often
//! as the plugin's [`Policy`] says, and counts. Calls by hand (`plugin call`, `check`, `bench`) do not.

mod entry;
mod policy;
mod tokens;

pub use entry::{Entry, Quantiles};
pub use policy::{Breaker, OnFailure, Policies, Policy, RunBudget};
pub(crate) use tokens::{TokenPrices, Tokens};

use crate::manifest::Kind;
use crate::types::CallCost;
use crate::{PluginError, Result};
use entry::{Open, is_failure};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Pause before a failed call is repeated; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the plugins of a run have cost together, and by plugin.
#[derive(Debug, Default)]
pub struct Ledger {
    budget: RunBudget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Open>,
    totals: Totals,
    /// Why the run is to stop. No call is made any more.
    stopped: Option<PluginError>,
}

/// What counts against the budget, of all plugins together.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    calls: u64,
    requests: u64,
    /// Tokens of models, those held for requests under way too.
    tokens: u64,
    money: f64,
}

impl Totals {
    fn plus(self, more: Totals) -> Totals {
        Totals {
            calls: self.calls.saturating_add(more.calls),
            requests: self.requests.saturating_add(more.requests),
            tokens: self.tokens.saturating_add(more.tokens),
            money: self.money + more.money,
        }
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new(budget: RunBudget) -> Self {
        Ledger { budget, state: Mutex::default() }
    }

    /// Goes on from what an interrupted run has spent.
    pub fn resume(&self, entries: BTreeMap<String, Entry>) {
        let mut state = self.state();
        for (plugin, entry) in entries {
            let tokens = entry.prompt_tokens.saturating_add(entry.completion_tokens);
            state.totals = state.totals.plus(Totals { calls: entry.calls, requests: entry.requests, tokens, money: entry.money });
            state.entries.insert(plugin, Open::new(entry));
        }
    }

    /// What each plugin has cost so far, by name.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.state().entries.iter().map(|(plugin, open)| (plugin.clone(), open.snapshot())).collect()
    }

    /// Counts something that a plugin asked and a recording answered, or did not.
    pub(crate) fn taped(&self, plugin: &str, hit: bool) {
        let mut state = self.state();
        let entry = &mut state.open(plugin).entry;
        match hit {
            true => entry.hits += 1,
            false => entry.misses += 1,
        }
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// [`PluginError::BudgetSpent`], or [`PluginError::Stop`] when a plugin failed whose policy says so.
    pub fn check(&self) -> Result<()> {
        self.state().stopped.clone().map_or(Ok(()), Err)
    }

    /// Ends the run, unless it has been ended.
    fn stop(&self, why: PluginError) {
        self.state().stopped.get_or_insert(why);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something from the budget for a plugin, if that is left of it. Gives the state, for the plugin's own entry.
    fn take(&self, plugin: &str, more: Totals) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(why.clone());
        }
        let after = state.totals.plus(more);
        let RunBudget { money, calls, requests, tokens } = &self.budget;
        let over = |field, limit: &Option<f64>, would_be: f64| limit.filter(|limit| would_be > *limit).map(|limit| (field, limit));
        let count = |limit: &Option<u64>| limit.map(|limit| limit as f64);
        let spent = over("calls", &count(calls), after.calls as f64)
            .or(over("requests", &count(requests), after.requests as f64))
            .or(over("tokens", &count(tokens), after.tokens as f64))
            .or(over("money", money, after.money));
        if let Some((field, limit)) = spent {
            let why = PluginError::BudgetSpent { plugin: plugin.into(), field, limit };
            state.stopped = Some(why.clone());
            return Err(why);
        }
        state.totals = after;
        Ok(state)
    }

    /// Takes calls and requests from the budget.
    fn charge(&self, plugin: &str, calls: u64, requests: u64, price: f64) -> Result<()> {
        let mut state = self.take(plugin, Totals { calls, requests, tokens: 0, money: price })?;
        let entry = &mut state.open(plugin).entry;
        entry.calls = entry.calls.saturating_add(calls);
        entry.requests = entry.requests.saturating_add(requests);
        entry.money += price;
        Ok(())
    }
}

impl State {
    fn open(&mut self, plugin: &str) -> &mut Open {
        // Looked up by reference first: nearly every time it is there.
        if !self.entries.contains_key(plugin) {
            self.entries.insert(plugin.into(), Open::new(Entry::default()));
        }
        self.entries.get_mut(plugin).unwrap_or_else(|| unreachable!("it was put there"))
    }
}

/// One plugin's part of the ledger.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    plugin: String,
    policy: Policy,
    on_failure: OnFailure,
    circuit: Mutex<Circuit>,
}

#[derive(Debug, Default)]
struct Circuit {
    /// Failures since the last call that succeeded.
    failures: u32,
    /// Until when no call is made.
    open_until: Option<Instant>,
}

impl Account {
    /// # Errors
    /// When the policy does not suit a plugin of this kind.
    pub fn new(ledger: Arc<Ledger>, plugin: &str, kind: Kind, policy: Policy) -> Result<Self> {
        policy.check(plugin, kind)?;
        Ok(Account { ledger, plugin: plugin.into(), on_failure: policy.on_failure(kind), policy, circuit: Mutex::default() })
    }

    /// What follows a failure.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Makes a call under the policy: within the budget, not while the breaker is open, and repeated if it fails.
    pub async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<(T, CallCost)>
    where
        F: Future<Output = Result<(T, CallCost)>>,
    {
        let mut pause = FIRST_PAUSE;
        for repeat in 0..=self.policy.retries {
            if repeat > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            self.admit()?;
            self.ledger.charge(&self.plugin, 1, 0, self.policy.price_per_call)?;
            let span = tracing::debug_span!(target: "plugin", "call", plugin = %self.plugin, repeat);
            let started = Instant::now();
            let outcome = attempt().instrument(span).await;
            let error = match self.count(started.elapsed(), repeat, outcome) {
                Err(error) if is_failure(&error) => error,
                outcome => return outcome,
            };
            if repeat == self.policy.retries {
                if self.on_failure == OnFailure::Stop {
                    self.ledger.stop(PluginError::Stop { plugin: self.plugin.clone(), why: error.to_string() });
                }
                return Err(error);
            }
            tracing::debug!(target: "plugin", "{error}; it is called again");
        }
        unreachable!("the last repetition returns")
    }

    /// Takes a request from the budget.
    pub fn request(&self) -> Result<()> {
        self.ledger.charge(&self.plugin, 0, 1, self.policy.price_per_request)
    }

    /// Counts bytes of requests and answers.
    pub fn bytes(&self, bytes: u64) {
        self.ledger.state().open(&self.plugin).entry.http_bytes += bytes;
    }

    /// Counts the memory and fuel of a call, where the ledger counts calls of this plugin.
    pub fn spent(&self, cost: &CallCost) {
        if let Some(open) = self.ledger.state().entries.get_mut(&self.plugin) {
            open.spent(cost);
        }
    }

    /// Refuses the call while the breaker is open.
    fn admit(&self) -> Result<()> {
        let Some(breaker) = self.policy.breaker else { return Ok(()) };
        let mut circuit = self.circuit();
        match circuit.open_until {
            Some(until) if Instant::now() < until => {
                self.ledger.state().open(&self.plugin).entry.spared += 1;
                Err(PluginError::Spared { plugin: self.plugin.clone(), failures: circuit.failures, pause_s: breaker.pause_s })
            }
            Some(_) => {
                // One call is tried; others wait for what comes of it.
                circuit.open_until = Some(Instant::now() + Duration::from_secs(breaker.pause_s));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a call that has ended.
    fn count<T>(&self, took: Duration, repeat: u32, outcome: Result<(T, CallCost)>) -> Result<(T, CallCost)> {
        let failed = outcome.as_ref().is_err_and(is_failure);
        {
            let mut state = self.ledger.state();
            let open = state.open(&self.plugin);
            open.entry.retries += u64::from(repeat > 0);
            open.add(took, outcome.as_ref().err());
        }
        tracing::trace!(target: "plugin", plugin = %self.plugin, failed, micros = took.as_micros() as u64, "call ended");
        let mut circuit = self.circuit();
        if !failed {
            *circuit = Circuit::default();
        } else if let Some(breaker) = self.policy.breaker {
            circuit.failures += 1;
            if circuit.failures >= breaker.failures {
                tracing::warn!(
                    target: "plugin",
                    "{} failed {} times in a row and is not called for {} s",
                    self.plugin, circuit.failures, breaker.pause_s
                );
                circuit.open_until = Some(Instant::now() + Duration::from_secs(breaker.pause_s));
            }
        }
        outcome
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

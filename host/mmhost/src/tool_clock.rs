//! Clock time during which some tool call of a run was under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mmhost_plugins::{CallCost, PluginError, ResultPart, ToolInput};
use mmhost_rollout::{About, Tool};

/// Times the calls of every tool that it was put before.
#[derive(Default)]
pub struct ToolClock {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Calls under way.
    active: usize,
    /// When the first of them began.
    since: Option<Instant>,
    /// Time with at least one call under way, up to then.
    busy: Duration,
}

impl ToolClock {
    /// `tool` with its calls timed.
    pub fn timed(self: &Arc<Self>, tool: Arc<dyn Tool>) -> Arc<dyn Tool> {
        Arc::new(Timed { tool, clock: self.clone() })
    }

    /// Time so far during which at least one call was under way.
    pub fn busy(&self) -> Duration {
        let state = self.lock();
        state.busy + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Timed {
    tool: Arc<dyn Tool>,
    clock: Arc<ToolClock>,
}

#[async_trait::async_trait]
impl Tool for Timed {
    fn about(&self) -> About<'_> {
        self.tool.about()
    }

    async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
        let _running = Running::start(&self.clock);
        self.tool.call(input).await
    }
}

/// A call under way; dropping it, also when the call is given up, ends it.
struct Running<'a>(&'a ToolClock);

impl<'a> Running<'a> {
    fn start(clock: &'a ToolClock) -> Self {
        let mut state = clock.lock();
        state.active += 1;
        state.since.get_or_insert_with(Instant::now);
        Self(clock)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.active -= 1;
        if state.active == 0
            && let Some(since) = state.since.take()
        {
            state.busy += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmhost_plugins::{CallForm, ToolSpec};

    /// Sleeps, then answers or fails as its argument says.
    struct Sleeper(ToolSpec);

    #[async_trait::async_trait]
    impl Tool for Sleeper {
        fn about(&self) -> About<'_> {
            About::plain(&self.0)
        }

        async fn call(&self, input: &ToolInput) -> Result<(Vec<ResultPart>, CallCost), PluginError> {
            tokio::time::sleep(Duration::from_millis(60)).await;
            match input.argument.as_str() {
                "fail" => Err(PluginError::Deadline { plugin: "sleeper".into(), limit_ms: 60 }),
                _ => Ok((Vec::new(), CallCost::default())),
            }
        }
    }

    #[tokio::test]
    async fn calls_at_the_same_time_are_one_stretch_and_given_up_ones_end() {
        let clock = Arc::new(ToolClock::default());
        let spec = ToolSpec {
            name: "sleeper".into(),
            description: String::new(),
            call: CallForm::Tag("sleep".into()),
            max_calls: 9,
            instruction: String::new(),
            needs_image: false,
        };
        let tool = clock.timed(Arc::new(Sleeper(spec)));
        let input = |argument: &str| ToolInput { argument: argument.into(), images: Vec::new(), question: String::new() };
        let (good, bad) = (input(""), input("fail"));
        let (first, second) = tokio::join!(tool.call(&good), tool.call(&bad));
        assert!(first.is_ok() && second.is_err());
        let busy = clock.busy();
        assert!(busy >= Duration::from_millis(60) && busy < Duration::from_millis(115), "two calls at once are one stretch: {busy:?}");

        let given_up = tokio::time::timeout(Duration::from_millis(5), tool.call(&good)).await;
        assert!(given_up.is_err());
        let busy = clock.busy();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(clock.busy(), busy, "nothing is under way any more");
    }
}

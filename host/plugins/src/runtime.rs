//! The engine, and how a call runs in it: a fresh pooled instance, a deadline, and a name for whatever goes wrong.

use crate::cache::Cache;
use crate::doors::{CallState, wasi};
use crate::limits::{CEILING, Fault, MAX_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::types::{CallCost, CorpusService};
use crate::{PluginError, PluginInfo, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::component::{HasSelf, Linker, ResourceTableError};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline};
use wasmtime_wasi::I32Exit;

/// Most calls at once, over all plugins. A call beyond them waits for another to end.
pub const MAX_CONCURRENT_CALLS: usize = 64;
/// How often running guests look at their deadline, and let others run.
const TICK: Duration = Duration::from_millis(5);
/// How much later than the epoch's deadline the outer timer fires.
const GRACE: Duration = Duration::from_millis(50);
/// Bytes that a guest may hand over with one call beside what its answer's limit allows.
const HOSTCALL_SLACK: usize = 256 << 10;

/// Everything that calls share.
pub(crate) struct Runtime {
    pub engine: Engine,
    pub linker: Linker<CallState>,
    pub cache: Cache,
    /// Whether calls count fuel.
    metered: bool,
    corpus: Arc<dyn CorpusService>,
    slots: Semaphore,
}

impl Runtime {
    /// Starts the engine and its clock. A `metered` engine counts fuel.
    pub fn new(cache_dir: &Path, corpus: Arc<dyn CorpusService>, metered: bool) -> Result<Self> {
        let fail = |error: wasmtime::Error| PluginError::Other(format!("cannot start: {error:#}"));
        let engine = engine(metered).map_err(fail)?;
        let linker = linker(&engine).map_err(fail)?;
        let cache = Cache::new(cache_dir, &engine);
        start_clock(&engine)?;
        Ok(Runtime { engine, linker, cache, metered, corpus, slots: Semaphore::new(MAX_CONCURRENT_CALLS) })
    }

    /// Opens the call in which a plugin describes itself: without network, since what it says belongs to its bytes and configuration.
    pub async fn open_description(&self, info: &Arc<PluginInfo>) -> Result<Call<'_>> {
        let mut call = self.open(info, 0).await?;
        call.store.data_mut().go_offline();
        Ok(call)
    }

    /// Waits for a free place and opens a call that is given `handles` handles.
    pub async fn open(&self, info: &Arc<PluginInfo>, handles: usize) -> Result<Call<'_>> {
        let closed = |_| PluginError::Other("shut down".into());
        let place = info.places.clone().acquire_owned().await.map_err(closed)?;
        let permit = self.slots.acquire().await.map_err(closed)?;
        let limits = info.limits;
        let mut store = Store::new(&self.engine, CallState::new(info.clone(), self.corpus.clone(), handles));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.output_bytes as usize + HOSTCALL_SLACK);
        if self.metered {
            store.set_fuel(rationed(info)).map_err(|error| PluginError::Other(format!("cannot count fuel: {error:#}")))?;
        }
        let started = Instant::now();
        let allowed = Duration::from_millis(limits.deadline_ms);
        let deadline = started + allowed;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |mut context| {
            if Instant::now() < deadline {
                return Ok(UpdateDeadline::Yield(1));
            }
            context.data_mut().limiter.fault = Some(Fault::Deadline);
            Ok(UpdateDeadline::Interrupt)
        });
        Ok(Call { store, info: info.clone(), started, allowed, _permit: permit, _place: place })
    }
}

/// A call that is under way.
pub(crate) struct Call<'a> {
    /// The guest's world.
    pub store: Store<CallState>,
    info: Arc<PluginInfo>,
    started: Instant,
    allowed: Duration,
    _permit: SemaphorePermit<'a>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Call<'_> {
    /// Whatever came of the call, its memory and fuel go into the ledger.
    fn drop(&mut self) {
        self.info.account.spent(&self.cost());
    }
}

/// Fuel of a metered call. Where the plugin's limits leave it open it is counted, not rationed: the deadline ends a call that takes too long.
fn rationed(info: &PluginInfo) -> u64 {
    if info.limits.fuel == 0 { u64::MAX } else { info.limits.fuel }
}

impl Call<'_> {
    /// How long the outer timer of the call runs. It is for guests that wait in host code, where epochs do not reach.
    pub fn limit(&self) -> Duration {
        self.allowed + GRACE
    }

    /// Ends the guest's part and names what went wrong in it.
    pub fn settle<T>(&self, outcome: std::result::Result<wasmtime::Result<T>, tokio::time::error::Elapsed>) -> Result<T> {
        self.store.data().log.close();
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.explain(error)),
            Err(_) => Err(self.deadline()),
        }
    }

    /// What the call has cost so far.
    pub fn cost(&self) -> CallCost {
        CallCost {
            elapsed_ms: self.started.elapsed().as_secs_f64() * 1e3,
            memory_bytes: self.store.data().limiter.peak_bytes(),
            // An engine without metering has none to give.
            fuel: self.store.get_fuel().ok().map(|left| rationed(&self.info) - left),
        }
    }

    fn deadline(&self) -> PluginError {
        PluginError::Deadline { plugin: self.info.name.clone(), limit_ms: self.info.limits.deadline_ms }
    }

    fn explain(&self, error: wasmtime::Error) -> PluginError {
        let plugin = self.info.name.clone();
        let limits = &self.info.limits;
        let state = self.store.data();
        match state.limiter.fault {
            Some(Fault::Deadline) => return self.deadline(),
            Some(Fault::Memory) => {
                return PluginError::Memory { plugin, limit_mib: limits.memory_mib };
            }
            Some(Fault::TableElements) => {
                return PluginError::Resources { plugin, what: "table elements", limit: MAX_TABLE_ELEMENTS as u64 };
            }
            None => {}
        }
        if let Some(wasmtime::Trap::OutOfFuel) = error.downcast_ref::<wasmtime::Trap>() {
            return PluginError::Fuel { plugin, limit: limits.fuel };
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
            let limit = state.table.max_capacity() as u64;
            return PluginError::Resources { plugin, what: "handles", limit };
        }
        let text = format!("{error:#}");
        // wasmtime does not export the type of this error.
        if text.contains("fuel allocated for hostcalls has been exhausted") {
            return PluginError::OutputTooLong {
                plugin,
                what: "bytes",
                found: format!("more than {}", limits.output_bytes),
                limit: limits.output_bytes,
                field: "output_bytes",
            };
        }
        let mut message = match (error.downcast_ref::<wasmtime::Trap>(), error.downcast_ref::<I32Exit>()) {
            (Some(trap), _) => trap.to_string(),
            (_, Some(exit)) => format!("the guest exited with status {}", exit.0),
            _ => text,
        };
        if let Some(said) = state.log.last_error() {
            message = format!("{message}; its last words: {said}");
        }
        PluginError::Trap { plugin, message }
    }
}

fn engine(metered: bool) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    let calls = MAX_CONCURRENT_CALLS as u32;
    pool.total_component_instances(calls)
        .max_core_instances_per_component(MAX_INSTANCES as u32)
        .total_core_instances(calls * MAX_INSTANCES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .total_memories(calls * MAX_MEMORIES as u32)
        .max_memory_size((CEILING.memory_mib << 20) as usize)
        .max_tables_per_component(MAX_TABLES as u32)
        .total_tables(calls * MAX_TABLES as u32)
        .table_elements(MAX_TABLE_ELEMENTS)
        .total_stacks(calls)
        // Guests touch few pages, at the top of their stack, far from the lowest addresses that would be wiped otherwise. Where the kernel
        // tells which (Linux 6.7), these alone are wiped, and stay for the next call.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    let mut config = Config::new();
    config.epoch_interruption(true).wasm_component_model(true).consume_fuel(metered);
    let on_demand = config.clone();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).or_else(|error| {
        // The pool reserves a few hundred gigabytes of addresses, which some systems limit.
        tracing::warn!("plugins run without an instance pool, which is slower: {error:#}");
        Engine::new(&on_demand)
    })
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    use crate::bindings::imports;
    type State = HasSelf<CallState>;
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    imports::types::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::images::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::corpus::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::config::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::log::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::llm::add_to_linker::<_, State>(&mut linker, |state| state)?;
    imports::http::add_to_linker::<_, State>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Advances the epoch as long as the engine lives.
fn start_clock(engine: &Engine) -> Result<()> {
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("plugin-clock".into())
        .spawn(tick)
        .map(drop)
        .map_err(|error| PluginError::Other(format!("cannot start the clock: {error}")))
}

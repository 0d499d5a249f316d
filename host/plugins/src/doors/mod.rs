//! The host's side of what a guest may import. Each door checks its own policy.

pub(crate) mod config;
pub(crate) mod corpus;
mod http;
pub(crate) mod images;
mod llm;
pub(crate) mod log;
pub(crate) mod wasi;

use crate::limits::Limiter;
use crate::types::CorpusService;
use crate::{Limits, PluginInfo};
use http::HttpDoor;
use llm::LlmDoor;
use log::CallLog;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

/// What the host keeps for one call; it goes with the instance.
pub(crate) struct CallState {
    /// Name, grants and configuration of the plugin.
    pub info: Arc<PluginInfo>,
    /// The corpora behind the door.
    pub corpus: Arc<dyn CorpusService>,
    /// Handles that the guest holds.
    pub table: ResourceTable,
    /// Memory bookkeeping.
    pub limiter: Limiter,
    /// What the guest said.
    pub log: CallLog,
    http: HttpDoor,
    llm: LlmDoor,
    /// Made when the guest first calls it, as few do: making it for each took about a third of the time of a fresh instance.
    wasi: Option<WasiCtx>,
}

impl CallState {
    /// The state of a call that is given `handles` handles.
    pub fn new(info: Arc<PluginInfo>, corpus: Arc<dyn CorpusService>, handles: usize) -> Self {
        let limits: Limits = info.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles + crate::limits::SPARE_HANDLES);
        let log = CallLog::new(info.name.clone(), limits.log_lines);
        let http = HttpDoor::new(info.network.clone(), &info, &log);
        let llm = LlmDoor::new(&info);
        CallState { info, corpus, table, limiter: Limiter::new(&limits), log, http, llm, wasi: None }
    }

    /// Takes network and models away.
    pub fn go_offline(&mut self) {
        self.http = HttpDoor::new(None, &self.info, &self.log);
        self.llm.go_offline();
    }
}

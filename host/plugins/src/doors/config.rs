//! The door `config`: the plugin's configuration as JSON.

use super::CallState;
use crate::bindings::imports::{config, types};

// An interface of types alone has nothing to serve.
impl types::Host for CallState {}

impl config::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.info.config_json.clone())
    }
}

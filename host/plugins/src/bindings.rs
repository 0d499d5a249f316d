//! Generated from `wit/`: the contract as the host sees it. The interfaces that several worlds share are generated once, with
//! `search-tool`, which imports all of them.
//!
//! What version 0.2 takes over from 0.1 is the same interface under the same name, so one linker serves components of both. Only what was
//! replaced is here twice: the interface that rewards export.
#![allow(missing_docs)]

/// World `search-tool`.
pub mod tool {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "search-tool",
        imports: {
            "mmhost:plugin/corpus@0.1.0": async | trappable,
            "mmhost:plugin/llm@0.2.0": async | trappable,
            "mmhost:plugin/http@0.2.0": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "mmhost:plugin/images@0.1.0.image": crate::doors::images::ImageHandle },
    });
}

/// World `reward`.
pub mod reward {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "reward",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "mmhost:plugin/types@0.1.0": super::imports::types,
            "mmhost:plugin/config@0.1.0": super::imports::config,
            "mmhost:plugin/log@0.1.0": super::imports::log,
            "mmhost:plugin/llm@0.2.0": super::imports::llm,
            "mmhost:plugin/http@0.2.0": super::imports::http,
        },
    });
}

/// World `reward` of version 0.1.
pub mod reward_0_1 {
    wasmtime::component::bindgen!({
        path: "../../wit/deps/plugin-0.1.0",
        world: "reward",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "mmhost:plugin/types": super::imports::types,
            "mmhost:plugin/config": super::imports::config,
            "mmhost:plugin/log": super::imports::log,
        },
    });
}

/// World `dataset-filter`.
pub mod filter {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "dataset-filter",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "mmhost:plugin/types@0.1.0": super::imports::types,
            "mmhost:plugin/images@0.1.0": super::imports::images,
            "mmhost:plugin/config@0.1.0": super::imports::config,
            "mmhost:plugin/log@0.1.0": super::imports::log,
            "mmhost:plugin/llm@0.2.0": super::imports::llm,
            "mmhost:plugin/http@0.2.0": super::imports::http,
        },
    });
}

/// What guests import.
pub mod imports {
    pub use super::tool::mmhost::plugin0_1_0::{config, corpus, images, log, types};
    pub use super::tool::mmhost::plugin0_2_0::{http, llm};
}

/// What guests export.
pub mod exports {
    pub use super::filter::exports::mmhost::plugin0_1_0::filtering;
    pub use super::reward::exports::mmhost::plugin0_2_0::scoring;
    pub use super::reward_0_1::exports::mmhost::plugin::scoring as scoring_0_1;
    pub use super::tool::exports::mmhost::plugin0_1_0::tool;
}

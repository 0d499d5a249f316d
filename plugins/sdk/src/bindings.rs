//! Generated from `wit/`. Plugins use the names that the other modules give these types.
#![allow(missing_docs, clippy::all)]

/// World `search-tool`, which imports every interface that the other worlds import.
pub mod tool {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "search-tool",
        pub_export_macro: true,
        export_macro_name: "export_search_tool",
        default_bindings_module: "mmhost_sdk::bindings::tool",
        generate_all,
    });
}

/// World `reward`.
pub mod reward {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "reward",
        pub_export_macro: true,
        export_macro_name: "export_reward_world",
        default_bindings_module: "mmhost_sdk::bindings::reward",
        with: {
            "mmhost:plugin/types@0.1.0": crate::bindings::imports::types,
            "mmhost:plugin/config@0.1.0": crate::bindings::imports::config,
            "mmhost:plugin/log@0.1.0": crate::bindings::imports::log,
            "mmhost:plugin/llm@0.2.0": crate::bindings::imports::llm,
            "mmhost:plugin/http@0.2.0": crate::bindings::imports::http,
        },
        generate_all,
    });
}

/// World `dataset-filter`.
pub mod filter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "dataset-filter",
        pub_export_macro: true,
        export_macro_name: "export_dataset_filter",
        default_bindings_module: "mmhost_sdk::bindings::filter",
        with: {
            "mmhost:plugin/types@0.1.0": crate::bindings::imports::types,
            "mmhost:plugin/images@0.1.0": crate::bindings::imports::images,
            "mmhost:plugin/config@0.1.0": crate::bindings::imports::config,
            "mmhost:plugin/log@0.1.0": crate::bindings::imports::log,
            "mmhost:plugin/llm@0.2.0": crate::bindings::imports::llm,
            "mmhost:plugin/http@0.2.0": crate::bindings::imports::http,
        },
        generate_all,
    });
}

/// What plugins import.
pub mod imports {
    pub use super::tool::mmhost::plugin0_1_0::{config, corpus, images, log, types};
    pub use super::tool::mmhost::plugin0_2_0::{http, llm};
}

/// What plugins export, each its own.
pub mod exports {
    pub use super::filter::exports::mmhost::plugin0_1_0::filtering;
    pub use super::reward::exports::mmhost::plugin0_2_0::scoring;
    pub use super::tool::exports::mmhost::plugin0_1_0::tool;
}

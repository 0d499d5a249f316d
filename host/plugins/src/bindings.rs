//! Generated from `wit/`: the contract as the host sees it. The interfaces that several worlds share are generated once, with
//! `search-tool`, which imports all of them.
#![allow(missing_docs)]

/// World `search-tool`.
pub mod tool {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "search-tool",
        imports: {
            "mmhost:plugin/corpus": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "mmhost:plugin/images.image": crate::doors::images::ImageHandle },
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
            "mmhost:plugin/types": super::tool::mmhost::plugin::types,
            "mmhost:plugin/config": super::tool::mmhost::plugin::config,
            "mmhost:plugin/log": super::tool::mmhost::plugin::log,
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
            "mmhost:plugin/types": super::tool::mmhost::plugin::types,
            "mmhost:plugin/images": super::tool::mmhost::plugin::images,
            "mmhost:plugin/config": super::tool::mmhost::plugin::config,
            "mmhost:plugin/log": super::tool::mmhost::plugin::log,
        },
    });
}

//! Arguments of `mmhost plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{AddArgs, CacheArg, PublishArgs, SignArgs};

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make the folder of a new plugin, which builds, passes `check` and can be trained with as it is.
    ///
    /// The folder is complete in itself: manifest, source, the contract (wit/), for Rust the SDK, for C the bindings, a README and a
    /// test. Nothing is overwritten.
    New {
        /// Name: lower-case letters, digits and `-`
        #[arg(value_name = "NAME")]
        name: String,
        /// What the plugin is for
        #[arg(long, value_enum)]
        kind: KindArg,
        /// What it is written in
        #[arg(long, value_enum)]
        lang: LangArg,
        /// Folder of plugins to put it into
        #[arg(long = "dir", value_name = "DIR", default_value = "plugins")]
        plugins: PathBuf,
    },
    /// Build plugins from source and pin them in plugins.lock.
    ///
    /// The sources tell the language: Cargo.toml is built by cargo, src/plugin.py by componentize-py, src/plugin.js by componentize-qjs
    /// (jco's QuickJS backend), src/*.c by `zig cc`. A missing tool is named, with the command that gets it; tools are looked for in
    /// .venv and node_modules of the plugin's folder and those above it, then on the search path.
    Build {
        /// Folder of plugins, or the folder of one
        #[arg(value_name = "DIR", default_value = "plugins")]
        plugins: PathBuf,
        /// Build, compare with the committed components, change nothing; differing bytes are an error
        #[arg(long)]
        check: bool,
    },
    /// Check that a plugin keeps what it must: conformance, robustness, and for rewards that they cannot be cheated.
    ///
    /// Compares manifest, component and self-description; gives it ordinary and nasty inputs (empty, huge, in many scripts, truncated
    /// images, injected protocol tags and control tokens); looks for answers that differ between runs, between batches or by order,
    /// for totals out of bounds, for wrong answers that earn more than right ones, and for tricks that earn what an answer should; and
    /// runs the plugin's own tests/*.json: {"input": ..., "expect": ...}, as `call` takes and prints them. A small built-in corpus
    /// stands in for those that the plugin asks for, and a model that says no for its models. Exit code 3 if there are errors; warnings are
    /// for the author to weigh.
    Check(CheckArgs),
    /// Call a function of a plugin once, and print its answer with time, fuel and peak memory.
    ///
    /// The input is JSON. For `call`: {"argument": "text, or an object for a tool called in JSON", "question": "...", "images":
    /// ["flag.png"]}. For `score` one episode or an array of them: {"ground_truth": "...", "candidate_answers": [], "turns": ["..."],
    /// "calls": [{"tool": "...", "argument": "...", "ok": true, "answer": "..."}], "question": "...", "ending": "answered", "id": "..."}.
    /// For `filter` one sample or an array: {"question": "...", "ground_truth": "...", "candidate_answers": [], "data_source": "...", "images": [],
    /// "id": "..."}. Every field may be left out; images are paths relative to the input file. `describe` takes no input.
    ///
    /// Counting fuel slows a guest by about 40 %, so `call` and `check` count it and runs do not.
    Call(CallArgs),
    /// Measure what a plugin costs: instantiation, description, calls, each episode or sample of a batch.
    ///
    /// Medians and 95th percentiles in microseconds, each beside the reference plugin of the same kind, measured in turn with it.
    Bench {
        /// The plugin's folder
        #[arg(value_name = "DIR")]
        plugin: PathBuf,
        /// Print the figures as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the plugins of a folder: or, with a run's configuration, who may do what in it.
    List {
        /// Folder of plugins
        #[arg(value_name = "DIR", default_value = "plugins")]
        plugins: PathBuf,
        /// Configuration whose [plugins.grants] to hold against what the plugins ask for
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Add a plugin from elsewhere: a folder, an archive, a web server or an OCI registry.
    ///
    /// SOURCE is a plugin's folder, a .tar.gz archive of one, https://HOST/FILE.tar.gz, or oci://REGISTRY/REPOSITORY:TAG (or
    /// @sha256:HEX). http:// leads to this machine only, and so does a registry without encryption.
    ///
    /// The plugin is checked before anything is written: its manifest, the component and the contract that it was built against, its
    /// digest and signature where asked for. An archive holds one plugin, and no links, special files or paths that lead out of it.
    /// What a run needs is taken: manifest, component and signature; sources stay where they are. The folder gets its name in one
    /// step, and plugins.lock pins component and manifest, where they came from, and whose signature was found. When anything fails,
    /// everything is as before.
    ///
    /// Prints what the plugin asks for and the lines that grant it; nothing is granted by adding.
    Add(AddArgs),
    /// Sign a plugin with a minisign key.
    ///
    /// Writes NAME.wasm.minisig beside the component. It signs the component, and in its trusted comment, which is signed too, the word
    /// plugin.toml:sha256:HEX the manifest. `minisign -Vm NAME.wasm -p KEY.pub` checks it as well, and `minisign -Sm NAME.wasm -t
    /// "plugin.toml:sha256:HEX"` makes such a file.
    ///
    /// The password of the key, where it has one, is taken from the environment variable MMHOST_KEY_PASSWORD.
    Sign(SignArgs),
    /// Send a plugin to an OCI registry.
    ///
    /// The artifact is laid out as those of Wasm are: the component is a layer application/wasm under a configuration
    /// application/vnd.wasm.config.v0+json; manifest and signature, where there is one, are layers of their own. The same plugin always
    /// gives the same artifact. Prints it by its digest, for `mmhost plugin add`.
    ///
    /// The registry is asked as --username, or as `docker login` left it: under `auths` in $DOCKER_CONFIG/config.json or
    /// ~/.docker/config.json (credential helpers are not asked), or else as nobody.
    Publish(PublishArgs),
    /// Describe one plugin: kind, version, digest, where it came from, imports, what it asks for, its configuration.
    Inspect {
        /// The plugin's folder, e.g. plugins/text-search
        #[arg(value_name = "DIR")]
        plugin: PathBuf,
    },
}

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A tool that the policy may call
    #[value(alias = "search-tool")]
    Tool,
    /// A reward function
    Reward,
    /// A filter over data sets
    #[value(alias = "dataset-filter")]
    Filter,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LangArg {
    /// Built by cargo for wasm32-wasip2
    Rust,
    /// Built by componentize-py
    Python,
    /// Built by componentize-qjs
    Javascript,
    /// Built by `zig cc`
    C,
}

/// A function of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FunctionArg {
    /// The self-description
    Describe,
    /// A tool's call
    Call,
    /// A reward's score
    Score,
    /// A filter's decisions
    Filter,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The plugin's folder
    #[arg(value_name = "DIR")]
    pub plugin: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Run configuration whose [plugins.config.NAME] is checked with [default: the manifest's defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Args)]
pub struct CallArgs {
    /// The plugin's folder
    #[arg(value_name = "DIR")]
    pub plugin: PathBuf,
    /// What to call
    #[arg(value_enum)]
    pub function: FunctionArg,
    /// Input in JSON, or one of the plugin's tests; `-` is standard input
    #[arg(long, value_name = "FILE|-", required_if_eq_any([("function", "call"), ("function", "score"), ("function", "filter")]))]
    pub input: Option<PathBuf>,
    /// Run configuration for corpora, grants and [plugins.config.NAME] [default: the atlas, no network, a model that says no, the manifest's defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArg,
}

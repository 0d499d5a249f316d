//! The command line. Help texts are the reference manual of the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod distribution;

pub use distribution::{AddArgs, PublishArgs, RegistryArgs, SignArgs};

/// Trains vision-language models that decide for themselves when to search.
///
/// mmhost teaches a multimodal model, by reinforcement learning on outcomes (GRPO), when to search, what to search for and how to
/// reason over what comes back. The model, the learner and the rollouts are native; search tools, rewards and dataset filters are
/// sandboxed WebAssembly components in a plugin folder.
///
/// Results go to standard output, progress and messages to standard error.
///
/// Exit codes: 0 success; 2 wrong command line; 3 bad input (a file, a configuration, a plugin, a data set, a full disk); 4 a fault of
/// mmhost itself.
#[derive(Debug, Parser)]
#[command(name = "mmhost", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a policy with GRPO and print what it learned.
    ///
    /// Loads or builds the base model (the built-in base is trained once and cached), evaluates it with the workflows direct, RAG and
    /// on-demand, trains it, evaluates it again and prints one table. Everything is kept in a run directory: the resolved
    /// configuration (run.toml), metrics.jsonl, every episode, checkpoints that load in Hugging Face transformers, summary.json and
    /// report.html.
    ///
    /// A killed run loses nothing but the steps since its last checkpoint: --resume goes on from there and reaches the same figures
    /// as an unbroken run.
    Train(TrainArgs),
    /// Evaluate a model: greedy, one answer per question.
    ///
    /// Prints accuracy, format and both definitions of the search ratio with 95 % intervals, over all questions and by question class.
    Eval(EvalArgs),
    /// Score stored episodes with another reward, without the model.
    ///
    /// Reads the episodes that a run recorded and lets a reward plugin score them again. Prints the mean total and components beside
    /// the stored ones, and how many episodes changed. With --keep the verdicts stay in the run directory (scores/NAME.jsonl), and `mmhost
    /// report` and `mmhost watch` show where the rewards disagree.
    Score(ScoreArgs),
    /// Make a page of one run or several: what was learned, how, and every kind of episode to look into.
    ///
    /// The page is one HTML file that opens from disk and needs no network: summary, figures before and after, training curves, search
    /// behaviour by question class, tools, comparison, provenance, and a viewer of episodes with images, turns, raw tool results and
    /// tokens. Runs that differ in their seed only are drawn as a mean and a band. A run that is going on, has crashed, is damaged or
    /// was written by another version is shown as far as it goes; the page says what is missing.
    Report(ReportArgs),
    /// Watch a run in a browser while it goes on.
    ///
    /// Serves the page of `mmhost report` on this machine only and prints its address. New steps and episodes appear by themselves; what is
    /// being looked at stays. A run that has not begun, is going on, has ended, has crashed or is damaged is shown as far as it goes.
    /// Nothing can be changed through the page. Ctrl-C ends it; the run goes on.
    Watch(WatchArgs),
    /// List, show, compare and remove runs.
    #[command(subcommand)]
    Run(RunCommand),
    /// Make, look into and run models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Make, build, check, try, measure, list and inspect plugins; sign, publish and add them.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Write and inspect data sets.
    #[command(subcommand)]
    Data(DataCommand),
    /// Print the JSON Schema of a file that people write, for editors that complete and check it.
    Schema {
        /// Which file
        #[arg(value_enum)]
        file: SchemaArg,
    },
}

/// Where plugins are.
#[derive(Debug, Args)]
pub struct PluginsArg {
    /// Folder of plugins, pinned by its plugins.lock
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub plugins: PathBuf,
    /// Refuse plugins of which anything that plugins.lock pins has changed: sources, manifest and signature, besides the component
    #[arg(long)]
    pub locked: bool,
}

/// Where caches are.
#[derive(Debug, Args)]
pub struct CacheArg {
    /// Folder for what can be made again: base models, compiled plugins [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "MMHOST_CACHE")]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub plugins: PluginsArg,
    /// Configuration in TOML [default: the built-in configs/atlas.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run directory [default: runs/DATE-TIME; runs/latest points to the newest]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Go on with the run in --run, or with runs/latest, from its last complete checkpoint
    #[arg(long, conflicts_with_all = ["config", "seed", "steps"])]
    pub resume: bool,
    /// Take up plugins that change meanwhile: each is checked, and put to use between two steps; a bad one is refused, and the old one stays
    #[arg(long)]
    pub dev: bool,
    /// Seed, instead of the configuration's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// GRPO steps, instead of the configuration's
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    #[command(flatten)]
    pub tape: TapeArgs,
    #[command(flatten)]
    pub cache: CacheArg,
}

/// How questions are put to the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorkflowArg {
    /// No tools
    Direct,
    /// Exactly one image search, then exactly one text search, then the answer
    Rag,
    /// The policy decides
    OnDemand,
}

/// Recording and replaying what tools answer, and what plugins are answered at the host's doors.
#[derive(Debug, Args)]
pub struct TapeArgs {
    /// Keep what every tool, HTTP server and corpus answered, in replay/ of the run directory (for eval: of --episodes)
    #[arg(long)]
    pub record: bool,
    /// Answer from the recording of --replay-from; what it does not know is asked, or, with --replay=strict, end the run
    #[arg(long, value_name = "MODE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "lenient")]
    #[arg(requires = "replay_from", conflicts_with = "record")]
    pub replay: Option<ReplayArg>,
    /// The run directory, or the --episodes folder of an evaluation, whose recording to replay
    #[arg(long, value_name = "RUN", requires = "replay")]
    pub replay_from: Option<PathBuf>,
}

/// What becomes of what is not on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayArg {
    /// It is asked
    Lenient,
    /// It ends the run
    Strict,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Model folder, e.g. a checkpoint of a run
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// `atlas` (its test questions), `atlas:validation`, `atlas:held_out`, or a Parquet or JSONL file
    #[arg(long, value_name = "atlas|FILE")]
    pub data: String,
    /// How to ask
    #[arg(long, value_enum)]
    pub workflow: WorkflowArg,
    #[command(flatten)]
    pub plugins: PluginsArg,
    /// Reward plugin that judges the answers [default: the configuration's]
    #[arg(long, value_name = "NAME")]
    pub reward: Option<String>,
    /// Configuration for tools, protocol and corpora [default: the run.toml of the model's run, or the built-in one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Most questions to ask (the first ones)
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Also write the metrics to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also keep the episodes and their images in this folder
    #[arg(long, value_name = "DIR")]
    pub episodes: Option<PathBuf>,
    #[command(flatten)]
    pub tape: TapeArgs,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A run directory, or a file of episodes
    #[arg(long, value_name = "RUN")]
    pub episodes: PathBuf,
    /// Reward plugin
    #[arg(long, value_name = "NAME")]
    pub reward: String,
    /// Keep the verdicts in the run directory, for its report
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub plugins: PluginsArg,
    /// Configuration of the reward plugin [default: the run's run.toml, or the built-in one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run directories, e.g. runs/latest
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html in the run directory; with several runs in the working directory]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Most episodes in the viewer: those of evaluations, then whole training groups spread over the run
    #[arg(long, value_name = "N", default_value_t = mmhost_report::ReportOptions::MAX_EPISODES)]
    pub episodes: usize,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Run directory, e.g. runs/latest
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Port on this machine; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8700)]
    pub port: u16,
}

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// List the runs of a folder, newest last: state, steps, seed, accuracy, searches, size.
    List {
        /// Folder of runs
        #[arg(value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Show one run: with what it was made, how far it came, what it reached, what is damaged.
    Show {
        /// Run directory
        #[arg(value_name = "RUN")]
        run: PathBuf,
    },
    /// Tell in what runs differ: settings, plugins, versions, and what they reached.
    Diff {
        /// Run directories
        #[arg(value_name = "RUN", num_args = 2.., required = true)]
        runs: Vec<PathBuf>,
    },
    /// Remove runs: those named, or all that did not finish. Asks first; a run that a process is writing to always stays.
    Prune {
        /// Run directories to remove [default: the unfinished ones of --runs]
        #[arg(value_name = "RUN")]
        named: Vec<PathBuf>,
        /// Folder of runs
        #[arg(long, value_name = "DIR", default_value = "runs", conflicts_with = "named")]
        runs: PathBuf,
        /// Remove without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Write a randomly initialised model folder in the shape of the configuration's base.
    Init {
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Seed of the weights
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Configuration with a [model.base] [default: the built-in one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Describe a model folder: shape, parameters, files.
    Inspect {
        /// Model folder
        #[arg(value_name = "DIR")]
        model: PathBuf,
    },
    /// Write the input ids and logits of a conversation.
    ///
    /// The messages file is JSON in the style of Hugging Face chat messages: [{"role": "user", "content": [{"type": "image", "path":
    /// "flag.png"}, {"type": "text", "text": "Which flag?"}]}]; image paths are relative to the file. The output is a safetensors file
    /// with `input_ids` (i64, [T]) and `logits` (f32, [T, vocabulary]).
    Logits {
        /// Model folder
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// Messages
        #[arg(long, value_name = "FILE.json")]
        messages: PathBuf,
        /// Output
        #[arg(long, value_name = "FILE.safetensors")]
        out: PathBuf,
    },
    /// Continue a conversation.
    Generate {
        /// Model folder
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// Messages, as for `logits`
        #[arg(long, value_name = "FILE.json")]
        messages: PathBuf,
        /// Most new tokens
        #[arg(long, value_name = "N", default_value_t = 128)]
        max_new_tokens: usize,
        /// Sampling temperature; 0 is greedy
        #[arg(long, value_name = "T", default_value_t = 0.0)]
        temperature: f32,
        /// Nucleus mass; 1 is off
        #[arg(long, value_name = "P", default_value_t = 1.0)]
        top_p: f32,
        /// Most likely tokens to draw from; 0 is off
        #[arg(long, value_name = "K", default_value_t = 0)]
        top_k: usize,
        /// Seed of the draws
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
}

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
    /// stands in for those that the plugin asks for. Exit code 3 if there are errors; warnings are for the author to weigh.
    Check(CheckArgs),
    /// Call a function of a plugin once, and print its answer with time, fuel and peak memory.
    ///
    /// The input is JSON. For `call`: {"argument": "text, or an object for a tool called in JSON", "question": "...", "images":
    /// ["flag.png"]}. For `score` one episode or an array of them: {"ground_truth": "...", "candidate_answers": [], "turns": ["..."],
    /// "calls": [{"tool": "...", "argument": "...", "ok": true}], "question": "...", "ending": "answered", "id": "..."}. For `filter`
    /// one sample or an array: {"question": "...", "ground_truth": "...", "candidate_answers": [], "data_source": "...", "images": [],
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

/// A file with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaArg {
    /// plugin.toml, a plugin's manifest
    Plugin,
    /// The configuration of a run
    Run,
}

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A tool that the policy may call
    Tool,
    /// A reward function
    Reward,
    /// A filter over data sets
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
    /// Input in JSON; `-` is standard input
    #[arg(long, value_name = "FILE|-", required_if_eq_any([("function", "call"), ("function", "score"), ("function", "filter")]))]
    pub input: Option<PathBuf>,
    /// Run configuration for corpora and [plugins.config.NAME] [default: the atlas and the manifest's defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArg,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Write the atlas, the built-in world, as data files: train, validation, test and held_out Parquet and the corpus.
    Atlas {
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Configuration whose [data.atlas] divides the world [default: the built-in one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Describe a data set: columns, rows, images, answers, classes, and what is wrong with it.
    Inspect {
        /// Parquet or JSONL file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

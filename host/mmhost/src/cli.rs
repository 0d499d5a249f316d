//! The command line. Help texts are the reference manual of the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod distribution;
mod plugin;

pub use distribution::{AddArgs, PublishArgs, RegistryArgs, SignArgs};
pub use plugin::{CallArgs, CheckArgs, FunctionArg, KindArg, LangArg, PluginCommand};

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

/// A file with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaArg {
    /// plugin.toml, a plugin's manifest
    Plugin,
    /// The configuration of a run
    Run,
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

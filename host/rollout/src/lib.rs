//! Rollouts: the turn protocol, tool dispatch, the scheduler and the episode record. Knows tokens, not tensors.
//!
//! A *rollout* is the doing: the policy acts on a sample, turn by turn, until it answers or a limit stops it. An [`Episode`] is
//! the record of it. Episodes of one sample form a *group*.
//!
//! - [`Protocol`] composes every text that the policy reads from what the tools say of themselves, and reads a turn's ending.
//! - [`Roller`] runs many groups at once; each episode is a state machine of its own, so none waits for another's tool.
//! - [`EpisodeWriter`] and [`read_episodes`] store episodes and read them back.
//! - [`taped`] puts a recording before a tool.
//! - [`score`] asks a reward plugin for its verdicts, on fresh and on stored episodes alike.
//!
//! Tokens go in and come out as tokens: what the policy sampled is never decoded and encoded again.

mod episode;
mod error;
mod invariants;
mod parse;
mod protocol;
mod record;
mod roller;
mod rollout;
mod score;
mod seed;
mod taped;
mod tools;

pub use episode::{CallRecord, Ending, Episode, Task, TrainingView, TurnRecord, Workflow};
pub use error::{Error, Result};
pub use invariants::Violation;
pub use parse::{Malformed, TurnEnding};
pub use protocol::{Protocol, ProtocolOptions, RagTools};
pub use record::{EpisodeWriter, StoredEpisodes, TruncatedLine, attach_images, read_dir, read_episodes};
pub use roller::Roller;
pub use score::{Reward, SCORE_CHUNK, score};
pub use seed::turn_seed;
pub use taped::taped;
pub use tools::{About, Failed, Played, Tool};

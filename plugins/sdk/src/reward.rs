//! Rewards.

use crate::ConfigError;
pub use crate::bindings::exports::scoring::{Call, Component, Description, Episode, Rating, RewardError, Verdict};

/// A reward function.
pub trait Reward {
    /// The plugin's configuration: the manifest's `[config]` table.
    type Config: miniserde::Deserialize;

    /// The reward's self-description.
    ///
    /// # Errors
    /// When the configuration is unusable.
    fn describe(config: &Self::Config) -> Result<Description, ConfigError>;

    /// Scores a batch: one verdict per episode, in order.
    ///
    /// # Errors
    /// When no episode of the batch can be scored; a single one is rather abstained from.
    fn score(config: &Self::Config, batch: Vec<Episode>) -> Result<Vec<Verdict>, RewardError>;
}

impl From<ConfigError> for RewardError {
    fn from(error: ConfigError) -> Self {
        RewardError::Config(error)
    }
}

/// Exports a [`Reward`](reward::Reward) as the component's `reward` world.
#[macro_export]
macro_rules! export_reward {
    ($reward:ty) => {
        struct MmhostComponent;
        impl $crate::bindings::exports::scoring::Guest for MmhostComponent {
            fn describe() -> Result<$crate::reward::Description, $crate::ConfigError> {
                <$reward as $crate::reward::Reward>::describe(&$crate::config()?)
            }
            fn score(
                batch: Vec<$crate::reward::Episode>,
            ) -> Result<Vec<$crate::reward::Verdict>, $crate::reward::RewardError> {
                <$reward as $crate::reward::Reward>::score(&$crate::config()?, batch)
            }
        }
        $crate::bindings::reward::export_reward_world!(MmhostComponent with_types_in $crate::bindings::reward);
    };
}

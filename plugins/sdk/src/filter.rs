//! Dataset filters.

use crate::ConfigError;
pub use crate::bindings::exports::filtering::{Decision, Description, FilterError, Sample};

/// A filter over a data set.
pub trait Filter {
    /// The plugin's configuration: the manifest's `[config]` table.
    type Config: miniserde::Deserialize;

    /// The filter's self-description.
    ///
    /// # Errors
    /// When the configuration is unusable.
    fn describe(config: &Self::Config) -> Result<Description, ConfigError>;

    /// Decides on a batch: one decision per sample, in order.
    ///
    /// # Errors
    /// When no sample of the batch can be decided on.
    fn filter(config: &Self::Config, batch: Vec<Sample>) -> Result<Vec<Decision>, FilterError>;
}

impl From<ConfigError> for FilterError {
    fn from(error: ConfigError) -> Self {
        FilterError::Config(error)
    }
}

/// Exports a [`Filter`](filter::Filter) as the component's `dataset-filter` world.
#[macro_export]
macro_rules! export_filter {
    ($filter:ty) => {
        struct MmhostComponent;
        impl $crate::bindings::exports::filtering::Guest
            for MmhostComponent
        {
            fn describe() -> Result<$crate::filter::Description, $crate::ConfigError> {
                <$filter as $crate::filter::Filter>::describe(&$crate::config()?)
            }
            fn filter(
                batch: Vec<$crate::filter::Sample>,
            ) -> Result<Vec<$crate::filter::Decision>, $crate::filter::FilterError> {
                <$filter as $crate::filter::Filter>::filter(&$crate::config()?, batch)
            }
        }
        $crate::bindings::filter::export_dataset_filter!(MmhostComponent with_types_in $crate::bindings::filter);
    };
}

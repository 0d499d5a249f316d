//! The episodes of a run, for people: counted all, shown in part.
//!
//! 1. [`Scan`] reads every episode once, keeps its place in its file, and counts what all of them did.
//! 2. [`select`] chooses whole groups to show, within a limit.
//! 3. [`Payload`] reads the chosen ones again in full and packs them: an index for the list, the search and the filters; chunks with
//!    tokens and raw results, which the page unpacks when one of their episodes is opened; images by digest.

mod images;
mod index;
mod pack;
mod payload;
mod pieces;
mod record;
mod scan;
mod select;
mod tally;

pub(crate) use payload::{LivePayload, Others, vocabulary};
pub use payload::{Payload, PayloadOptions};
pub(crate) use pieces::Pieces;
pub(crate) use record::Reward;
pub use scan::Scan;
pub(crate) use scan::{Found, Judged};
pub use select::{Selection, select};
pub use tally::Counted;

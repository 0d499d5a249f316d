//! Brings plugins from elsewhere and sends them there: the work behind `mmhost plugin add` and `mmhost plugin publish`.
//!
//! [`Source`] says where one comes from: a folder, an archive, a web server or an OCI registry. Whatever it is, it is read into memory
//! under limits and checked there; only a plugin that passed is written, into a folder that gets its name in one step.

mod add;
mod archive;
mod credentials;
mod fetch;
mod publish;
mod registry;
mod source;

pub use add::{AddOptions, Added, add};
pub use credentials::Credentials;
pub use publish::{Published, publish};
pub use source::{Reference, Source};

//! The network as a plugin may use it: where it may send requests ([`HostRule`]), which addresses may be dialled (`address`), which
//! secrets are put in on the way out (`secret`), and the client that keeps to all of it (`client`).
//!
//! A guest sees `wasi:http` or the contract's `http` (the door `http`); nothing else reaches a socket.

mod address;
mod client;
mod resolver;
mod rule;
mod secret;

pub use resolver::{Lookup, SystemLookup};
pub use rule::HostRule;
pub use secret::SecretSource;

pub(crate) use client::{Budget, NetError, Network, Request, Response};
pub(crate) use secret::is_secret_name;

/// Gives the process its provider of cryptography, which clients look for when they are made.
pub(crate) fn install_tls() {
    // A second installation fails and changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
}

//! Names to addresses, and only to those that may be dialled. The client dials exactly what this returns, so a name that changes its
//! address between a check and the connection changes nothing.

use super::address::prohibited;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Looks up the addresses of a host name. [`SystemLookup`] asks the system; tests answer themselves.
#[async_trait::async_trait]
pub trait Lookup: Send + Sync {
    /// Every address of the name.
    ///
    /// # Errors
    /// What the resolver said.
    async fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait::async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A name none of whose addresses may be dialled.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} stands for {address}, {why}")]
pub(super) struct Prohibited {
    pub name: String,
    pub address: IpAddr,
    pub why: &'static str,
}

/// A lookup that drops what must not be dialled.
#[derive(Clone)]
pub(super) struct Resolver {
    pub lookup: Arc<dyn Lookup>,
    pub granted: Arc<[IpNet]>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Resolver { lookup, granted } = self.clone();
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            let (mut dialled, mut refused) = (Vec::new(), None);
            for address in found {
                match prohibited(address, &granted) {
                    None => dialled.push(SocketAddr::new(address, 0)),
                    Some(why) => refused = Some(Prohibited { name: name.as_str().to_owned(), address, why }),
                }
            }
            match refused {
                Some(refused) if dialled.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(dialled.into_iter()) as Addrs),
            }
        })
    }
}

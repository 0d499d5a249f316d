//! Sends the requests of one plugin, within its grant.

use super::address::prohibited;
use super::resolver::{Lookup, Prohibited, Resolver};
use super::rule::HostRule;
use super::secret::Secrets;
use crate::ledger::Account;
use crate::{Grant, PluginError, Result, manifest};
use bytes::Bytes;
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, StatusCode};
use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use url::{Host, Url};

/// Most hops that a request is led on to.
const MAX_REDIRECTS: usize = 5;
/// Most bytes of names and values in an answer's header.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// First pause before a failed request is repeated; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A server that asks for a longer pause gets none: the guest is told.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A request as the guest made it, placeholders and all.
#[derive(Clone)]
pub(crate) struct Request {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether it may be sent again when the server is overloaded.
    pub repeatable: bool,
}

/// The whole answer.
pub(crate) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub(crate) enum NetError {
    /// The policy forbids it; says what to change.
    #[error("{0}")]
    Refused(String),
    /// The name leads to an address that must not be dialled.
    #[error("{0}")]
    Address(String),
    /// The call has sent as many requests as it may.
    #[error("more than {limit} requests in one call; `[limits] http_requests` in plugin.toml sets it")]
    TooMany { limit: u64 },
    /// The call has moved as many bytes as it may.
    #[error("more than {limit} bytes of requests and answers in one call; `[limits] http_bytes` in plugin.toml sets it")]
    TooLong { limit: u64 },
    /// The server could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The server did not answer properly.
    #[error("{0}")]
    Transport(String),
}

/// What one call may still use of the network.
#[derive(Debug)]
pub(crate) struct Budget {
    max_requests: u64,
    max_bytes: u64,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Where requests are paid for; `None` where something else is.
    account: Option<Arc<Account>>,
}

impl Budget {
    pub fn new(max_requests: u64, max_bytes: u64, account: Arc<Account>) -> Self {
        Budget { max_requests, max_bytes, requests: AtomicU64::new(0), bytes: AtomicU64::new(0), account: Some(account) }
    }

    /// A budget of bytes for requests that are paid for by tokens.
    pub fn of_models(max_bytes: u64) -> Self {
        Budget { max_requests: u64::MAX, max_bytes, requests: AtomicU64::new(0), bytes: AtomicU64::new(0), account: None }
    }

    /// Counts a request.
    fn request(&self) -> std::result::Result<(), NetError> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            return Err(NetError::TooMany { limit: self.max_requests });
        }
        self.account.as_ref().map_or(Ok(()), |account| account.request()).map_err(|error| NetError::Refused(error.to_string()))
    }

    /// Counts bytes, in either direction.
    pub fn bytes(&self, bytes: u64) -> std::result::Result<(), NetError> {
        if let Some(account) = &self.account {
            account.bytes(bytes);
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) <= self.max_bytes {
            true => Ok(()),
            false => Err(NetError::TooLong { limit: self.max_bytes }),
        }
    }
}

/// The network of one plugin.
pub(crate) struct Network {
    plugin: String,
    hosts: Vec<HostRule>,
    methods: Vec<Method>,
    resolver: Resolver,
    secrets: Secrets,
    retries: u32,
    in_flight: Semaphore,
    /// Shortest time between two requests, and when the next one may start.
    pace: Option<(Duration, Mutex<Instant>)>,
    client: reqwest::Client,
    /// What to do about a refusal, where it is not to ask for more and grant it.
    remedy: Option<String>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("plugin", &self.plugin).field("hosts", &self.hosts).field("secrets", &self.secrets).finish()
    }
}

impl Network {
    /// The network that `grant` opens to a plugin that asks for `hosts` and `methods`. Reads the secrets.
    ///
    /// # Errors
    /// When a secret cannot be had, or the client does not start.
    pub fn new(plugin: &str, hosts: &[HostRule], methods: &[manifest::Method], grant: &Grant, lookup: Arc<dyn Lookup>) -> Result<Self> {
        let secrets = Secrets::read(&grant.secrets).map_err(|(name, why)| PluginError::Secret { plugin: plugin.into(), name, why })?;
        let granted: Arc<[_]> = grant.networks.clone().into();
        let resolver = Resolver { lookup, granted };
        super::install_tls();
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(resolver.clone()))
            // Redirects and repetitions are this module's.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .no_proxy()
            .referer(false)
            .user_agent(concat!("mmhost/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| PluginError::Other(format!("cannot start the network of {plugin}: {error}")))?;
        let pace = grant.requests_per_second.map(|n| (Duration::from_secs_f64(1.0 / f64::from(n.max(1))), Mutex::new(Instant::now())));
        Ok(Network {
            plugin: plugin.into(),
            hosts: hosts.to_vec(),
            methods: methods.iter().filter_map(|method| Method::from_bytes(method.to_string().as_bytes()).ok()).collect(),
            resolver,
            secrets,
            retries: grant.retries,
            in_flight: Semaphore::new(grant.max_in_flight.max(1)),
            pace,
            client,
            remedy: None,
        })
    }

    /// Has refusals say what else to do than to ask for more and grant it.
    pub fn with_remedy(self, remedy: String) -> Self {
        Network { remedy: Some(remedy), ..self }
    }

    /// Sends a request, repeats it where that helps, and follows redirects, each of which is checked like the first.
    pub async fn send(&self, mut request: Request, budget: &Budget) -> std::result::Result<Response, NetError> {
        let mut url = parse(&request.url)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.attempt(&request, &url, budget).await?;
            let Some(next) = target(&url, &response) else { return Ok(response) };
            if response.status == StatusCode::SEE_OTHER
                || (request.method == Method::POST && matches!(response.status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND))
            {
                request.method = if request.method == Method::HEAD { Method::HEAD } else { Method::GET };
                request.body = Bytes::new();
                request.headers.remove(header::CONTENT_TYPE);
            }
            if next.origin() != url.origin() {
                for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                    request.headers.remove(name);
                }
            }
            url = next;
        }
        Err(NetError::Transport(format!("{} leads on more than {MAX_REDIRECTS} times", place(&url))))
    }

    /// One hop, repeated while the server is overloaded.
    async fn attempt(&self, request: &Request, url: &Url, budget: &Budget) -> std::result::Result<Response, NetError> {
        self.admit(&request.method, url)?;
        let mut pause = FIRST_PAUSE;
        for repeat in 0.. {
            budget.request()?;
            self.keep_pace().await;
            let outcome = self.once(request, url, budget).await;
            let asked = match &outcome {
                Ok(response) if is_overloaded(response.status) => retry_after(&response.headers),
                Err(NetError::Unreachable(_)) => None,
                _ => return outcome,
            };
            let pause_now = asked.unwrap_or(pause);
            if !request.repeatable || repeat >= self.retries || pause_now > LONGEST_PAUSE {
                return outcome;
            }
            tracing::debug!(target: "plugin", "{}: {} is asked again in {pause_now:?}", self.plugin, place(url));
            tokio::time::sleep(pause_now).await;
            pause *= 2;
        }
        Err(NetError::Transport("not sent".into()))
    }

    async fn once(&self, request: &Request, url: &Url, budget: &Budget) -> std::result::Result<Response, NetError> {
        let mut outgoing = reqwest::Request::new(request.method.clone(), url.clone());
        *outgoing.headers_mut() = request.headers.clone();
        self.secrets.fill(&mut outgoing).map_err(|why| self.refuse(&why, &format!("hosts = [\"{}\"]", place(url)), ".secrets.NAME"))?;
        if !request.body.is_empty() {
            *outgoing.body_mut() = Some(request.body.clone().into());
        }
        let closed = |_| NetError::Transport("shut down".into());
        let _slot = self.in_flight.acquire().await.map_err(closed)?;
        let failed = |error: reqwest::Error| self.explain(error, url);
        let mut response = self.client.execute(outgoing).await.map_err(failed)?;
        let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > MAX_HEADER_BYTES {
            return Err(NetError::Transport(format!(
                "{} answers with {size} bytes of headers; expected at most {MAX_HEADER_BYTES}",
                place(url)
            )));
        }
        let mut body = Vec::new();
        // What the server announces is not to be trusted; what arrives is counted.
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            budget.bytes(chunk.len() as u64)?;
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        let mut headers = std::mem::take(response.headers_mut());
        self.secrets.redact_headers(&mut headers);
        let long = body.len();
        let body = self.secrets.redact(body);
        if body.len() != long {
            headers.remove(header::CONTENT_LENGTH);
        }
        Ok(Response { status, headers, body: body.into() })
    }

    /// Whether the plugin may send this at all.
    fn admit(&self, method: &Method, url: &Url) -> std::result::Result<(), NetError> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NetError::Refused(format!("a URL with a user name in it, for {}, is not sent; use a header", place(url))));
        }
        if !self.hosts.iter().any(|host| host.allows(url)) {
            let line = format!("hosts = [\"{}\"]", place(url));
            return Err(self.refuse(&format!("a request to {} is not granted", place(url)), &line, ""));
        }
        if !self.methods.contains(method) {
            return Err(self.refuse(&format!("the method {method} is not granted"), &format!("methods = [\"{method}\"]"), ""));
        }
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        // The rule that allows it names this very address, so the run has granted it; it is still no business of a redirect elsewhere.
        let named = |address: IpAddr| self.hosts.iter().any(|host| host.address() == Some(address));
        match address.and_then(|address| Some((address, prohibited(address, &self.resolver.granted)?))) {
            Some((address, why)) if !named(address) => Err(self.prohibit(&address.to_string(), address, why)),
            _ => Ok(()),
        }
    }

    fn refuse(&self, what: &str, line: &str, section: &str) -> NetError {
        let remedy = self.remedy.clone().unwrap_or_else(|| {
            format!(
                "to allow it, ask for it under `[ask]` in plugin.toml and add `{line}` under [plugins.grants.{}{section}] in the run's \
                 configuration",
                self.plugin
            )
        });
        NetError::Refused(format!("{what}; {remedy}"))
    }

    fn prohibit(&self, name: &str, address: IpAddr, why: &str) -> NetError {
        NetError::Address(format!(
            "{name} is not dialled: {address} is {why}; to allow it, add `networks = [\"{}\"]` under [plugins.grants.{}] in the run's \
             configuration",
            ipnet::IpNet::from(address),
            self.plugin
        ))
    }

    /// Names what went wrong, without the URL: its query may hold a secret.
    fn explain(&self, error: reqwest::Error, url: &Url) -> NetError {
        let error = error.without_url();
        let mut message = format!("{}: {error}", place(url));
        let mut next = error.source();
        while let Some(cause) = next {
            if let Some(Prohibited { name, address, why }) = cause.downcast_ref::<Prohibited>() {
                return self.prohibit(name, *address, why);
            }
            message.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        if error.is_connect() { NetError::Unreachable(message) } else { NetError::Transport(message) }
    }

    async fn keep_pace(&self) {
        if let Some((interval, next)) = &self.pace {
            let mut next = next.lock().await;
            let start = (*next).max(Instant::now());
            *next = start + *interval;
            drop(next);
            tokio::time::sleep_until(start).await;
        }
    }
}

fn parse(url: &str) -> std::result::Result<Url, NetError> {
    let parsed = Url::parse(url).map_err(|error| NetError::Refused(format!("not a URL that can be sent: {error}")))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        other => Err(NetError::Refused(format!("the scheme `{other}` is not sent; expected http or https"))),
    }
}

/// Where the answer leads on to, if it does. A target that is no http URL is the guest's to deal with.
fn target(url: &Url, response: &Response) -> Option<Url> {
    let leads_on = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers.get(header::LOCATION).filter(|_| leads_on)?;
    url.join(location.to_str().ok()?).ok()
}

/// Scheme, host and port, which is what a message may say of a URL.
fn place(url: &Url) -> String {
    let rule = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_string(),
    };
    if url.scheme() == "https" { rule } else { format!("{}://{rule}", url.scheme()) }
}

fn is_overloaded(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// The pause that the server asks for, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

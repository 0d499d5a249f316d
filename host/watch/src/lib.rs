//! The page of a run, served while the run goes on.
//!
//! Only to this machine, and only to be read: the server listens on loopback, answers GET and HEAD, and checks that it was asked for by
//! a name of this machine, so that no page of another origin can have a name of its own point here and read along.
//!
//! A watcher costs the run little: files are looked at only while someone is connected or asks, only what was added is read, and after
//! every look the server rests many times as long as the look took.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use futures::Stream;
use mmhost_report::{Live, ReportOptions};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Time between two looks, at least.
const TICK: Duration = Duration::from_secs(1);
/// How many times as long as a look took the server rests after it: a look takes at most a fiftieth of one core.
const REST: u32 = 50;

/// Why a run cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to watch.
    #[error(transparent)]
    Run(#[from] mmhost_report::Error),
    /// The port is taken, or may not be used.
    #[error("cannot listen on port {port} of this machine; --port 0 takes one that is free")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// Serving ended.
    #[error("cannot go on serving the page")]
    Serve(#[source] std::io::Error),
}

/// A server that listens and does not serve yet.
pub struct Watch {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    version: watch::Receiver<u64>,
}

struct Shared {
    live: Mutex<Live>,
    /// The version of the run that was last told to everyone who is connected.
    told: watch::Sender<u64>,
    /// When the last look ended, and how long it took.
    looked: Mutex<(Instant, Duration)>,
    policy: HeaderValue,
}

impl Watch {
    /// Reads the run in `path` and listens on `port` of the loopback interface; port 0 takes a free one.
    ///
    /// # Errors
    /// When `path` is no directory that can be read, or the port cannot be had.
    pub async fn open(path: &Path, port: u16, options: ReportOptions) -> Result<Self, Error> {
        let (opened, took) = {
            let clock = Instant::now();
            let path = path.to_owned();
            let live = tokio::task::spawn_blocking(move || Live::open(&path, options)).await.map_err(|e| Error::Serve(e.into()))??;
            (live, clock.elapsed())
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| Error::Listen { port, source })?;
        let address = listener.local_addr().map_err(Error::Serve)?;
        let policy = HeaderValue::from_str(&Live::policy()).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
        let (told, version) = watch::channel(opened.version());
        let looked = Mutex::new((Instant::now(), took));
        Ok(Self { listener, address, shared: Arc::new(Shared { live: Mutex::new(opened), told, looked, policy }), version })
    }

    /// Where the page is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, end: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let Self { listener, shared, version, .. } = self;
        drop(version);
        let looking = tokio::spawn(keep_looking(shared.clone()));
        let app = Router::new()
            .route("/", routing::get(page))
            .route("/data", routing::get(data))
            .route("/index", routing::get(index))
            .route("/episode/{number}", routing::get(episode))
            .route("/picture/{digest}", routing::get(picture))
            .route("/events", routing::get(events))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(middleware::from_fn_with_state(shared.clone(), guard))
            .with_state(shared);
        // Connections that wait for events never end by themselves, so that there is nothing to wait for.
        let served = tokio::select! {
            served = async { axum::serve(listener, app).await } => served,
            () = end => Ok(()),
        };
        looking.abort();
        served.map_err(Error::Serve)
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, (Instant, Duration)> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to rest before the next look.
    fn rest(&self) -> Duration {
        let (ended, took) = *self.looked();
        (TICK.max(took * REST)).saturating_sub(ended.elapsed())
    }

    /// Looks for what is new, unless that was done just now.
    fn look(&self) {
        if !self.rest().is_zero() {
            return;
        }
        let clock = Instant::now();
        let mut live = self.live();
        if live.look() {
            let version = live.version();
            self.told.send_replace(version);
        }
        drop(live);
        *self.looked() = (Instant::now(), clock.elapsed());
    }
}

/// Looks while someone is connected; costs nothing otherwise.
async fn keep_looking(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.rest().max(Duration::from_millis(50))).await;
        if shared.told.receiver_count() > 0 {
            let shared = shared.clone();
            // Only a panic ends it, and the next look may do better.
            let _ = tokio::task::spawn_blocking(move || shared.look()).await;
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// What every request must pass, and every answer carries.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut response = if method != Method::GET && method != Method::HEAD {
        let mut refused = (StatusCode::METHOD_NOT_ALLOWED, "the page can only be read\n").into_response();
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    } else if !asked_by_own_name(request.headers().get(header::HOST)) {
        (StatusCode::MISDIRECTED_REQUEST, "ask for this page by 127.0.0.1 or localhost\n").into_response()
    } else {
        next.run(request).await
    };
    let fixed: [(HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, shared.policy.clone());
    response
}

/// Whether the host that was asked for is this machine, by whatever port: a forwarded one differs.
fn asked_by_own_name(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

type Answer = Result<Response, StatusCode>;

/// Does work on the run beside the requests.
async fn on_live(
    shared: Arc<Shared>,
    look: bool,
    work: impl FnOnce(&Live) -> mmhost_report::Result<Option<String>> + Send + 'static,
) -> Result<String, StatusCode> {
    let done = tokio::task::spawn_blocking(move || {
        if look {
            shared.look();
        }
        work(&shared.live())
    });
    match done.await {
        Ok(Ok(Some(text))) => Ok(text),
        Ok(Ok(None)) => Err(StatusCode::NOT_FOUND),
        Ok(Err(_)) | Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

async fn page(State(shared): State<Arc<Shared>>) -> Answer {
    let html = on_live(shared, true, |live| live.page(now_ms()).map(Some)).await?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}

async fn data(State(shared): State<Arc<Shared>>) -> Answer {
    on_live(shared, false, |live| live.data(now_ms()).map(Some)).await.map(json)
}

#[derive(Deserialize)]
struct From {
    generation: u64,
    #[serde(default)]
    from: usize,
}

async fn index(State(shared): State<Arc<Shared>>, Query(From { generation, from }): Query<From>) -> Answer {
    on_live(shared, false, move |live| live.index(generation, from)).await.map(json)
}

async fn episode(State(shared): State<Arc<Shared>>, UrlPath(number): UrlPath<usize>, Query(of): Query<From>) -> Answer {
    on_live(shared, false, move |live| live.detail(of.generation, number)).await.map(json)
}

async fn picture(State(shared): State<Arc<Shared>>, UrlPath(digest): UrlPath<String>) -> Answer {
    on_live(shared, false, move |live| live.picture(&digest)).await.map(json)
}

/// Tells the version of the run now, and whenever it changes.
async fn events(State(shared): State<Arc<Shared>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut versions = shared.told.subscribe();
    versions.mark_changed();
    let stream = futures::stream::unfold(versions, async |mut versions| {
        versions.changed().await.ok()?;
        let version = *versions.borrow_and_update();
        Some((Ok(Event::default().event("version").data(version.to_string())), versions))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let asked = |host: &str| asked_by_own_name(Some(&HeaderValue::from_str(host).unwrap()));
        for good in ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:80"] {
            assert!(asked(good), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.example:127.0.0.1", "", "10.0.0.1"] {
            assert!(!asked(bad), "{bad}");
        }
        assert!(!asked_by_own_name(None));
    }
}

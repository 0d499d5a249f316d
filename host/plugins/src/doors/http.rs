//! The door to the network: `wasi:http/outgoing-handler`, carried out under the plugin's grant, and the contract's own `http` for languages
//! whose tools cannot import that. Requests and answers are held whole, and counted, so that a guest cannot make the host hold more than its
//! limits say.

use super::CallState;
use super::log::{CallLog, Level};
use crate::PluginInfo;
use crate::bindings::imports::http as contract;
use crate::net::{Budget, NetError, Network, Request, Response};
use crate::tape::{Ask, Door, Tape};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, Result, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// The network side of one call.
pub(crate) struct HttpDoor {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    wire: Arc<Wire>,
}

/// What a request goes through.
struct Wire {
    /// `None` where the plugin has no network.
    network: Option<Arc<Network>>,
    budget: Budget,
    tape: Option<Arc<Tape>>,
    plugin: String,
    log: CallLog,
}

impl HttpDoor {
    pub fn new(network: Option<Arc<Network>>, info: &PluginInfo, log: &CallLog) -> Self {
        let budget = Budget::new(info.limits.http_requests, info.limits.http_bytes, info.account.clone());
        let wire = Wire { network, budget, tape: info.tape.clone(), plugin: info.name.clone(), log: log.clone() };
        HttpDoor { context: WasiHttpCtx::new(), hooks: Hooks { wire: Arc::new(wire) } }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.context }
    }
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>);

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        // The client sets it, from the URL that was checked.
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent>> + Send> {
        // The guest's timeouts are not needed: the call's deadline ends everything.
        let wire = self.wire.clone();
        Box::new(async move {
            let outcome = exchange(&wire, request).await;
            outcome.map_err(|error| wire.told(error, code))
        })
    }
}

impl Wire {
    /// Sends a request within the grant, or finds the answer on record.
    async fn send(&self, request: Request) -> std::result::Result<Response, NetError> {
        let Some(network) = &self.network else {
            return Err(NetError::Refused(
                "there is no network here: neither while a plugin describes itself, nor in `plugin check` and `plugin bench`, nor where its manifest asks for no hosts".into(),
            ));
        };
        match &self.tape {
            // In a box, or every call without a recording would make room for one too.
            Some(tape) => Box::pin(recorded(tape, network, &self.plugin, request, &self.budget)).await,
            None => network.send(request, &self.budget).await,
        }
    }

    /// Logs an error for whoever runs the plugin, and makes of it what the guest is told.
    fn told<E>(&self, error: NetError, told: impl Fn(&NetError) -> E) -> E {
        self.log.write(Level::Warn, &error.to_string());
        told(&error)
    }
}

impl contract::Host for CallState {
    async fn send(&mut self, request: contract::Request) -> wasmtime::Result<std::result::Result<contract::Response, contract::HttpError>> {
        let wire = self.http.hooks.wire.clone();
        let request = match plain(request) {
            Ok(request) => request,
            Err(what) => return Ok(Err(contract::HttpError::Malformed(what))),
        };
        let outcome = match wire.budget.bytes(request.body.len() as u64) {
            Ok(()) => wire.send(request).await,
            Err(error) => Err(error),
        };
        Ok(outcome.map(answered).map_err(|error| wire.told(error, refusal)))
    }
}

/// A request of the contract's own interface.
fn plain(request: contract::Request) -> std::result::Result<Request, String> {
    let contract::Request { method, url, headers, body } = request;
    let method = http::Method::from_bytes(method.as_bytes()).map_err(|_| format!("the method `{method}` is malformed"))?;
    let mut map = http::HeaderMap::new();
    for contract::Header { name, value } in headers {
        let malformed = || format!("the header `{name}` is malformed");
        let key = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        // As `wasi:http` has it: they are about the connection and the framing, which are the client's.
        if DEFAULT_FORBIDDEN_HEADERS.contains(&key) || key == http::header::CONTENT_LENGTH {
            return Err(format!("the header `{name}` is the host's to set; leave it out"));
        }
        map.append(key, http::HeaderValue::from_str(&value).map_err(|_| malformed())?);
    }
    let repeatable = is_repeatable(&method);
    Ok(Request { method, url, headers: map, body: body.into(), repeatable })
}

fn answered(response: Response) -> contract::Response {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    contract::Response {
        status: response.status.as_u16(),
        headers: response.headers.iter().map(|(name, value)| contract::Header { name: name.to_string(), value: text(value) }).collect(),
        body: response.body.into(),
    }
}

/// What a guest is told: of the policy only that it said no.
fn refusal(error: &NetError) -> contract::HttpError {
    match error {
        NetError::Refused(_) | NetError::Address(_) => contract::HttpError::NotGranted,
        NetError::TooMany { .. } | NetError::TooLong { .. } => contract::HttpError::OverLimit(error.to_string()),
        NetError::Unreachable(message) | NetError::Transport(message) => contract::HttpError::Failed(message.clone()),
    }
}

/// Whether a request only reads.
fn is_repeatable(method: &http::Method) -> bool {
    matches!(*method, http::Method::GET | http::Method::HEAD)
}

async fn exchange(wire: &Wire, request: http::Request<WasiBody>) -> std::result::Result<Sent, NetError> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NetError::Transport(format!("the request's body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            wire.budget.bytes(data.len() as u64)?;
            bytes.extend_from_slice(&data);
        }
    }
    let repeatable = is_repeatable(&parts.method);
    let request = Request { method: parts.method, url: parts.uri.to_string(), headers: parts.headers, body: bytes.into(), repeatable };
    let answer = wire.send(request).await?;
    let body = Full::<Bytes>::new(answer.body).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok((response, Box::new(async { Ok(()) })))
}

/// An exchange as it is recorded. What the policy refused is on record too: a replay refuses it again.
#[derive(Serialize, Deserialize)]
struct Exchange {
    answer: std::result::Result<Answer, NetError>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    #[serde(rename = "base64", with = "crate::types::in_base64")]
    body: Arc<[u8]>,
}

/// The answer on record, or from the network. The request is known by what the guest wrote, so that no secret is on record.
async fn recorded(
    tape: &Tape,
    network: &Network,
    plugin: &str,
    request: Request,
    budget: &Budget,
) -> std::result::Result<Response, NetError> {
    let Request { method, url, headers, body, repeatable: _ } = &request;
    let asked = format!("{method} {url}");
    let mut parts: Vec<&[u8]> = vec![method.as_str().as_bytes(), url.as_bytes(), body];
    for (name, value) in headers {
        parts.extend([name.as_str().as_bytes(), value.as_bytes()]);
    }
    let ask = Ask::new(Door::Http, plugin, asked, &parts);
    let live = async {
        let answer = |response: Response| Answer {
            status: response.status.as_u16(),
            headers: response.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
            body: response.body.as_ref().into(),
        };
        Exchange { answer: network.send(request.clone(), budget).await.map(answer) }
    };
    let failed = |exchange: &Exchange| exchange.answer.as_ref().map_or(true, |answer| answer.status >= 400);
    let Exchange { answer } = tape.answer(ask, failed, live).await.map_err(NetError::Transport)?;
    let Answer { status, headers, body } = answer?;
    let damaged = |what: &dyn std::fmt::Display| NetError::Transport(format!("the answer on record is damaged: {what}"));
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|error| damaged(&error))?;
        map.append(name, http::HeaderValue::from_bytes(&value).map_err(|error| damaged(&error))?);
    }
    let status = http::StatusCode::from_u16(status).map_err(|error| damaged(&error))?;
    Ok(Response { status, headers: map, body: Bytes::from_owner(body) })
}

/// The code of the contract that the guest is told.
fn code(error: &NetError) -> Error {
    match error {
        NetError::Refused(_) => Error::HttpRequestDenied,
        NetError::Address(_) => Error::DestinationIpProhibited,
        NetError::TooMany { .. } => Error::ConnectionLimitReached,
        NetError::TooLong { limit } => Error::HttpResponseBodySize(Some(*limit)),
        NetError::Unreachable(message) | NetError::Transport(message) => Error::InternalError(Some(message.clone())),
    }
}

//! The door to the network: `wasi:http/outgoing-handler`, carried out under the plugin's grant. Requests and answers are held whole, and
//! counted, so that a guest cannot make the host hold more than its limits say.

use super::CallState;
use super::log::{CallLog, Level};
use crate::PluginInfo;
use crate::net::{Budget, NetError, Network, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// The network side of one call.
pub(crate) struct HttpDoor {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    /// `None` where the plugin has no network.
    network: Option<Arc<Network>>,
    budget: Arc<Budget>,
    log: CallLog,
}

impl HttpDoor {
    pub fn new(network: Option<Arc<Network>>, info: &PluginInfo, log: &CallLog) -> Self {
        let budget = Arc::new(Budget::new(info.limits.http_requests, info.limits.http_bytes, info.account.clone()));
        HttpDoor { context: WasiHttpCtx::new(), hooks: Hooks { network, budget, log: log.clone() } }
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
        let (network, budget, log) = (self.network.clone(), self.budget.clone(), self.log.clone());
        Box::new(async move {
            let outcome = match network {
                Some(network) => exchange(&network, request, &budget).await,
                None => Err(NetError::Refused(
                    "there is no network here: neither while a plugin describes itself, nor in `plugin check` and `plugin bench`, nor where its manifest asks for no hosts".into(),
                )),
            };
            outcome.map_err(|error| {
                log.write(Level::Warn, &error.to_string());
                code(&error)
            })
        })
    }
}

async fn exchange(network: &Network, request: http::Request<WasiBody>, budget: &Budget) -> std::result::Result<Sent, NetError> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NetError::Transport(format!("the request's body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            budget.bytes(data.len() as u64)?;
            bytes.extend_from_slice(&data);
        }
    }
    let request = Request { method: parts.method, url: parts.uri.to_string(), headers: parts.headers, body: bytes.into() };
    let answer = network.send(request, budget).await?;
    let body = Full::<Bytes>::new(answer.body).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok((response, Box::new(async { Ok(()) })))
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

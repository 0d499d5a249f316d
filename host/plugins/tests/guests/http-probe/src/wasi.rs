//! Requests by `wasi:http`, as components of other toolchains send them.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

use wasip2::http::types::ErrorCode;

/// A server's answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status, e.g. 200.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum HttpError {
    /// It is no `http://` or `https://` URL, or a header or method is malformed.
    Malformed(String),
    /// The host refused, or the server failed. The host's log says why.
    Failed(ErrorCode),
    /// The connection broke while the answer was read.
    Broken,
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HttpError::Malformed(what) => write!(f, "{what}"),
            HttpError::Failed(ErrorCode::HttpRequestDenied) => f.write_str("the request is not granted"),
            HttpError::Failed(ErrorCode::DestinationIpProhibited) => f.write_str("the address is not granted"),
            HttpError::Failed(ErrorCode::InternalError(Some(what))) => f.write_str(what),
            HttpError::Failed(code) => write!(f, "{code:?}"),
            HttpError::Broken => f.write_str("the connection broke"),
        }
    }
}

/// Sends a request and waits for the answer, whatever its status.
///
/// # Errors
/// When there is no answer.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, HttpError> {
    let malformed = |what: &str| HttpError::Malformed(format!("{what} is malformed"));
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|_| malformed(&format!("the header {name}")))?;
    }
    let request = OutgoingRequest::new(fields);
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => return Err(malformed("the URL")),
    };
    // A fragment stays here.
    let rest = rest.split('#').next().unwrap_or_default();
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    request.set_method(&named(method)).map_err(|()| malformed("the method"))?;
    request.set_scheme(Some(&scheme)).map_err(|()| malformed("the URL"))?;
    request.set_authority(Some(authority)).map_err(|()| malformed("the URL"))?;
    request.set_path_with_query(Some(&path)).map_err(|()| malformed("the URL"))?;
    let outgoing = request.body().map_err(|()| HttpError::Broken)?;
    let response = handle(request, None).map_err(HttpError::Failed)?;
    if !body.is_empty() {
        let stream = outgoing.write().map_err(|()| HttpError::Broken)?;
        for chunk in body.chunks(4096) {
            stream.blocking_write_and_flush(chunk).map_err(|_| HttpError::Broken)?;
        }
    }
    OutgoingBody::finish(outgoing, None).map_err(HttpError::Failed)?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(code))) => Err(HttpError::Failed(code)),
        _ => Err(HttpError::Broken),
    }
}

fn named(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    }
}

fn read(response: &IncomingResponse) -> Result<Response, HttpError> {
    let headers = response.headers().entries();
    let incoming = response.consume().map_err(|()| HttpError::Broken)?;
    let mut body = Vec::new();
    {
        let stream = incoming.stream().map_err(|()| HttpError::Broken)?;
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(chunk) => body.extend_from_slice(&chunk),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return Err(HttpError::Broken),
            }
        }
    }
    drop(IncomingBody::finish(incoming));
    Ok(Response { status: response.status(), headers, body })
}

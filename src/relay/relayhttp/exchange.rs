//! One request to a destination. The request is parsed strictly and written anew; its answer is embedded as it arrives.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHORIZATION, TE,
};
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::{Body as _, Frame};
use http_body_util::{BodyDataStream, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::destination::HostAndPort;
use super::{NotRelayed, refused};
use crate::defaults;
use crate::domain::RefusalKind;
use crate::http1::embedded::{
    BadMessage, EmbeddedRequest, Framing, MESSAGE_HTTP, ReadError, Reader, parse_request, response_head,
};
use crate::message::authority::{self, Unclear};
use crate::message::page::protect;
use crate::message::{Body, Request, Response, hop};
use crate::net::Scope;
use crate::net::dial::{DialTarget, connect_any};
use crate::relay::connection_limit::ConnectionPermit;
use crate::relay::respond::VisitorFailure;

/// Reads the request in an envelope and makes it ready for `destination`. A `Host` must be that of the destination, and
/// fields for a single hop are removed.
pub(super) async fn embedded(envelope: Body, destination: &HostAndPort) -> Result<Request, NotRelayed> {
    let read = async {
        let mut reader = Reader::new(envelope);
        let head = reader.head(parse_request).await?;
        let (body, _trailers) = reader.whole(head.framing, defaults::RELAY_HTTP_REQUEST).await?;
        Ok((head, body))
    };
    let read = tokio::time::timeout(defaults::HEAD, read).await;
    let read = read.map_err(|_| refused(RefusalKind::Malformed, "the message did not arrive in time"))?;
    let (head, body) = read.map_err(|error: ReadError| {
        let kind = match error {
            ReadError::TooLarge(_) => RefusalKind::TooLarge,
            _ => RefusalKind::Malformed,
        };
        refused(kind, format!("the message is not a valid request: {error}"))
    })?;
    if matches!(head.framing, Framing::Rest(Some(declared)) if declared != body.len() as u64) {
        return Err(refused(RefusalKind::Malformed, BadMessage::Length.to_string()));
    }
    outgoing(head, body, destination)
}

fn outgoing(head: EmbeddedRequest, body: Bytes, destination: &HostAndPort) -> Result<Request, NotRelayed> {
    let EmbeddedRequest { method, target, mut headers, .. } = head;
    let plain = target.scheme_str().is_none_or(|scheme| scheme.eq_ignore_ascii_case("http"));
    let same = match authority::effective(Version::HTTP_11, &target, &headers) {
        Ok(authority) => HostAndPort::parse(authority.as_str()).is_ok_and(|parsed| parsed == *destination),
        Err(Unclear::Missing) => true,
        Err(_) => false,
    };
    if !(plain && same) || method == Method::CONNECT {
        return Err(refused(RefusalKind::Malformed, "the request in the message is for another destination"));
    }
    for name in [EXPECT, PROXY_AUTHORIZATION, TE] {
        headers.remove(name);
    }
    let host = HeaderValue::try_from(destination.to_string());
    let host = host.map_err(|e| refused(RefusalKind::Malformed, e.to_string()))?;
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Body::full(body));
    *request.method_mut() = method;
    *request.uri_mut() = authority::origin_form(&target);
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends a request to the first of `addresses` that accepts the connection, and embeds the answer. Redirects are
/// embedded too, because the client decides whether to follow them. The connection permit is held until the
/// connection ends.
pub(super) async fn send(
    addresses: Vec<SocketAddr>,
    destination: &HostAndPort,
    request: Request,
    (scope, connection_permit): (&Scope, ConnectionPermit),
) -> Result<Response, NotRelayed> {
    let head_only = request.method() == Method::HEAD;
    let target = DialTarget {
        host: destination.host.as_str().trim_matches(['[', ']']).into(),
        port: destination.port,
        tls: false,
    };
    let connecting = tokio::time::timeout(defaults::CONNECT, connect_any(addresses, &target)).await;
    let stream = connecting.map_err(|_| VisitorFailure::Late)?.map_err(|_| VisitorFailure::Unreachable)?;
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| VisitorFailure::Unreachable)?;
    scope.spawn(async move {
        // After this time the connection is cut, which the reader of the answer detects. The connection permit is then
        // free, however slowly the rest of the answer is read.
        let _connection_permit = connection_permit;
        let _ = tokio::time::timeout(defaults::RELAY_HTTP_TIME, connection).await;
    });
    let answered = tokio::time::timeout(defaults::RELAY_HTTP_TIME, sender.send_request(request)).await;
    let response = answered.map_err(|_| VisitorFailure::Late)?.map_err(|_| VisitorFailure::Unreachable)?;
    match response.status() {
        // The relay requested no other protocol.
        StatusCode::SWITCHING_PROTOCOLS => Err(VisitorFailure::Unreachable.into()),
        _ => Ok(envelope(response, head_only)),
    }
}

fn envelope(response: http::Response<Incoming>, head_only: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    hop::strip(&mut parts.headers);
    let bodiless = head_only || parts.status == StatusCode::NOT_MODIFIED;
    let declared = || parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let length = if bodiless { Some(0) } else { body.size_hint().exact() };
    // An answer without a body may still have a `Content-Length`.
    let framing = Framing::Rest(if bodiless { declared() } else { length });
    let head = response_head((parts.status, None), &parts.headers, framing);
    let total = length.map(|length| length + head.len() as u64);
    let rest = BodyDataStream::new(Limited::new(body, defaults::RELAY_HTTP_ANSWER));
    let message = stream::iter([Ok(head)]).chain(rest).map(|part| part.map(Frame::data));
    let mut response = Response::new(Body::wrap(StreamBody::new(message)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(total) = total {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(total));
    }
    protect(headers);
    response
}

//! One form for every Upgrade. Within this crate an Upgrade always has the form of HTTP/1.1 (RFC 9110 §7.8). On HTTP/2
//! it is sent as an extended CONNECT (RFC 8441): for WebSocket as that RFC defines, for other tokens in the same way.

use std::any::Any;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use parking_lot::Mutex;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::{BoxError, fields, hop};

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The stream to the far end after an Upgrade, in the extensions of a message.
#[derive(Clone)]
pub struct Tunnel {
    stream: Arc<Mutex<Option<TunnelStream>>>,
    /// The stream is a whole connection.
    connection: bool,
}

enum TunnelStream {
    Ready(Box<dyn ByteStream>),
    Later(oneshot::Receiver<Box<dyn ByteStream>>),
}

/// A stream that opens when the answer to its Upgrade is sent.
pub type Opening = BoxFuture<'static, Result<Box<dyn ByteStream>, BoxError>>;

impl Tunnel {
    /// A stream that is open already.
    pub fn ready(stream: impl ByteStream + 'static) -> Self {
        Self::of(TunnelStream::Ready(Box::new(stream)), false)
    }

    /// A stream that opens later, or never.
    pub fn later() -> (oneshot::Sender<Box<dyn ByteStream>>, Self) {
        let (opener, stream) = oneshot::channel();
        (opener, Self::of(TunnelStream::Later(stream), false))
    }

    /// As [`Tunnel::later`], for a stream that is a whole connection: client and server can swap roles on it.
    pub fn connection() -> (oneshot::Sender<Box<dyn ByteStream>>, Self) {
        let (opener, stream) = oneshot::channel();
        (opener, Self::of(TunnelStream::Later(stream), true))
    }

    fn of(stream: TunnelStream, connection: bool) -> Self {
        Self { stream: Arc::new(Mutex::new(Some(stream))), connection }
    }

    /// Whether the stream is a whole connection.
    pub fn is_connection(&self) -> bool {
        self.connection
    }

    /// Takes the stream of a message. `None` when there is none.
    pub fn take(extensions: &mut Extensions) -> Option<Opening> {
        let stream = extensions.remove::<Self>()?.stream.lock().take()?;
        Some(match stream {
            TunnelStream::Ready(stream) => Box::pin(std::future::ready(Ok(stream))),
            TunnelStream::Later(stream) => Box::pin(async move { Ok(stream.await?) }),
        })
    }
}

/// Anything that can be read and written.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The stream as its concrete type, which is needed for a connection whose ends swap roles.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The values that the sender of a translated request needs to translate the answer back.
#[derive(Debug, Clone)]
pub struct Sent {
    token: HeaderValue,
    key: Option<HeaderValue>,
}

/// Turns an Upgrade request into an extended CONNECT. Returns `None` and leaves the request untouched when the request
/// has no Upgrade or its token cannot be a `:protocol`.
pub fn to_connect<B>(request: &mut Request<B>) -> Option<Sent> {
    let token = request.headers().get(UPGRADE)?.clone();
    let protocol = token.to_str().ok()?.to_owned();
    let _ = hop::strip(request.headers_mut());
    let key = request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    request.headers_mut().remove(CONTENT_LENGTH);
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from(protocol.as_str()));
    Some(Sent { token, key })
}

/// Turns the answer to an extended CONNECT into the answer to an Upgrade.
pub fn from_connected<B>(response: &mut Response<B>, sent: Sent) {
    if let Some(status) = response.headers_mut().remove(fields::PTTH_STATUS) {
        *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap_or(response.status());
        return;
    }
    if !response.status().is_success() {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    if let Some(accept) = sent.key.as_ref().and_then(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    hop::set_upgrade(headers, sent.token);
}

/// Turns a received extended CONNECT into an Upgrade request; a WebSocket gets a fresh key. Returns `false` and leaves
/// the request untouched when it is no extended CONNECT.
pub fn from_connect<B>(request: &mut Request<B>) -> bool {
    if request.method() != Method::CONNECT {
        return false;
    }
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return false };
    let Ok(token) = HeaderValue::try_from(protocol.as_str()) else { return false };
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    hop::set_upgrade(headers, token);
    // RFC 9112 §3.2: a request of HTTP/1.1 has `Host`.
    if let Some(host) = host.filter(|_| !headers.contains_key(HOST)) {
        headers.insert(HOST, host);
    }
    if websocket && let Ok(key) = HeaderValue::try_from(STANDARD.encode(rand::random::<[u8; 16]>())) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    true
}

/// Turns the answer to an Upgrade into the answer to the extended CONNECT that the Upgrade arrived as. A server that
/// ignores an Upgrade may answer with a success (RFC 9110 §7.8), which here would mean acceptance. Such an answer is
/// sent as a 501 that has the real status in `PTTH-Status`.
pub fn to_connected<B>(response: &mut Response<B>) {
    if response.status().is_success() {
        let status = HeaderValue::from(response.status().as_u16());
        response.headers_mut().insert(fields::PTTH_STATUS, status);
        *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    } else if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        let _ = hop::strip(response.headers_mut());
        response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(WEBSOCKET_GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

/// With more cookie crumbs than this, the map of the fields is made anew, because it keeps the room of the crumbs.
const CRUMBS: usize = 64;

/// Joins the cookie crumbs of HTTP/2 into one field (RFC 9113 §8.2.3). Each crumb takes as much memory as a field.
pub fn join_cookies(headers: &mut HeaderMap) {
    const COOKIE: HeaderName = http::header::COOKIE;
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_some() && crumbs.next().is_some() {
        let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let many = all.len() > CRUMBS;
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
        if many {
            let fields = std::mem::take(headers);
            headers.extend(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket() -> Request<()> {
        Request::get("https://a.test/chat")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v1")
            .body(())
            .unwrap()
    }

    #[test]
    fn a_websocket_over_h2_gets_the_accept_value_of_its_own_key() {
        let mut request = websocket();
        let sent = to_connect(&mut request).unwrap();
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.headers().len(), 1, "{:?}", request.headers());

        assert!(from_connect(&mut request));
        assert!(hop::requests_upgrade(request.headers(), "websocket"));
        assert_ne!(request.headers()["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");

        let mut response = Response::builder().status(101).header("upgrade", "websocket").body(()).unwrap();
        to_connected(&mut response);
        assert_eq!((response.status(), response.headers().len()), (StatusCode::OK, 0));
        from_connected(&mut response, sent);
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // The example of RFC 6455 §1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_refused_upgrade_keeps_its_status() {
        let mut request = websocket();
        let sent = to_connect(&mut request).unwrap();
        let mut response = Response::builder().status(403).body(()).unwrap();
        from_connected(&mut response, sent);
        assert_eq!((response.status().as_u16(), response.headers().len()), (403, 0));
    }

    #[test]
    fn an_ignored_upgrade_keeps_its_success_status() {
        let sent = to_connect(&mut websocket()).unwrap();
        let mut response = Response::builder().status(203).body(()).unwrap();
        to_connected(&mut response);
        assert_eq!(response.status(), 501);
        from_connected(&mut response, sent);
        assert_eq!((response.status().as_u16(), response.headers().len()), (203, 0));
    }

    #[test]
    fn split_cookie_fields_are_joined() {
        let mut request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        join_cookies(request.headers_mut());
        assert_eq!(request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}

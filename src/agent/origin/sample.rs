//! The sample origin of `ptth demo`, with a resource for every feature that a relay could break.

use std::fmt::Write as _;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRAILER,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::message::body::{FrameSource, PolledFrame};
use crate::message::page::{HTML, escape, page, protect, wants_html};
use crate::message::upgrade::{self, Opening, Tunnel};
use crate::message::{Body, BoxError, Request, Response, hop};
use crate::net::Scope;
use crate::session::{Handler, handler_fn};

/// Seconds after which an event stream ends by itself.
const EVENTS: u64 = 3_600;
/// Bytes of a download without `bytes` in its query.
const DOWNLOAD: u64 = 1 << 20;
/// Bytes of the largest download.
const DOWNLOAD_MOST: u64 = 1 << 30;
/// Bytes of the largest WebSocket message that is echoed.
const MESSAGE_MOST: usize = 16 << 20;

const LINKS: &str = "<ul>\n<li><a href=\"/events\">/events</a>: server-sent events, one a second\n\
    <li><a href=\"/download?bytes=1048576\">/download?bytes=1048576</a>: a body of this length\n\
    <li>/echo: returns the body of the request\n<li>/ws: a WebSocket that returns each message\n</ul>";

/// The sample: `/` shows the request as it arrived, `/echo` returns its body, `/ws` is a WebSocket echo, `/events` a
/// stream of events, `/download?bytes=N` a body of N bytes. WebSockets are tasks of `scope`.
pub fn sample(scope: Scope) -> impl Handler {
    handler_fn(move |request| {
        let scope = scope.clone();
        async move { answer(request, &scope) }
    })
}

fn answer(request: Request, scope: &Scope) -> Response {
    match request.uri().path() {
        "/" => front_page(&request),
        "/echo" => echo(request),
        "/ws" => socket(request, scope),
        "/events" => events(scope),
        "/download" => download(request.uri().query().unwrap_or_default()),
        _ => text(StatusCode::NOT_FOUND, "The sample has no such page. Try / first.\n"),
    }
}

fn answer_with(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    answer_with(status, "text/plain; charset=utf-8", Body::full(text))
}

fn front_page(request: &Request) -> Response {
    let head = request_head(request);
    let mut response = match wants_html(request.headers()) {
        false => text(StatusCode::OK, head),
        true => {
            let body =
                format!("<p>Your request, as it arrived here:</p>\n<pre>{}</pre>\n{LINKS}", escape(&head));
            let html = page("The sample origin of ptth", &body);
            answer_with(StatusCode::OK, HTML, Body::full(html))
        }
    };
    protect(response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The head of a request of any version, in the form of HTTP/1.1.
fn request_head(request: &Request) -> String {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut out = format!("{} {target} HTTP/1.1\n", request.method());
    if let Some(authority) = request.uri().authority() {
        let _ = writeln!(out, "host: {authority}");
    }
    for (name, value) in request.headers() {
        if name != HOST || request.uri().authority().is_none() {
            let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    out
}

fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    for name in [CONTENT_TYPE, TRAILER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn events(scope: &Scope) -> Response {
    let ticks = stream::unfold((0, scope.clone()), |(count, scope)| async move {
        if count > 0 {
            tokio::select! {
                biased;
                () = scope.stopping() => return None,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        let event = Bytes::from(format!("id: {count}\ndata: {count} s\n\n"));
        (count < EVENTS).then_some((Ok::<_, BoxError>(Frame::data(event)), (count + 1, scope)))
    });
    let mut response = answer_with(StatusCode::OK, "text/event-stream", Body::wrap(StreamBody::new(ticks)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn download(query: &str) -> Response {
    let requested = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bytes");
    let bytes = requested.map_or(Ok(DOWNLOAD), |(_, number)| number.parse());
    match bytes {
        Ok(remaining) if remaining <= DOWNLOAD_MOST => {
            answer_with(StatusCode::OK, "application/octet-stream", Body::from_source(Zeros { remaining }))
        }
        _ => text(StatusCode::BAD_REQUEST, format!("bytes is a number from 0 to {DOWNLOAD_MOST}.\n")),
    }
}

/// A body of zeros, all sent from one static chunk. `remaining` is the number of zeros still to send.
struct Zeros {
    remaining: u64,
}

impl FrameSource for Zeros {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> PolledFrame {
        static CHUNK: [u8; 64 << 10] = [0; 64 << 10];
        let take = CHUNK.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= take as u64;
        Poll::Ready((take > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..take])))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn length(&self) -> Option<u64> {
        Some(self.remaining)
    }
}

/// The handshake of RFC 6455 §4.2.
fn socket(mut request: Request, scope: &Scope) -> Response {
    let stream = Tunnel::take(request.extensions_mut());
    let Some(stream) = stream.filter(|_| hop::requests_upgrade(request.headers(), "websocket")) else {
        return text(StatusCode::UPGRADE_REQUIRED, "This page is a WebSocket; send an Upgrade.\n");
    };
    let Some(accept) = accept_value(request.headers()) else {
        let mut response = text(StatusCode::BAD_REQUEST, "A WebSocket needs version 13 and a valid key.\n");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    scope.spawn(echo_messages(stream, scope.clone()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    hop::set_upgrade(response.headers_mut(), HeaderValue::from_static("websocket"));
    response
}

fn accept_value(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(SEC_WEBSOCKET_VERSION).filter(|version| *version == "13")?;
    upgrade::accept(headers.get(SEC_WEBSOCKET_KEY)?)
}

async fn echo_messages(stream: Opening, scope: Scope) {
    let Ok(stream) = stream.await else { return };
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MOST));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    loop {
        let message = tokio::select! {
            biased;
            () = scope.stopping() => break,
            message = socket.next() => message,
        };
        // Pings and closes are answered by the library.
        let echoed = match message {
            Some(Ok(message)) if message.is_text() || message.is_binary() => socket.send(message).await,
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => return,
        };
        if echoed.is_err() {
            return;
        }
    }
    let _ = socket.close(None).await;
}

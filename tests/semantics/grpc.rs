//! gRPC, frame by frame: the visitor and the origin both speak HTTP/2.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use ptth::internals::net::Scope;
use tokio::sync::mpsc;

use crate::exchange::{exchange, head};
use crate::support::within;
use crate::visitor::{Answering, Http2, Reading, request};
use crate::world::{On, World};

/// An origin's end of the connection that calls come on.
struct Server {
    calls: mpsc::Receiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    scope: Scope,
}

impl Server {
    async fn accept(world: &World) -> Self {
        let io = world.origin.accept().await.into_io();
        let mut connection = within("a handshake", h2::server::handshake(io)).await.unwrap();
        let (sender, calls) = mpsc::channel(1);
        let scope = Scope::new();
        scope.spawn(async move {
            while let Some(Ok(call)) = connection.accept().await {
                if sender.send(call).await.is_err() {
                    return;
                }
            }
        });
        Self { calls, scope }
    }

    async fn call(&mut self) -> Call {
        let (request, respond) = within("a call", self.calls.recv()).await.unwrap();
        let (head, body) = request.into_parts();
        Call { head: Request::from_parts(head, ()), body: Reading(body), respond }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

/// One call, at the origin.
struct Call {
    head: Request<()>,
    body: Reading,
    respond: SendResponse<Bytes>,
}

impl Call {
    /// The head of an answer, with messages behind it.
    fn answer(&mut self) -> SendStream<Bytes> {
        let head = Response::builder().header("content-type", "application/grpc+proto").body(()).unwrap();
        self.respond.send_response(head, false).unwrap()
    }
}

/// The visitor's end of a call.
struct Calling {
    _visitor: Http2,
    server: Server,
    answering: Answering,
    messages: SendStream<Bytes>,
}

/// A call with one message and no more.
async fn call_with_one_message(world: &World, method: &str) -> (Calling, Call) {
    let (calling, mut call) = begin(world, method, true).await;
    assert_eq!(call.body.next().await, message("question"));
    assert_eq!(call.body.next().await, "");
    (calling, call)
}

/// A call whose messages are still to come.
async fn open_call(world: &World, method: &str) -> (Calling, Call) {
    begin(world, method, false).await
}

async fn begin(world: &World, method: &str, sends_message: bool) -> (Calling, Call) {
    let mut visitor = Http2::open(world).await;
    let asked = request("POST", &format!("/test.Test/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .header("grpc-accept-encoding", "identity,gzip")
        .header("x-mine-bin", "AAEC/w");
    let (answering, mut messages) = visitor.begin(asked.body(()).unwrap(), false).await;
    if sends_message {
        messages.send_data(message("question"), true).unwrap();
    }
    let mut server = Server::accept(world).await;
    let call = server.call().await;
    (Calling { _visitor: visitor, server, answering, messages }, call)
}

/// A message with the five bytes before it.
fn message(text: &str) -> Bytes {
    [&[0, 0, 0, 0, text.len() as u8], text.as_bytes()].concat().into()
}

fn status(code: &str) -> HeaderMap {
    let fields = [("grpc-status", code), ("grpc-message", "gr%C3%B6%C3%9Fe")];
    fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

pub(crate) async fn unary(on: On) {
    let world = on.world_of_http2().await;
    let (calling, mut call) = call_with_one_message(&world, "Unary").await;
    assert_eq!((call.head.method().as_str(), call.head.uri().path()), ("POST", "/test.Test/Unary"));
    for (name, value) in [
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
        ("grpc-timeout", "5S"),
        ("grpc-accept-encoding", "identity,gzip"),
        ("x-mine-bin", "AAEC/w"),
    ] {
        assert_eq!(call.head.headers().get(name).map(|value| value.to_str().unwrap()), Some(value), "{name}");
    }
    let mut answer = call.answer();
    answer.send_data(message("answer"), false).unwrap();
    answer.send_trailers(status("0")).unwrap();
    let whole = calling.answering.whole().await.unwrap();
    assert_eq!((whole.head.status().as_u16(), whole.body), (200, message("answer")));
    assert_eq!(whole.head.headers()["content-type"], "application/grpc+proto");
    assert_eq!(whole.trailers, Some(status("0")));
}

pub(crate) async fn trailing_metadata(on: On) {
    let world = on.world_of_http2().await;
    let (calling, mut call) = call_with_one_message(&world, "Unary").await;
    let mut answer = call.answer();
    answer.send_data(message("answer"), false).unwrap();
    let mut all = status("0");
    all.append("x-theirs-bin", "AAEC/w".parse().unwrap());
    all.append("x-theirs-bin", "AAE".parse().unwrap());
    answer.send_trailers(all.clone()).unwrap();
    assert_eq!(calling.answering.whole().await.unwrap().trailers, Some(all));
}

pub(crate) async fn head_before_messages(on: On) {
    let world = on.world_of_http2().await;
    let (calling, mut call) = call_with_one_message(&world, "Down").await;
    let mut answer = call.answer();
    let mut reading = calling.answering.reading().await;
    answer.send_data(message("one"), false).unwrap();
    assert_eq!(reading.next().await, message("one"));
}

pub(crate) async fn a_status_without_messages(on: On) {
    let world = on.world_of_http2().await;
    let (calling, mut call) = call_with_one_message(&world, "Fail").await;
    let mut head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    head.headers_mut().extend(status("5"));
    call.respond.send_response(head, true).unwrap();
    let whole = calling.answering.whole().await.unwrap();
    assert_eq!((whole.head.status().as_u16(), whole.body), (200, Bytes::new()));
    // As a client reads it: in the head of an answer that has nothing else, or behind it.
    let said = whole.trailers.unwrap_or_else(|| whole.head.headers().clone());
    for (name, value) in &status("5") {
        assert_eq!(said.get(name), Some(value));
    }
}

pub(crate) async fn server_streaming(on: On) {
    let world = on.world_of_http2().await;
    let (calling, mut call) = call_with_one_message(&world, "Down").await;
    let mut answer = call.answer();
    answer.send_data(message("one"), false).unwrap();
    let mut reading = calling.answering.reading().await;
    assert_eq!(reading.next().await, message("one"));
    for part in ["two", "three"] {
        answer.send_data(message(part), false).unwrap();
        assert_eq!(reading.next().await, message(part));
    }
    answer.send_trailers(status("0")).unwrap();
    assert_eq!(reading.trailers().await, Some(status("0")));
}

pub(crate) async fn client_streaming(on: On) {
    let world = on.world_of_http2().await;
    let (mut calling, mut call) = open_call(&world, "Up").await;
    for part in ["one", "two", "three"] {
        calling.messages.send_data(message(part), false).unwrap();
        assert_eq!(call.body.next().await, message(part));
    }
    calling.messages.send_data(Bytes::new(), true).unwrap();
    assert_eq!(call.body.next().await, "");
    let mut answer = call.answer();
    answer.send_data(message("three of them"), false).unwrap();
    answer.send_trailers(status("0")).unwrap();
    let whole = calling.answering.whole().await.unwrap();
    assert_eq!((whole.body, whole.trailers), (message("three of them"), Some(status("0"))));
}

pub(crate) async fn bidirectional_streaming(on: On) {
    let world = on.world_of_http2().await;
    let (mut calling, mut call) = open_call(&world, "Both").await;
    calling.messages.send_data(message("zero"), false).unwrap();
    assert_eq!(call.body.next().await, message("zero"));
    let mut answer = call.answer();
    answer.send_data(message("zero"), false).unwrap();
    let mut reading = calling.answering.reading().await;
    assert_eq!(reading.next().await, message("zero"));
    for part in ["one", "two", "three"] {
        calling.messages.send_data(message(part), false).unwrap();
        assert_eq!(call.body.next().await, message(part));
        answer.send_data(message(part), false).unwrap();
        assert_eq!(reading.next().await, message(part));
    }
    // The status does not wait for the end of the messages.
    answer.send_trailers(status("10")).unwrap();
    assert_eq!(reading.trailers().await, Some(status("10")));
}

/// What a client does whose deadline has passed, too.
pub(crate) async fn cancel(on: On) {
    let world = on.world_of_http2().await;
    let (mut calling, mut call) = open_call(&world, "Hang").await;
    let mut answer = call.answer();
    answer.send_data(message("begun"), false).unwrap();
    let mut reading = calling.answering.reading().await;
    assert_eq!(reading.next().await, message("begun"));
    calling.messages.send_reset(Reason::CANCEL);
    let reset = within("a reset", std::future::poll_fn(|cx| answer.poll_reset(cx))).await;
    // Or its whole connection goes, where it was there for this call alone.
    assert!(!matches!(reset, Ok(reason) if reason != Reason::CANCEL), "{reset:?}");
    drop(calling.server);
}

/// gRPC-Web has its trailers in the body, so a call needs no trailer fields.
pub(crate) async fn grpc_web(on: On) {
    let world = on.world().await;
    let fields = "Content-Type: application/grpc-web+proto\r\nX-Grpc-Web: 1\r\nContent-Length: 7\r\n";
    let call = b"\0\0\0\0\x02hi";
    let message = b"\0\0\0\0\x02ok\x80\0\0\0\x0fgrpc-status:0\r\n";
    let answer = [
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: {}\r\n\r\n",
            message.len()
        )
        .as_bytes(),
        message,
    ]
    .concat();
    let request = [head("POST", "/service/Method", fields).as_bytes(), call].concat();
    let ((got, sent), (answered, received)) = exchange(&world, request, answer).await;
    assert_eq!((got.get("content-type"), &sent[..]), (Some("application/grpc-web+proto"), &call[..]));
    assert_eq!(answered.get("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(&received[..], &message[..]);
}

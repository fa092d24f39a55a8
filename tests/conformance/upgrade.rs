//! Upgrades that cross the tunnel.

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use ptth::internals::message::Body;
use ptth::internals::net::io::Duplex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::answers::next_request_passes;
use crate::support::{named, within};
use crate::world::{NAME, On, World};

type Socket = WebSocketStream<Box<dyn Duplex>>;

pub(crate) async fn exchange_messages(mut visitor: Socket, mut origin: Socket) {
    let large = Message::binary(vec![7_u8; 1 << 20]);
    for message in [Message::text("hello"), Message::binary(vec![0, 255]), large] {
        within("sending", visitor.send(message.clone())).await.unwrap();
        assert_eq!(within("a message at the origin", origin.next()).await.unwrap().unwrap(), message);
        within("sending", origin.send(message.clone())).await.unwrap();
        assert_eq!(within("a message at the visitor", visitor.next()).await.unwrap().unwrap(), message);
    }
    within("closing", visitor.close(None)).await.unwrap();
    assert!(within("a close", origin.next()).await.unwrap().unwrap().is_close());
    // The origin's end answers by itself while it is read.
    assert!(within("the end", origin.next()).await.is_none());
    drop(origin);
    assert!(within("a close", visitor.next()).await.unwrap().unwrap().is_close());
    assert!(within("the end", visitor.next()).await.is_none());
}

/// Both ends of a new WebSocket.
pub(crate) async fn open(world: &World) -> (Socket, Socket) {
    let url = format!("ws://{}/chat", named(NAME));
    let io = world.relay.visitor().await.into_io();
    let (visitor, origin) =
        within("a handshake", async { tokio::join!(client_async(url, io), at_origin(world)) }).await;
    let (visitor, response) = visitor.unwrap();
    assert_eq!(response.status(), 101);
    (visitor, origin)
}

async fn at_origin(world: &World) -> Socket {
    accept_async(world.origin.accept().await.into_io()).await.unwrap()
}

/// The same wish in HTTP/2 (RFC 8441 §4).
fn connect(host: &str) -> Request<Body> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{host}/chat"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Body::empty())
        .unwrap()
}

pub(crate) async fn websocket(on: On) {
    let world = on.world().await;
    let (visitor, origin) = open(&world).await;
    exchange_messages(visitor, origin).await;
    world.still_works().await;
}

/// What the far end gets of these frames.
async fn arrives(near: &mut Socket, far: &mut Socket, frames: &[Frame], wanted: Message) {
    for frame in frames {
        within("sending", near.send(Message::Frame(frame.clone()))).await.unwrap();
    }
    assert_eq!(within("a message", far.next()).await.unwrap().unwrap(), wanted);
}

pub(crate) async fn fragments_and_pings(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin) = open(&world).await;
    let frame = |text: &str, code, last| Frame::message(text.to_owned(), OpCode::Data(code), last);
    let parts = [
        frame("one ", Data::Text, false),
        frame("two ", Data::Continue, false),
        frame("three", Data::Continue, true),
    ];
    arrives(&mut visitor, &mut origin, &parts, Message::text("one two three")).await;
    arrives(&mut origin, &mut visitor, &parts, Message::text("one two three")).await;
    for _ in 0..2 {
        within("sending", visitor.send(Message::Ping("are you there".into()))).await.unwrap();
        let ping = within("a ping", origin.next()).await.unwrap().unwrap();
        assert_eq!(ping, Message::Ping("are you there".into()));
        within("a pong", origin.flush()).await.unwrap();
        let pong = within("a pong", visitor.next()).await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong("are you there".into()));
        std::mem::swap(&mut visitor, &mut origin);
    }
}

pub(crate) async fn close_codes(on: On) {
    let world = on.world().await;
    for (code, is_of_the_visitor) in [(1000, true), (1001, false), (4001, true), (4999, false)] {
        let (mut visitor, mut origin) = open(&world).await;
        let close = CloseFrame { code: code.into(), reason: "that was all, größe".into() };
        let closing = if is_of_the_visitor { &mut visitor } else { &mut origin };
        within("closing", closing.close(Some(close.clone()))).await.unwrap();
        // Each end hears it, once.
        let (back, heard) = tokio::join!(rest(visitor), rest(origin));
        let close = [Message::Close(Some(close))];
        assert_eq!((&back[..], &heard[..]), (&close[..], &close[..]));
    }
}

/// What comes until the end, which a server makes.
async fn rest(socket: Socket) -> Vec<Message> {
    let all = socket.map(|message| message.unwrap()).collect();
    within("the end", all).await
}

/// Whose end compresses, and how, is between the ends: not a bit of it is another's.
pub(crate) async fn compression(on: On) {
    let world = on.world().await;
    let asked = "permessage-deflate; client_max_window_bits=10, x-other; a=\"b, c\"";
    let fields = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: one, two\r\n\
         Sec-WebSocket-Extensions: {asked}\r\n"
    );
    let (mut visitor, mut origin, got) = world.begin("GET", "/chat", &fields).await;
    assert_eq!(got.get("sec-websocket-extensions"), Some(asked));
    assert_eq!(got.get("sec-websocket-protocol"), Some("one, two"));
    let agreed = "permessage-deflate; server_no_context_takeover";
    origin
        .send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: two\r\n\
             Sec-WebSocket-Extensions: {agreed}\r\n\r\n"
        ))
        .await;
    let head = visitor.head().await;
    assert_eq!((head.status(), head.get("sec-websocket-extensions")), (101, Some(agreed)));
    assert_eq!(head.get("sec-websocket-protocol"), Some("two"));
    // RFC 7692 §7.2.3.1: "Hello", compressed; the first bit but one says so.
    let compressed = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";
    let masked = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";
    visitor.send(masked).await;
    assert_eq!(origin.exact(masked.len()).await, masked[..]);
    origin.send(compressed).await;
    assert_eq!(visitor.exact(compressed.len()).await, compressed[..]);
}

pub(crate) async fn websocket_of_an_http2_visitor(on: On) {
    let world = on.world().await;
    let host = named(NAME);
    let mut visitor = world.relay.visitor_h2(&host).await;
    let request = connect(&host);
    let (response, origin) =
        within("a handshake", async { tokio::join!(visitor.send(request), at_origin(&world)) }).await;
    assert_eq!(response.status(), 200);
    let io: Box<dyn Duplex> = Box::new(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
    exchange_messages(WebSocketStream::from_raw_socket(io, Role::Client, None).await, origin).await;
}

pub(crate) async fn an_ignored_upgrade_of_an_http2_visitor(on: On) {
    let world = on.world().await;
    let host = named(NAME);
    let mut visitor = world.relay.visitor_h2(&host).await;
    let (response, _) = tokio::join!(visitor.send(connect(&host)), async {
        let mut origin = world.origin.accept().await;
        origin.head().await;
        origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\npage").await;
        origin
    });
    assert_eq!(response.status(), 501);
    world.still_works().await;
}

const RAW: &str = "Connection: Upgrade\r\nUpgrade: raw-echo\r\n";

pub(crate) async fn another_protocol_with_early_bytes(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    // Sent before the 101: the visitor is sure of itself.
    visitor.send(format!("{}early", World::head("GET", "/raw", RAW))).await;
    let mut origin = world.origin.accept().await;
    let head = origin.head().await;
    assert_eq!(head.get("upgrade"), Some("raw-echo"));
    assert!(head.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    origin.quiet().await;
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw-echo\r\nX-Theirs: kept\r\n\r\nglued").await;
    let head = visitor.head().await;
    assert_eq!(
        (head.status(), head.get("upgrade"), head.get("x-theirs")),
        (101, Some("raw-echo"), Some("kept"))
    );
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    assert_eq!(visitor.exact(5).await, "glued");
    assert_eq!(origin.exact(5).await, "early");
    for text in ["one", "two"] {
        visitor.send(text).await;
        assert_eq!(origin.exact(3).await, text);
        origin.send(text).await;
        assert_eq!(visitor.exact(3).await, text);
    }
    drop(visitor);
    origin.closed().await;
    world.still_works().await;
}

pub(crate) async fn half_close_is_kept(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw-echo\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 101);
    visitor.send("question").await;
    visitor.finish().await;
    assert_eq!(origin.rest().await, "question");
    // The answer comes after the question has ended.
    origin.send("answer").await;
    drop(origin);
    assert_eq!(visitor.rest().await, "answer");
}

pub(crate) async fn half_close_of_the_origin_is_kept(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw-echo\r\n\r\n").await;
    assert_eq!(visitor.head().await.status(), 101);
    origin.send("answer").await;
    origin.finish().await;
    assert_eq!(visitor.rest().await, "answer");
    // The visitor still sends.
    visitor.send("question").await;
    drop(visitor);
    assert_eq!(origin.rest().await, "question");
}

pub(crate) async fn a_refused_upgrade(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    origin.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (403, "no"));
    next_request_passes(visitor, origin).await;
}

pub(crate) async fn an_ignored_upgrade(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    // RFC 9110 §7.8: a server may ignore the field and just answer.
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "page"));
    next_request_passes(visitor, origin).await;
}

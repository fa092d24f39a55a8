//! Upgrades that cross the tunnel.

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use ptth::message::Body;
use ptth::net::io::Duplex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::{named, within};
use crate::world::{NAME, On, World, goes_on};

type Socket = WebSocketStream<Box<dyn Duplex>>;

async fn converse(mut visitor: Socket, mut origin: Socket) {
    let large = Message::binary(vec![7_u8; 100_000]);
    for message in [Message::text("hello"), Message::binary(vec![0, 255]), large] {
        within("sending", visitor.send(message.clone())).await.unwrap();
        assert_eq!(within("at the origin", origin.next()).await.unwrap().unwrap(), message);
        within("sending", origin.send(message.clone())).await.unwrap();
        assert_eq!(within("at the visitor", visitor.next()).await.unwrap().unwrap(), message);
    }
    within("closing", visitor.close(None)).await.unwrap();
    assert!(within("a close", origin.next()).await.unwrap().unwrap().is_close());
    // The origin's end answers by itself while it is read.
    assert!(within("the end", origin.next()).await.is_none());
    drop(origin);
    assert!(within("a close", visitor.next()).await.unwrap().unwrap().is_close());
    assert!(within("the end", visitor.next()).await.is_none());
}

/// A WebSocket from a new visitor to the origin.
async fn open(world: &World) -> (Socket, Socket) {
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
    converse(visitor, origin).await;
    world.still_works().await;
}

pub(crate) async fn a_revoked_token_ends_open_streams(on: On) {
    let world = on.world().await;
    let (mut visitor, _origin) = open(&world).await;
    for token in world.relay.tokens.list() {
        assert!(world.relay.tokens.revoke(&token.id).unwrap());
    }
    // An end without a close: it was cut.
    let end = within("the end of the stream", visitor.next()).await;
    assert!(end.is_none_or(|message| message.is_err()));
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
    converse(WebSocketStream::from_raw_socket(io, Role::Client, None).await, origin).await;
}

pub(crate) async fn an_ignored_upgrade_of_an_http2_visitor(on: On) {
    let world = on.world().await;
    let host = named(NAME);
    let mut visitor = world.relay.visitor_h2(&host).await;
    let (response, _) = tokio::join!(visitor.send(connect(&host)), async {
        let mut origin = world.origin.accept().await;
        origin.head().await;
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage").await;
        origin
    });
    assert_eq!(response.status(), 502);
    world.still_works().await;
}

const RAW: &str = "Connection: Upgrade\r\nUpgrade: raw-echo\r\n";

pub(crate) async fn another_token_with_glued_bytes(on: On) {
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

pub(crate) async fn a_refused_upgrade(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    origin.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (403, "no"));
    goes_on(visitor, origin).await;
}

pub(crate) async fn an_ignored_upgrade(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/raw", RAW).await;
    // RFC 9110 §7.8: a server may ignore the field and just answer.
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "page"));
    goes_on(visitor, origin).await;
}

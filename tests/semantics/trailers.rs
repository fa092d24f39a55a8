//! Trailers.

use crate::exchange::{OK, at_origin, head};
use crate::visitor::{Http2, request};
use crate::world::On;

pub(crate) async fn announced_trailers_of_a_request(on: On) {
    request_with(on, "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n").await;
}

pub(crate) async fn unannounced_trailers_of_a_request(on: On) {
    request_with(on, "Transfer-Encoding: chunked\r\n").await;
}

async fn request_with(on: On, fields: &str) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("POST", "/", fields) + "3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n").await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("transfer-encoding"), Some("chunked"));
    assert_eq!(origin.chunk().await, "abc");
    assert_eq!(origin.chunk().await, "");
    assert_eq!(origin.trailers().await, [("x-sum".into(), "294".into())]);
    origin.send(OK).await;
    assert_eq!(visitor.message().await.1, "ok");
}

pub(crate) async fn announced_trailers_of_an_answer(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, got) = world.begin("GET", "/", "TE: trailers\r\nConnection: te\r\n").await;
    assert_eq!(got.get("te"), Some("trailers"));
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
    assert_eq!(visitor.head().await.get("trailer"), Some("X-Sum"));
    origin.send("3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, "abc");
    assert_eq!(visitor.chunk().await, "");
    assert_eq!(visitor.trailers().await, [("x-sum".into(), "294".into())]);
}

pub(crate) async fn grpc_status_in_trailers(on: On) {
    unannounced(on, "Content-Type: application/grpc+proto\r\n", "grpc-status").await;
}

pub(crate) async fn unannounced_trailers_for_an_http2_visitor(on: On) {
    unannounced(on, "", "x-sum").await;
}

async fn unannounced(on: On, fields: &str, name: &str) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let asked = request("GET", "/").header("te", "trailers").body(()).unwrap();
    let (answering, _) = visitor.begin(asked, true).await;
    let (mut origin, _) = at_origin(&world).await;
    let chunks = format!("3\r\nabc\r\n0\r\n{name}: 294\r\n\r\n");
    origin.send(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{chunks}")).await;
    let answer = answering.whole().await.unwrap();
    assert_eq!((answer.head.status().as_u16(), &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(answer.trailers.unwrap()[name], "294");
}

pub(crate) async fn unannounced_trailers_for_an_http1_visitor(on: On) {
    let trailers = trailers_at_http1_visitor(on, "TE: trailers\r\nConnection: te\r\n").await;
    assert_eq!(trailers, [("x-sum".into(), "294".into())]);
}

pub(crate) async fn no_trailers_without_te(on: On) {
    assert_eq!(trailers_at_http1_visitor(on, "").await, []);
}

/// What a visitor that says `fields` gets behind an answer that announces nothing, and then the next answer. Some of the
/// trailers must stand in a head.
async fn trailers_at_http1_visitor(on: On, fields: &str) -> Vec<(String, String)> {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", fields).await;
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(visitor.head().await.get("transfer-encoding"), Some("chunked"));
    origin.send("3\r\nabc\r\n0\r\nX-Sum: 294\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, "abc");
    assert_eq!(visitor.chunk().await, "");
    let trailers = visitor.trailers().await;
    visitor.send(head("GET", "/again", fields)).await;
    let (mut origin, _) = at_origin(&world).await;
    origin.send(OK).await;
    assert_eq!(visitor.message().await.1, "ok");
    trailers
}

//! Somebody goes away in the middle.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::holder::Buffering;
use crate::support::{Wire, run, within};
use crate::upgrade::open;
use crate::world::{On, World};

pub(crate) async fn visitor_leaves_before_the_head(on: On) {
    the_origin_is_notified(&on.world().await).await;
}

/// The same where a middlebox holds bodies back.
#[test]
fn visitor_leaves_before_the_head_where_bodies_are_held_back() {
    run(async {
        for holds in [Buffering { up: true, down: true }, Buffering { up: false, down: true }] {
            the_origin_is_notified(&World::held(holds).await).await;
        }
    });
}

/// The connection of the request closes at the origin within a second.
async fn the_origin_is_notified(world: &World) {
    for _ in 0..3 {
        let (visitor, mut origin, _) = world.begin("GET", "/slow", "").await;
        drop(visitor);
        let left = Instant::now();
        origin.closed().await;
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    }
    world.still_works().await;
}

pub(crate) async fn visitor_leaves_during_the_body(on: On) {
    let world = on.world().await;
    for _ in 0..3 {
        let (mut visitor, mut origin, _) = world.begin("GET", "/slow", "").await;
        origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        if !on.is_whole() {
            visitor.head().await;
            assert_eq!(visitor.chunk().await, "abc");
        }
        drop(visitor);
        // The origin notices although it says nothing more.
        origin.closed().await;
    }
    if !on.is_whole() {
        let (visitor, mut origin, _) = world.begin("POST", "/slow", "Content-Length: 1000\r\n").await;
        drop(visitor);
        origin.closed().await;
    }
    world.still_works().await;
}

pub(crate) async fn origin_leaves_during_the_body(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
    if on.is_whole() {
        return the_visitor_gets_502(&world, visitor, origin).await;
    }
    let head = visitor.head().await;
    assert_eq!(visitor.exact(5).await, "hello");
    drop(origin);
    // A body that is cut short must not look complete.
    assert_eq!(head.get("content-length"), Some("10"));
    visitor.closed().await;
    world.still_works().await;
}

pub(crate) async fn origin_leaves_during_a_body_without_length(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    if on.is_whole() {
        return the_visitor_gets_502(&world, visitor, origin).await;
    }
    visitor.head().await;
    assert_eq!(visitor.chunk().await, "abc");
    drop(origin);
    // No last chunk: nobody takes this for the end.
    visitor.closed().await;
    world.still_works().await;
}

/// Where nothing of an answer has crossed yet, another can take its place.
async fn the_visitor_gets_502(world: &World, mut visitor: Wire, origin: Wire) {
    drop(origin);
    let (head, body) = visitor.message().await;
    assert_eq!(head.status(), 502, "{body}");
    assert_eq!(head.get("proxy-status"), Some("ptth-agent; error=http_response_incomplete"));
    world.still_works().await;
}

pub(crate) async fn visitor_leaves_during_the_upload(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("PUT", "/", "Transfer-Encoding: chunked\r\n").await;
    visitor.send_chunk("abc").await;
    assert_eq!(origin.chunk().await, "abc");
    drop(visitor);
    origin.closed().await;
    world.still_works().await;
}

pub(crate) async fn a_revoked_token_cuts_running_bodies(on: On) {
    let world = on.world().await;
    let (mut reader, mut source, _) = world.begin("GET", "/down", "").await;
    source.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    reader.head().await;
    assert_eq!(reader.chunk().await, "abc");
    let (mut writer, mut sink, _) = world.begin("PUT", "/up", "Transfer-Encoding: chunked\r\n").await;
    writer.send_chunk("abc").await;
    assert_eq!(sink.chunk().await, "abc");
    for token in world.relay.tokens.list() {
        assert!(world.relay.tokens.revoke(&token.id).unwrap());
    }
    reader.closed().await;
    sink.closed().await;
    source.closed().await;
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

pub(crate) async fn origin_leaves_without_an_answer(on: On) {
    let world = on.world().await;
    let (mut visitor, origin, _) = world.begin("POST", "/", "Content-Length: 0\r\n").await;
    drop(origin);
    let (head, body) = visitor.message().await;
    assert_eq!(head.status(), 502, "{body}");
    assert_eq!(head.get("proxy-status"), Some("ptth-agent; error=http_response_incomplete"));
    world.still_works().await;
}

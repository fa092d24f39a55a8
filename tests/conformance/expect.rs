//! `Expect: 100-continue` (RFC 9110 §10.1.1).

use crate::world::{On, World};

const EXPECT: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";

pub(crate) async fn an_expectation_is_answered_with_100(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(World::head("POST", "/", EXPECT)).await;
    if on.is_whole() {
        // The relay asks for the body before it asks anybody else.
        assert_eq!(visitor.head().await.status(), 100);
        visitor.send("hello").await;
    }
    let mut origin = world.origin.accept().await;
    let head = origin.head().await;
    match on.is_whole() {
        true => assert_eq!(head.get("expect"), None),
        // End to end: nobody says 100 before the origin does.
        false => {
            assert_eq!(head.get("expect"), Some("100-continue"));
            visitor.quiet().await;
            origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        }
    }
    if !on.is_whole() {
        assert_eq!(visitor.head().await.status(), 100);
        visitor.send("hello").await;
    }
    assert_eq!(origin.exact(5).await, "hello");
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "ok"));
}

pub(crate) async fn expectation_failed_without_the_body(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(World::head("POST", "/", EXPECT)).await;
    let mut origin = world.origin.accept().await;
    origin.head().await;
    origin.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (417, "no"));
    // Nothing of a body was asked for, and nothing arrives.
    origin.closed().await;
    for _ in 0..4 {
        world.still_works().await;
    }
}

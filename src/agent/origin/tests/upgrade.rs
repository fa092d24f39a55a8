use super::*;

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a.test\r\nsec-websocket-key: k\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const YES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-more: 1\r\n\r\n";

/// A visitor and an origin with an accepted Upgrade between them; `glued` comes right behind the origin's 101.
async fn upgraded(glued: &str) -> (Wire<DuplexStream>, Wire<TcpStream>) {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.say(ASK).await;
    let mut wire = raw.accept().await;
    assert_eq!(wire.head().await, ASK);
    assert!(visitor.is_quiet().await);
    wire.say(format!("{YES}{glued}")).await;
    let answer = visitor.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("x-more: 1"), "{answer}");
    assert!(answer.contains("connection: upgrade") && answer.contains("upgrade: echo"), "{answer}");
    (visitor, wire)
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_101_and_half_close_is_kept() {
    let (mut visitor, mut wire) = upgraded("").await;
    visitor.say("to the origin").await;
    wire.hear("to the origin").await;
    wire.say("to the visitor").await;
    visitor.hear("to the visitor").await;
    visitor.0.shutdown().await.unwrap();
    assert_eq!(wire.rest().await, "");
    wire.say("still here").await;
    visitor.hear("still here").await;
    drop(wire);
    assert_eq!(visitor.rest().await, "");
}

#[tokio::test]
async fn bytes_glued_to_the_101_are_not_lost() {
    let (mut visitor, _wire) = upgraded("hello from the origin").await;
    visitor.hear("hello from the origin").await;
}

#[tokio::test]
async fn early_bytes_of_the_visitor_wait_for_the_101() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.say(format!("{ASK}too early")).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    assert!(wire.is_quiet().await);
    wire.say(YES).await;
    wire.hear("too early").await;
}

#[tokio::test]
async fn a_visitor_that_leaves_closes_the_upgraded_connection() {
    let (visitor, mut wire) = upgraded("").await;
    drop(visitor);
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.say(ASK).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    wire.say("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = visitor.hear("no").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    raw.settled(1).await;
}

#[tokio::test]
async fn an_unrequested_101_becomes_a_502() {
    let raw = Raw::start().await;
    let (_, response, mut wire) = raw.first(get("/"), YES).await;
    assert_eq!(response.status(), 502);
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn an_h2c_upgrade_is_not_forwarded() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.say(ASK.replace("echo", "h2c")).await;
    let mut wire = raw.accept().await;
    let head = wire.head().await;
    assert!(!head.contains("upgrade"), "{head}");
}

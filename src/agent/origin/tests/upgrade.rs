use super::*;

const REQUEST: &str = "GET /chat HTTP/1.1\r\nhost: a.test\r\nsec-websocket-key: k\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-more: 1\r\n\r\n";

/// A visitor and an origin with an accepted Upgrade between them. The origin sends `glued` right behind its 101.
async fn upgraded(glued: &str) -> (Wire<DuplexStream>, Wire<TcpStream>) {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(REQUEST).await;
    let mut wire = raw.accept().await;
    assert_eq!(wire.head().await, REQUEST);
    assert!(visitor.is_quiet().await);
    wire.write(format!("{SWITCHING}{glued}")).await;
    let answer = visitor.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("x-more: 1"), "{answer}");
    assert!(answer.contains("connection: upgrade") && answer.contains("upgrade: echo"), "{answer}");
    (visitor, wire)
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_101_and_half_close_is_kept() {
    let (mut visitor, mut wire) = upgraded("").await;
    visitor.write("to the origin").await;
    wire.read_until("to the origin").await;
    wire.write("to the visitor").await;
    visitor.read_until("to the visitor").await;
    visitor.0.shutdown().await.unwrap();
    assert_eq!(wire.read_to_end().await, "");
    wire.write("still here").await;
    visitor.read_until("still here").await;
    drop(wire);
    assert_eq!(visitor.read_to_end().await, "");
}

#[tokio::test]
async fn bytes_glued_to_the_101_are_not_lost() {
    let (mut visitor, _wire) = upgraded("hello from the origin").await;
    visitor.read_until("hello from the origin").await;
}

#[tokio::test]
async fn early_bytes_of_the_visitor_wait_for_the_101() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(format!("{REQUEST}too early")).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    assert!(wire.is_quiet().await);
    wire.write(SWITCHING).await;
    wire.read_until("too early").await;
}

#[tokio::test]
async fn a_visitor_that_leaves_closes_the_upgraded_connection() {
    let (visitor, mut wire) = upgraded("").await;
    drop(visitor);
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(REQUEST).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    wire.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = visitor.read_until("no").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    raw.wait_for_idle(1).await;
}

#[tokio::test]
async fn an_unrequested_101_becomes_a_502() {
    let raw = Raw::start().await;
    let (_, response, mut wire) = raw.fresh(get("/"), SWITCHING).await;
    assert_eq!(response.status(), 502);
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn an_h2c_upgrade_is_not_forwarded() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(REQUEST.replace("echo", "h2c")).await;
    let mut wire = raw.accept().await;
    let head = wire.head().await;
    assert!(!head.contains("upgrade"), "{head}");
}

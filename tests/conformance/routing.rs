//! What a visitor hears when there is nobody.

use crate::support::{Head, TestRelay, named};
use crate::world::{NAME, On};

fn is_problem((head, body): &(Head, String), status: u16, code: &str, error: &str) {
    assert_eq!(head.status(), status, "{head:?} {body}");
    assert_eq!(head.get("content-type"), Some("application/problem+json"));
    assert_eq!(head.get("cache-control"), Some("no-store"));
    assert_eq!(head.get("proxy-status"), Some(&*format!("ptth-relay; error={error}")));
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().unwrap().ends_with(&format!("/{code}")), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty() && problem["title"].is_string(), "{problem}");
}

pub(crate) async fn unknown_name(on: On) {
    let world = on.world().await;
    let host = named("nobody");
    let answer = world.relay.fetch(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    is_problem(&answer, 404, "no-route", "destination_not_found");
    let answer = world.relay.fetch("GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n").await;
    is_problem(&answer, 404, "no-route", "destination_not_found");
}

pub(crate) async fn known_name_without_agent(_: On) {
    let relay = TestRelay::start();
    relay.token(&[NAME]);
    let answer = relay.fetch(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
    is_problem(&answer, 503, "no-agent", "destination_unavailable");
    assert_eq!(answer.0.get("retry-after"), Some("5"));
}

pub(crate) async fn problem_documents_have_one_form(on: On) {
    let world = on.world().await;
    // The agent's own failures have the same shape as the relay's, and name the other hop.
    drop(world.origin);
    let host = named(NAME);
    let (head, body) = world.relay.fetch(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(head.status(), 502, "{body}");
    assert_eq!(head.get("proxy-status"), Some("ptth-agent; error=connection_refused"));
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n\r\n", named("nobody"));
    let (head, body) = world.relay.fetch(&ask).await;
    assert_eq!(head.get("content-type"), Some("text/html; charset=utf-8"));
    assert!(body.contains("404 Not Found"), "{body}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"), 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(world.relay.fetch(&request).await.0.status(), status, "{request}");
    }
}

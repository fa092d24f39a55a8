//! Our own agent over this transport, end to end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::AppendHeaders;
use axum::routing::{any, get, post};
use futures_util::StreamExt as _;
use ptth::internals::agent::Serving;
use tokio::sync::Notify;

use super::Peer;
use crate::support::{Bench, STEP};

async fn serving(bench: &Bench, app: Router) -> Serving {
    bench.serving("comet", app).await
}

/// A body of unknown length.
fn stream(endless: bool) -> Body {
    let one = futures_util::stream::iter([Ok::<_, std::io::Error>("chunk")]);
    match endless {
        true => Body::from_stream(one.chain(futures_util::stream::pending())),
        false => Body::from_stream(one),
    }
}

fn app() -> Router {
    let mirror = |method: Method, headers: HeaderMap, body: Bytes| async move {
        let values =
            headers.get_all("x-two").iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(",");
        format!("{method} {} {values} {}", headers["host"].to_str().unwrap(), body.len())
    };
    let cookies = || async { AppendHeaders([("set-cookie", "a=1"), ("x-b", "2"), ("set-cookie", "c=3")]) };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/mirror", any(mirror))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/cookies", get(cookies))
        .route("/none", get(|| async { StatusCode::NO_CONTENT }))
        .route("/large", get(|| async { vec![b'x'; ptth::internals::defaults::COMET_MESSAGE + 1] }))
        .route("/chunked", get(|| async { stream(false) }))
        .route("/endless", get(|| async { stream(true) }))
        .route("/full", get(|| async { vec![0xff; ptth::internals::defaults::COMET_MESSAGE] }))
}

#[tokio::test]
async fn requests_and_answers_cross_unchanged() {
    let bench = Bench::start();
    let serving = serving(&bench, app()).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    assert_eq!(bench.visit("demo", "/nowhere").await.status, 404);
    let none = bench.visit("demo", "/none").await;
    assert_eq!((none.status, none.field("Content-Length")), (204, ""));
    let cookies = bench.visit("demo", "/cookies").await;
    let values: Vec<_> = cookies.head.lines().filter_map(|l| l.strip_prefix("Set-Cookie: ")).collect();
    assert_eq!(values, ["a=1", "c=3"]);
    let mut visitor = bench.open().await;
    visitor
        .send(
            "PUT /mirror HTTP/1.1\r\nHost: demo.relay.test\r\nX-Two: b\r\nX-Two: a\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    assert_eq!(visitor.read().await.body, "PUT demo.relay.test b,a 3");
    visitor.send("HEAD / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    assert_eq!(visitor.head().await.field("Content-Length"), "5");
    let all: Vec<u8> = (0..=255).collect();
    visitor.send("POST /echo HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 256\r\n\r\n").await;
    tokio::io::AsyncWriteExt::write_all(&mut visitor.stream, &all).await.unwrap();
    assert_eq!(visitor.head().await.field("Content-Length"), "256");
    while visitor.read.len() < all.len() {
        assert!(visitor.more().await);
    }
    assert_eq!(visitor.read, all);
    assert_eq!(serving.stop(Duration::from_secs(5)).await, 0);
    assert_eq!(bench.visit("demo", "/").await.status, 503, "the agent has ended its session");
}

#[tokio::test]
async fn slow_answers_do_not_delay_other_requests() {
    let bench = Bench::start();
    let (entered, go) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), go.clone());
    let slow = move || async move {
        let went = wait.notified();
        enter.add_permits(1);
        went.await;
        "done"
    };
    let _serving = serving(&bench, app().route("/slow", get(slow))).await;
    let slow = futures_util::future::join_all((0..48).map(|_| bench.visit("demo", "/slow")));
    let quick = async {
        let all_in = tokio::time::timeout(STEP, entered.acquire_many(48)).await;
        drop(all_in.expect("all requests are served at once").unwrap());
        assert_eq!(bench.visit("demo", "/").await.body, "hello");
        go.notify_waiters();
    };
    let (slow, ()) = tokio::join!(slow, quick);
    assert!(slow.iter().all(|answer| answer.body == "done"));
}

#[tokio::test]
async fn messages_that_comet_cannot_carry_get_an_error() {
    let bench = Bench::start();
    let _serving = serving(&bench, app()).await;
    let large = bench.visit("demo", "/large").await;
    assert_eq!(large.status, 502, "{}", large.head);
    assert!(large.body.contains("larger than the agent's connection can carry"), "{}", large.body);
    let mut visitor = bench.open().await;
    visitor.send("GET /full HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let full = visitor.head().await;
    assert_eq!(
        full.field("Content-Length"),
        ptth::internals::defaults::COMET_MESSAGE.to_string(),
        "{full:?}"
    );
    while visitor.read.len() < ptth::internals::defaults::COMET_MESSAGE {
        assert!(visitor.more().await);
    }
    // Streams that never end hold up no other answer.
    let mut streams = Vec::new();
    for _ in 0..2 * ptth::internals::defaults::COMET_MESSAGES / ptth::internals::defaults::COMET_MESSAGE {
        let mut visitor = bench.open().await;
        visitor.send("GET /endless HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
        streams.push(visitor);
    }
    assert_eq!(bench.visit("demo", "/chunked").await.body, "chunk");
    let mut visitor = bench.open().await;
    visitor
        .send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(visitor.read().await.status, 501);
    let length = ptth::internals::defaults::COMET_MESSAGE + 1;
    let mut visitor = bench.open().await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {length}\r\n\r\n");
    visitor.send(&head).await;
    assert_eq!(visitor.read().await.status, 413);
}

#[tokio::test]
async fn a_revoked_token_ends_the_agent() {
    let bench = Bench::start();
    let mut serving = serving(&bench, app()).await;
    assert!(bench.config.tokens.revoke(&bench.id).unwrap());
    let refused = tokio::time::timeout(STEP, serving.ended()).await.expect("the agent ends");
    assert!(matches!(&refused, Err(ptth::internals::agent::Fatal::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn an_agent_reconnects_after_a_restart_of_the_relay() {
    let bench = Bench::start();
    let _serving = serving(&bench, app()).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    let bench = bench.restarted_in_place().await;
    let back = async {
        while bench.visit("demo", "/").await.body != "hello" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STEP, back).await.expect("the agent reconnects");
}

#[tokio::test]
async fn an_agent_can_use_the_name_of_an_ended_session() {
    let bench = Bench::start();
    let raw = Peer::begun(&bench).await;
    assert_eq!(raw.request("DELETE", "", "").await.status, 204);
    let _serving = serving(&bench, app()).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
}

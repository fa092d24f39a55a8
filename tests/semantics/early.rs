//! An answer before the end of its upload, and a visitor that closes its sending direction.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use crate::exchange::{CLOSING, at_origin, head, host};
use crate::support::{Wire, limit, within};
use crate::visitor::{Http2, request};
use crate::world::{On, World};

/// More than every buffer between a visitor and the origin holds.
const LARGE: usize = 30_000_000;
/// More than is read of an upload to keep its connection.
const MIDDLE: usize = 300_000;

/// Sends a whole upload, and reads only then. Returns the status.
async fn send_then_read(mut visitor: Wire, length: usize) -> u16 {
    visitor.send(head("POST", "/up", &format!("Content-Length: {length}\r\n"))).await;
    visitor.stream_out(length).await;
    visitor.message().await.0.status()
}

/// Visitors with and without TLS.
async fn visitors(world: &World) -> [Wire; 2] {
    [world.relay.visitor().await, world.relay.visitor_tls(&host()).await]
}

/// The origin answers when it has the head, and closes.
const REFUSED: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
const REFUSED_CLOSE: &str =
    "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";

pub(crate) async fn refused_by_the_origin(on: On) {
    let world = on.world().await;
    for length in [LARGE, MIDDLE] {
        for answer in [REFUSED, REFUSED_CLOSE] {
            for visitor in visitors(&world).await {
                let refuses = async {
                    // On comet the relay itself refuses what is too large for a message.
                    if on.is_whole() && length == LARGE {
                        return;
                    }
                    let (mut origin, _) = at_origin(&world).await;
                    origin.send(answer).await;
                };
                let (status, ()) = tokio::join!(send_then_read(visitor, length), refuses);
                assert_eq!(status, 413, "{length} bytes, {answer}");
            }
        }
    }
    world.still_works().await;
}

pub(crate) async fn refused_over_http2(on: On) {
    let world = on.world().await;
    for length in [LARGE, MIDDLE] {
        let refuses = async {
            if on.is_whole() && length == LARGE {
                return;
            }
            let (mut origin, _) = at_origin(&world).await;
            origin.send(REFUSED_CLOSE).await;
        };
        let (answer, ()) = tokio::join!(upload_over_http2(&world, length), refuses);
        assert_eq!(answer, StatusCode::PAYLOAD_TOO_LARGE, "{length} bytes");
    }
    world.still_works().await;
}

/// Sends a whole upload over HTTP/2, and reads only then.
async fn upload_over_http2(world: &World, length: usize) -> StatusCode {
    let mut visitor = Http2::open(world).await;
    let upload = request("POST", "/up").header("content-length", length).body(()).unwrap();
    let (answer, mut stream) = visitor.begin(upload, false).await;
    let mut left = length;
    while left > 0 {
        stream.reserve_capacity(left);
        let window = within("a window", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
        let window = window.expect("the stream was reset before the end of the upload").unwrap();
        left -= window;
        stream.send_data(Bytes::from(vec![b'x'; window]), left == 0).unwrap();
    }
    answer.whole().await.unwrap().head.status()
}

pub(crate) async fn refused_by_the_relay(on: On) {
    let world = on.world_with("body=1000").await;
    for length in [LARGE, MIDDLE] {
        for visitor in visitors(&world).await {
            assert_eq!(send_then_read(visitor, length).await, 413, "{length} bytes");
        }
        assert_eq!(upload_over_http2(&world, length).await, StatusCode::PAYLOAD_TOO_LARGE, "{length} bytes");
    }
    world.still_works().await;
}

pub(crate) async fn half_closed_visitor(on: On) {
    let world = on.world().await;
    for body in ["", "abc"] {
        for mut visitor in visitors(&world).await {
            visitor.send(head("POST", "/", &format!("Content-Length: {}\r\n", body.len())) + body).await;
            visitor.finish().await;
            let (mut origin, got) = at_origin(&world).await;
            assert_eq!(origin.body(&got).await, body);
            // Longer than the relay needs to detect that a visitor has left.
            origin.quiet().await;
            origin.quiet().await;
            origin.send(CLOSING).await;
            let (answer, body) = visitor.message().await;
            assert_eq!((answer.first.as_str(), &*body), ("HTTP/1.1 200 OK", "ok"));
        }
    }
}

pub(crate) async fn a_visitor_that_leaves(on: On) {
    let world = on.world().await;
    for tls in [false, true] {
        for later in [false, true] {
            let [plain, encrypted] = visitors(&world).await;
            let mut visitor = if tls { encrypted } else { plain };
            visitor.send(head("GET", "/slow", "")).await;
            let (mut origin, _) = at_origin(&world).await;
            if later {
                origin.quiet().await;
            }
            if tls {
                // The alert comes first, so that the end of the stream is no truncation.
                visitor.finish().await;
            }
            let left = Instant::now();
            drop(visitor);
            origin.closed().await;
            let took = left.elapsed();
            assert!(took < limit(Duration::from_secs(1)), "reported after {took:?}");
        }
    }
    world.still_works().await;
}

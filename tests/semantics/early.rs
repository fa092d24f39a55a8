//! An answer before the end of its upload.

use bytes::Bytes;
use http::StatusCode;

use crate::exchange::{at_origin, head, host};
use crate::support::{Wire, within};
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

//! Uploads over HTTP/2 whose end comes in a frame of its own, empty, as many programs send it.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use ptth::internals::net::Scope;

use crate::holder::Buffering;
use crate::loss::world_behind_a_proxy;
use crate::support::{Wire, named, run, within};
use crate::world::{NAME, On, World};

pub(crate) async fn an_upload_with_a_separate_end_frame_is_answered(on: On) {
    is_answered(on.world().await, on.is_whole()).await;
}

/// More than every buffer between a visitor and the origin holds.
const LARGE: usize = 30_000_000;

pub(crate) async fn a_refused_upload_does_not_cross_the_link(on: On) {
    for close in ["", "Connection: close\r\n"] {
        let (world, proxy) = world_behind_a_proxy(on).await;
        let length = format!("Content-Length: {LARGE}\r\n");
        let (mut visitor, mut origin, _) = world.begin("POST", "/", &length).await;
        origin.send(format!("HTTP/1.1 413 Content Too Large\r\n{close}Content-Length: 2\r\n\r\nno")).await;
        let (head, _) = visitor.message().await;
        assert_eq!(head.status(), 413);
        drop(origin);
        visitor.stream_out(LARGE).await;
        visitor.closed().await;
        // The rest is about the buffers of the kernel.
        assert!(proxy.carried() < LARGE / 4, "{} bytes crossed the link", proxy.carried());
        world.still_works().await;
    }
}

/// The same where a box on the way holds bodies.
#[test]
fn an_upload_with_a_separate_end_frame_passes_a_buffering_proxy() {
    run(async {
        for holds in [Buffering { up: true, down: true }, Buffering { up: false, down: true }] {
            is_answered(World::held(holds).await, true).await;
        }
    });
}

/// Sends uploads of several lengths; `held`: the origin sees nothing of them before they have ended.
async fn is_answered(world: World, held: bool) {
    let host = named(NAME);
    let io = world.relay.tls_as(&host, b"h2").await;
    let (mut handle, connection) = h2::client::handshake(io).await.unwrap();
    let scope = Scope::new();
    scope.spawn(async move {
        let _ = connection.await;
    });
    for length in [0, 5, 300_000] {
        let (answer, mut stream) = begin(&mut handle, &host, length).await;
        if length > 0 {
            stream.send_data(vec![b'x'; length].into(), false).unwrap();
        }
        if held {
            stream.send_data(Bytes::new(), true).unwrap();
        }
        let mut origin = world.origin.accept().await;
        let head = origin.head().await;
        assert_eq!(origin.body(&head).await.len(), length);
        if !held {
            // Whoever reads lengths has all of it by now.
            stream.send_data(Bytes::new(), true).unwrap();
        }
        answered(answer, &mut origin).await;
    }
    scope.abort();
}

async fn begin(
    handle: &mut SendRequest<Bytes>,
    host: &str,
    length: usize,
) -> (ResponseFuture, h2::SendStream<Bytes>) {
    within("ready", poll_fn(|cx| handle.poll_ready(cx))).await.unwrap();
    let request = Request::post(format!("https://{host}/")).header("content-length", length);
    handle.send_request(request.body(()).unwrap(), false).unwrap()
}

async fn answered(answer: ResponseFuture, origin: &mut Wire) {
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(within("an answer", answer).await.unwrap().status(), 200);
}

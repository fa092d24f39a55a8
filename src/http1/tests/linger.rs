//! Tests of the server side when an answer precedes the end of its upload.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::server::{self, ConnectionEnd, Service};
use super::server::{Answering, serving};
use super::{CONFIG, Wire};
use crate::defaults;
use crate::message::{Body, Request, Response, interim};
use crate::net::flag::Flag;
use crate::net::linger::LingerPlace;
use crate::net::{Io, Scope};

const SECOND: Duration = Duration::from_secs(1);

async fn refuses(_: Request, _: interim::Sender) -> Response {
    http::Response::builder().status(413).body(Body::full("no")).unwrap()
}

fn upload(length: u64) -> String {
    format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_first_and_reads_afterwards_gets_the_answer() {
    let large =
        |_, _| async { http::Response::builder().status(413).body(Body::full(vec![b'x'; 1 << 20])).unwrap() };
    for length in [1 << 10, 300_000, 30 << 20] {
        let client = async |wire: &mut Wire| {
            wire.send(&upload(length)).await;
            for _ in 0..length >> 10 {
                wire.0.write_all(&[b'x'; 1 << 10]).await.unwrap();
            }
            wire.0.write_all(&vec![b'x'; length as usize % (1 << 10)]).await.unwrap();
            // A short upload leaves the connection open.
            wire.0.shutdown().await.unwrap();
            assert!(wire.rest().await.starts_with("HTTP/1.1 413 Payload Too Large\r\n"));
        };
        assert_eq!(serving(CONFIG, refuses, client).await.unwrap(), ConnectionEnd::Closed);
        assert_eq!(serving(CONFIG, large, client).await.unwrap(), ConnectionEnd::Closed);
    }
}

/// A proxy drops the body of a refused upload a moment after the answer. The client must not send its next request on a
/// connection that is about to be closed.
#[tokio::test(start_paused = true)]
async fn a_refusal_before_a_long_rest_closes_although_the_body_is_not_dropped_yet() {
    let scope = Scope::new();
    for (status, closes) in [(413, true), (500, true), (200, false)] {
        let answers = |request: Request, _| {
            scope.spawn(async move {
                tokio::time::sleep(SECOND).await;
                drop(request);
            });
            async move { http::Response::builder().status(status).body(Body::full("no")).unwrap() }
        };
        let client = async |wire: &mut Wire| {
            wire.send(&upload(300_000)).await;
            let head = wire.until("\r\n\r\nno").await;
            assert_eq!(head.contains("Connection: close\r\n"), closes, "{head}");
            wire.0.shutdown().await.unwrap();
        };
        let _ = serving(CONFIG, answers, client).await;
    }
}

/// Sends an early answer to a client that sends `bytes` each `pause` for as long as it can. Returns the time and the
/// bytes until the connection is closed.
async fn lingers(pause: Duration, bytes: usize) -> (Duration, u64) {
    let (mut began, mut sent) = (Instant::now(), 0);
    let ended = serving(CONFIG, refuses, async |wire| {
        wire.send(&upload(u64::MAX)).await;
        let head = wire.until("\r\n\r\nno").await;
        assert!(head.contains("Connection: close\r\n"), "{head}");
        assert_eq!(wire.0.read(&mut [0]).await.unwrap(), 0, "the server has closed its sending direction");
        began = Instant::now();
        let piece = vec![b'x'; bytes];
        while wire.0.write_all(&piece).await.is_ok() {
            sent += bytes as u64;
            tokio::time::sleep(pause).await;
        }
    });
    // The client itself does not notice the end of the connection during a pause.
    let ended = async {
        let ended = ended.await;
        assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
    };
    ended.await;
    (began.elapsed(), sent)
}

#[tokio::test(start_paused = true)]
async fn lingering_is_limited_in_time_silence_and_bytes() {
    let (time, _) = lingers(SECOND, 1).await;
    assert_eq!(time, defaults::LINGER, "30 s in all");
    let (time, sent) = lingers(6 * SECOND, 1).await;
    assert_eq!((time, sent), (6 * SECOND, 1), "5 s of silence");
    let (time, sent) = lingers(Duration::ZERO, 1 << 14).await;
    assert!(time < SECOND && sent >= defaults::LINGER_BYTES, "{sent} bytes in {time:?}");
    assert!(sent < defaults::LINGER_BYTES + (1 << 20), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_ends_while_its_connection_lingers_ends_the_connection() {
    let began = Instant::now();
    let client = async |wire: &mut Wire| {
        wire.send(&upload(1 << 20)).await;
        for _ in 0..1 << 10 {
            wire.0.write_all(&[b'x'; 1 << 10]).await.unwrap();
        }
        assert!(wire.rest().await.starts_with("HTTP/1.1 413 "));
    };
    assert_eq!(serving(CONFIG, refuses, client).await.unwrap(), ConnectionEnd::Closed);
    assert!(began.elapsed().is_zero());
}

/// Gives its connections a place that can be taken away.
struct Evicting(
    Answering<fn(Request, interim::Sender) -> futures_util::future::BoxFuture<'static, Response>>,
    Arc<Flag>,
);

impl Service for Evicting {
    async fn call(&self, request: Request, interim: interim::Sender) -> Response {
        self.0.call(request, interim).await
    }

    fn linger(&self) -> LingerPlace {
        LingerPlace { evicted: Some(self.1.clone()), guard: None }
    }
}

async fn ends_within(limit: Duration, evict: Option<Duration>, stop: impl Future<Output = ()>) {
    let (near, far) = tokio::io::duplex(1 << 14);
    let (mut wire, flag) = (Wire(near), Arc::<Flag>::default());
    let service = Evicting(Answering(|request, interim| Box::pin(refuses(request, interim))), flag.clone());
    let serve = server::serve(Io::other(far), &service, &CONFIG, stop);
    let client = async {
        wire.send(&upload(u64::MAX)).await;
        wire.until("\r\n\r\nno").await;
        let began = Instant::now();
        let evict = async {
            if let Some(evict) = evict {
                tokio::time::sleep(evict).await;
                flag.raise();
            }
            pending::<()>().await;
        };
        let sends = async {
            while wire.0.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SECOND / 10).await;
            }
        };
        tokio::select! {
            () = evict => {}
            () = sends => {}
        }
        assert!(began.elapsed() <= limit + SECOND / 10, "{:?}", began.elapsed());
    };
    assert_eq!(tokio::join!(serve, client).0.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_loses_its_place_is_closed() {
    ends_within(3 * SECOND, Some(3 * SECOND), pending()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_connection_that_lingers() {
    ends_within(3 * SECOND + defaults::LINGER_STOP, None, tokio::time::sleep(3 * SECOND)).await;
}

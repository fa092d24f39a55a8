//! Tests of the server side when the far end closes its sending direction.

use std::future::pending;
use std::time::Duration;

use http_body::Frame;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Error;
use super::super::server::{ConnectionEnd, HalfClose, ServerOptions, serve};
use super::server::{Answering, serving};
use super::{CONFIG, channel, text_of};
use crate::message::{Body, Request, Response, interim};
use crate::net::io::Tcp;
use crate::net::{Io, Scope};

const SECOND: Duration = Duration::from_secs(1);

async fn slow(_: Request, _: interim::Sender) -> Response {
    tokio::time::sleep(SECOND).await;
    Response::new(Body::full("abc"))
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_still_receives_its_answer() {
    for half_close in [HalfClose::Allowed, HalfClose::Probed] {
        let config = ServerOptions { half_close, ..CONFIG };
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
            ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\n"),
        ] {
            let answer = async |request: Request, interim| {
                text_of(request.into_body()).await;
                slow(Request::default(), interim).await
            };
            let ended = serving(
                config,
                |request, interim| Box::pin(answer(request, interim)),
                async |wire| {
                    wire.send(request).await;
                    wire.0.shutdown().await.unwrap();
                    let answer = wire.rest().await;
                    assert!(answer.starts_with(status) && answer.ends_with("\r\n\r\nabc"), "{answer}");
                },
            )
            .await;
            assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_of_a_half_closed_client_are_answered() {
    let ended = serving(CONFIG, slow, async |wire| {
        wire.send("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n").await;
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.rest().await.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    })
    .await;
    assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_a_part_of_the_next_head_or_chunk() {
    let answer = |_, interim: interim::Sender| async move {
        tokio::time::sleep(SECOND).await;
        interim.send(http::Response::builder().status(103).body(()).unwrap());
        tokio::time::sleep(SECOND).await;
        let (frames, body) = channel();
        tokio::time::sleep(SECOND).await;
        frames.send(Ok(Frame::data("abc".into()))).unwrap();
        Response::new(body)
    };
    serving(CONFIG, answer, async |wire| {
        let began = Instant::now();
        wire.send("GET / HTTP/1.1\r\n\r\n").await;
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.until("HTTP/1.").await, "HTTP/1.");
        assert!(began.elapsed() < SECOND / 10, "the probe is sent at once");
        assert_eq!(wire.until("\r\n\r\n").await, "1 103 Early Hints\r\n\r\n");
        assert!(wire.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(wire.rest().await, "3\r\nabc\r\n0\r\n\r\n");
    })
    .await
    .unwrap();

    let (scope, (half_closed, wait)) = (Scope::new(), oneshot::channel());
    let wait = parking_lot::Mutex::new(Some(wait));
    let answer = |_, _| {
        let (frames, body) = channel();
        let wait = wait.lock().take().unwrap();
        frames.send(Ok(Frame::data("abc".into()))).unwrap();
        scope.spawn(async move {
            wait.await.unwrap();
            frames.send(Ok(Frame::data("de".into()))).unwrap();
        });
        async { Response::new(body) }
    };
    serving(CONFIG, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\n\r\n").await;
        assert!(wire.until("3\r\nabc\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.until("0").await, "0", "the size of a chunk may begin with a zero");
        half_closed.send(()).unwrap();
        assert_eq!(wire.rest().await, "2\r\nde\r\n0\r\n\r\n");
    })
    .await
    .unwrap();
}

/// The body has a length, and nothing can be sent ahead of it.
#[tokio::test(start_paused = true)]
async fn an_idle_body_with_a_length_is_cancelled_at_the_end_of_the_stream() {
    let answer = |_, _| async {
        let (frames, mut body) = channel();
        frames.send(Ok(Frame::data("abc".into()))).unwrap();
        body.hold(frames);
        http::Response::builder().header("content-length", "9").body(body).unwrap()
    };
    let ended = serving(CONFIG, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\n\r\n").await;
        wire.until("abc").await;
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.rest().await, "");
    })
    .await;
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_cancels_where_half_close_is_not_allowed() {
    let config = ServerOptions { half_close: HalfClose::Cancels, ..CONFIG };
    let answer = |_, _| async { pending::<Response>().await };
    let ended = serving(config, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\n\r\n").await;
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.rest().await, "");
    })
    .await;
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

/// The end of the stream stays behind an upload that is not read. The head that was begun as a probe is completed by
/// whichever head follows.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_read_is_probed_with_the_first_bytes_of_the_head() {
    let answer = |request: Request, interim: interim::Sender| async move {
        tokio::time::sleep(SECOND * 7 / 2).await;
        interim.send(http::Response::builder().status(103).body(()).unwrap());
        tokio::time::sleep(SECOND * 3).await;
        let text = text_of(request.into_body()).await;
        tokio::time::sleep(SECOND * 3).await;
        Response::new(Body::full(text))
    };
    serving(CONFIG, answer, async |wire| {
        let began = Instant::now();
        wire.send("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await;
        for (byte, at) in [("H", 1), ("T", 2)] {
            assert_eq!(wire.until(byte).await, byte);
            assert_eq!(began.elapsed().as_secs(), at);
        }
        assert_eq!(wire.until("\r\n\r\n").await, "TP/1.1 103 Early Hints\r\n\r\n");
        for byte in ["H", "T", "T"] {
            assert_eq!(wire.until(byte).await, byte);
        }
        assert!(began.elapsed() < 6 * SECOND);
        let head = wire.until("\r\n\r\n").await;
        assert!(head.starts_with("P/1.1 200 OK\r\n"), "{head}");
        assert_eq!(wire.until("abc").await, "abc");
    })
    .await
    .unwrap();
}

/// The upload fills the buffers of both ends, so the end of the stream cannot arrive.
#[tokio::test]
async fn a_visitor_that_leaves_an_upload_which_is_not_read_is_noticed() {
    let (cancelled, noticed) = oneshot::channel::<()>();
    let cancelled = parking_lot::Mutex::new(Some(cancelled));
    let (listener, scope) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Scope::new());
    let mut visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let io = Io::plain(Tcp::new(listener.accept().await.unwrap().0));
    scope.spawn(async move {
        let answer = |request: Request, _: interim::Sender| {
            let held = (request, cancelled.lock().take());
            async move {
                let _held = held;
                pending::<Response>().await
            }
        };
        let _ = serve(io, &Answering(answer), &CONFIG, pending()).await;
    });
    visitor.write_all(b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
    let piece = [b'x'; 1 << 16];
    while tokio::time::timeout(SECOND / 10, visitor.write(&piece)).await.is_ok() {}
    drop(visitor);
    tokio::time::timeout(8 * SECOND, noticed).await.unwrap().unwrap_err();
}

//! Tests of the server side, over a stream in memory and with a paused clock.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Error;
use super::super::server::{self, ConnectionEnd, ServerOptions, Service};
use super::{CONFIG, Wire, channel, text_of, trailers};
use crate::defaults;
use crate::message::upgrade::Tunnel;
use crate::message::{Body, BoxError, Request, Response, interim};
use crate::net::{Io, Scope};

pub(super) struct Answering<F>(pub(super) F);

impl<F, T> Service for Answering<F>
where
    F: Fn(Request, interim::Sender) -> T + Sync,
    T: Future<Output = Response> + Send,
{
    async fn call(&self, request: Request, interim: interim::Sender) -> Response {
        (self.0)(request, interim).await
    }
}

/// Serves the requests that `client` sends, and returns how the connection ended.
pub(super) async fn serving<F, T>(
    config: ServerOptions,
    answer: F,
    client: impl AsyncFnOnce(&mut Wire),
) -> Result<ConnectionEnd, Error>
where
    F: Fn(Request, interim::Sender) -> T + Sync,
    T: Future<Output = Response> + Send,
{
    let (near, far) = tokio::io::duplex(1 << 14);
    let mut wire = Wire(near);
    let service = Answering(answer);
    let serve = server::serve(Io::other(far), &service, &config, pending());
    let requests = async {
        client(&mut wire).await;
        drop(wire);
    };
    tokio::join!(serve, requests).0
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_in_their_order_on_one_connection() {
    let answer = async |request: Request, _| {
        let path = request.uri().path().to_owned();
        let sent = text_of(request.into_body()).await;
        Response::new(Body::full(format!("{path} {sent}")))
    };
    let ended = serving(
        CONFIG,
        |request, interim| Box::pin(answer(request, interim)),
        async |wire| {
            wire.send(
                "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n\
             POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n",
            )
            .await;
            for answer in ["/a abc", "/b ", "/c de"] {
                let head = wire.until("\r\n\r\n").await;
                assert_eq!(head, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len()));
                assert_eq!(wire.until(answer).await, answer);
            }
        },
    )
    .await;
    assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_version_and_the_connection_field_decide_keep_alive() {
    let answer = async |request: Request, _| match request.uri().path() {
        "/stream" => {
            Response::new(Body::wrap(StreamBody::new(futures_util::stream::iter([Ok::<_, BoxError>(
                Frame::data(Bytes::from("abc")),
            )]))))
        }
        _ => Response::new(Body::full("abc")),
    };
    for (request, head) in [
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
        ("GET /stream HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nabc"),
        ("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nabc"),
        (
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        ),
        (
            "GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
    ] {
        let ended = serving(
            CONFIG,
            |request, interim| Box::pin(answer(request, interim)),
            async |wire| {
                wire.send(request).await;
                assert_eq!(wire.rest().await, head, "{request}");
            },
        )
        .await;
        assert_eq!(ended.unwrap(), ConnectionEnd::Closed, "{request}");
    }
    let kept = serving(
        CONFIG,
        |request, interim| Box::pin(answer(request, interim)),
        async |wire| {
            for _ in 0..2 {
                wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
                let answer = wire.until("abc").await;
                assert!(answer.contains("Connection: keep-alive\r\n"), "{answer}");
            }
        },
    );
    assert_eq!(kept.await.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn interim_responses_are_sent_at_once_but_not_to_http_1_0() {
    for (version, hints) in [("1.1", true), ("1.0", false)] {
        let (go, wait) = oneshot::channel::<()>();
        let wait = Arc::new(Mutex::new(Some(wait)));
        let answer = |_, interim: interim::Sender| {
            let wait = wait.lock().take();
            async move {
                let head = http::Response::builder().status(103).header("link", "</a>").body(()).unwrap();
                interim.send(head);
                wait.unwrap().await.unwrap();
                Response::new(Body::full("abc"))
            }
        };
        serving(CONFIG, answer, async |wire| {
            wire.send(&format!("GET / HTTP/{version}\r\n\r\n")).await;
            if hints {
                assert_eq!(wire.until("\r\n\r\n").await, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            }
            go.send(()).unwrap();
            assert!(wire.until("\r\n\r\n").await.starts_with(&format!("HTTP/{version} 200 OK\r\n")));
        })
        .await
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_100_is_sent_when_the_handler_reads_the_body() {
    let request = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let reads = |request: Request, _| async { Response::new(Body::full(text_of(request.into_body()).await)) };
    serving(CONFIG, reads, async |wire| {
        wire.send(request).await;
        assert_eq!(wire.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send("abc").await;
        assert!(wire.until("abc").await.starts_with("HTTP/1.1 200 OK\r\n"));
        // A client that sends the body without waiting for the 100 receives the 100 nevertheless.
        wire.send(&format!("{request}def")).await;
        assert_eq!(wire.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(wire.until("def").await.starts_with("HTTP/1.1 200 OK\r\n"));
    })
    .await
    .unwrap();
    let refuses = |_, _| async { Response::new(Body::full("no")) };
    serving(CONFIG, refuses, async |wire| {
        wire.send(request).await;
        let answer = wire.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Connection: close\r\n"),
            "{answer}"
        );
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn trailers_are_sent_only_to_clients_that_accept_them() {
    let answer = |_, _| async {
        let (frames, body) = channel();
        frames.send(Ok(Frame::data("abc".into()))).unwrap();
        frames.send(Ok(trailers())).unwrap();
        Response::new(body)
    };
    serving(CONFIG, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\nTE: trailers\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
        wire.until("\r\n\r\n").await;
        assert_eq!(wire.until("\r\n\r\n").await, "3\r\nabc\r\n0\r\nx-sum: 294\r\n\r\n");
        wire.until("\r\n\r\n").await;
        assert_eq!(wire.until("\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_answer_is_sent_up_to_its_break() {
    for (length, wanted) in [(None, "3\r\nabc\r\n"), (Some("9"), "abc")] {
        let answer = |_, _| async move {
            let (frames, body) = channel();
            frames.send(Ok(Frame::data("abc".into()))).unwrap();
            frames.send(Err("it fell".into())).unwrap();
            let mut response = Response::new(body);
            response.headers_mut().extend(length.map(|n| (http::header::CONTENT_LENGTH, n.parse().unwrap())));
            response
        };
        let ended = serving(CONFIG, answer, async |wire| {
            wire.send("GET / HTTP/1.1\r\n\r\n").await;
            assert!(wire.rest().await.ends_with(&format!("\r\n\r\n{wanted}")));
        })
        .await;
        assert!(matches!(ended, Err(Error::Answer(_))), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_with_a_wrong_content_length_ends_the_connection() {
    for (length, wanted) in [("2", ""), ("4", "abc")] {
        let answer = |_, _| async move {
            let (frames, body) = channel();
            frames.send(Ok(Frame::data("abc".into()))).unwrap();
            http::Response::builder().header("content-length", length).body(body).unwrap()
        };
        let ended = serving(CONFIG, answer, async |wire| {
            wire.send("GET / HTTP/1.1\r\n\r\n").await;
            assert!(wire.rest().await.ends_with(&format!("\r\n\r\n{wanted}")));
        })
        .await;
        assert!(matches!(ended, Err(Error::Answer(_))), "{ended:?}");
    }
}

/// Notifies its receiver when it is dropped.
struct DropNotifier(Option<oneshot::Sender<()>>);

impl Drop for DropNotifier {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_that_leaves_cancels_its_request() {
    for begun in [false, true] {
        let (sender, dropped) = oneshot::channel();
        let notifier = Mutex::new(Some(DropNotifier(Some(sender))));
        let answer = |_, _| {
            let notifier = notifier.lock().take();
            async move {
                if !begun {
                    pending::<()>().await;
                }
                let (frames, mut body) = channel();
                frames.send(Ok(Frame::data("abc".into()))).unwrap();
                body.hold((frames, notifier));
                Response::new(body)
            }
        };
        let ended = serving(CONFIG, answer, async |wire| {
            wire.send("GET / HTTP/1.1\r\n\r\n").await;
            match begun {
                true => drop(wire.until("abc\r\n").await),
                false => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        })
        .await;
        assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
        assert_eq!(dropped.await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_and_the_idle_time_before_it_share_a_deadline() {
    for part in ["", "GET / HTTP/1.1\r\nA: "] {
        let began = Instant::now();
        let answer = |_, _| async { Response::new(Body::empty()) };
        let ended = serving(CONFIG, answer, async |wire| {
            wire.send("GET / HTTP/1.1\r\n\r\n").await;
            wire.until("\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            wire.send(part).await;
            assert_eq!(wire.rest().await, "");
        })
        .await;
        assert!(matches!(ended, Err(Error::HeadLate)), "{ended:?}");
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_that_does_not_read_is_disconnected() {
    let began = Instant::now();
    let answer = |_, _| async { Response::new(Body::full(vec![b'x'; 1 << 20])) };
    let ended = serving(CONFIG, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\n\r\n").await;
        wire.until("\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1_000)).await;
    });
    let ended = tokio::time::timeout(Duration::from_secs(2_000), ended).await.unwrap();
    assert!(matches!(ended, Err(Error::Stalled)), "{ended:?}");
    assert!(began.elapsed() >= Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_an_answer_does_not_count_as_a_slow_reader() {
    let frames = Mutex::new(None);
    let answer = |_, _| {
        let (sender, body) = channel();
        *frames.lock() = Some(sender);
        async { Response::new(body) }
    };
    let ended = serving(CONFIG, answer, async |wire| {
        wire.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sender = frames.lock().take().unwrap();
        // The head and this frame fill the stream exactly, so no output waits for the reader.
        let first = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let fills = (1 << 14) - first.len() - "3fa0\r\n\r\n".len();
        sender.send(Ok(Frame::data(vec![b'x'; fills].into()))).unwrap();
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        sender.send(Ok(Frame::data("end".into()))).unwrap();
        drop(sender);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(wire.rest().await.ends_with("3\r\nend\r\n0\r\n\r\n"));
    })
    .await;
    assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_short_rest_of_an_unread_upload_is_drained() {
    let answer = |_, _| async { Response::new(Body::full("no")) };
    let ended = serving(CONFIG, answer, async |wire| {
        wire.send("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na").await;
        wire.until("no").await;
        wire.send("bcGET / HTTP/1.1\r\n\r\n").await;
        wire.until("no").await;
        // The rest of this upload never arrives, and the server waits only briefly.
        wire.send("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na").await;
        wire.until("no").await;
        let began = Instant::now();
        assert_eq!(wire.rest().await, "");
        assert_eq!(began.elapsed(), defaults::DRAIN);
    })
    .await;
    assert_eq!(ended.unwrap(), ConnectionEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_head_is_refused_and_closes_the_connection() {
    for (head, status) in [
        ("GET / HTTP/1.1\r\nA\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(defaults::VISITOR_HEAD)), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 16)), "414"),
    ] {
        let answer = |_, _| async { unreachable!("it is no request") };
        let ended = serving(CONFIG, answer, async |wire| {
            // The server may close the connection while the head is being sent.
            let _ = wire.0.write_all(head.as_bytes()).await;
            let answer = wire.rest().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains("Connection: close\r\n"), "{answer}");
        })
        .await;
        assert!(matches!(ended, Err(Error::Head(_))), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_101_hands_the_stream_and_its_early_bytes_to_the_handler() {
    let scope = Scope::new();
    let echo = |mut request: Request, _| {
        let tunnel = Tunnel::take(request.extensions_mut()).unwrap();
        scope.spawn(async move {
            let mut stream = tunnel.await.unwrap();
            let mut early = [0; 5];
            stream.read_exact(&mut early).await.unwrap();
            stream.write_all(&early).await.unwrap();
        });
        async { http::Response::builder().status(101).header("upgrade", "x").body(Body::empty()).unwrap() }
    };
    let ended = serving(CONFIG, echo, async |wire| {
        wire.send("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nea").await;
        assert_eq!(wire.until("\r\n\r\n").await, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
        wire.send("rly").await;
        assert_eq!(wire.rest().await, "early");
    })
    .await;
    assert_eq!(ended.unwrap(), ConnectionEnd::Upgraded);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_answers_the_request_in_flight() {
    for (idle, wanted) in
        [(true, ""), (false, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")]
    {
        let (near, far) = tokio::io::duplex(1 << 14);
        let mut wire = Wire(near);
        let service = Answering(|_, _| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Response::new(Body::full("abc"))
        });
        let stop = tokio::time::sleep(Duration::from_secs(1));
        let serve = server::serve(Io::other(far), &service, &CONFIG, stop);
        let client = async {
            if !idle {
                wire.send("GET / HTTP/1.1\r\n\r\n").await;
            }
            wire.rest().await
        };
        let (ended, text) = tokio::join!(serve, client);
        assert_eq!((ended.unwrap(), &*text), (ConnectionEnd::Closed, wanted));
    }
}

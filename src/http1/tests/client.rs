//! Tests of the client side, over a stream in memory and with a paused clock.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::client::{self, Connection, Home};
use super::super::{BadHead, Error};
use super::{Wire, channel, text_of, trailers};
use crate::defaults;
use crate::message::upgrade::Tunnel;
use crate::message::{Body, Request, Response, interim};
use crate::net::{Io, Scope};

/// Collects the connections that a client returns.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Connection>>>, Scope);

impl Home for Shelf {
    fn put_back(self, connection: Box<Connection>) {
        self.0.lock().push(*connection);
    }

    fn scope(&self) -> &Scope {
        &self.1
    }
}

impl Shelf {
    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

fn client() -> (Box<Connection>, Wire, Shelf) {
    let (near, far) = tokio::io::duplex(1 << 14);
    (Connection::new(Io::other(near)), Wire(far), Shelf::default())
}

async fn send(
    connection: Box<Connection>,
    request: Request,
    shelf: &Shelf,
) -> Result<Response, client::NotAnswered> {
    client::send(connection, request, shelf.clone(), &interim::Sender::default())
        .await
        .map(|(response, _)| response)
}

fn post(body: Body) -> Request {
    http::Request::post("/a?b").header("host", "a.test").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_returned_when_its_answer_has_been_read() {
    let (mut connection, mut wire, shelf) = client();
    for _ in 0..3 {
        let request = http::Request::get("/").body(Body::empty()).unwrap();
        let answering = async {
            assert_eq!(wire.until("\r\n\r\n").await, "GET / HTTP/1.1\r\n\r\n");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
        };
        let (response, ()) = tokio::join!(send(connection, request, &shelf), answering);
        let response = response.unwrap();
        assert!(shelf.is_empty(), "its body is not read");
        assert_eq!(text_of(response.into_body()).await, "abc");
        connection = Box::new(shelf.0.lock().pop().expect("the connection is returned"));
        assert!(connection.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_must_not_be_reused_is_not_returned() {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcand more", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\n\r\nabc", true),
    ] {
        let (connection, mut wire, shelf) = client();
        let answering = async {
            wire.until("\r\n\r\n").await;
            wire.send(answer).await;
            if answer.ends_with("\r\n\r\nabc") && !answer.contains("Length") {
                wire.0.shutdown().await.unwrap();
            }
        };
        let request = http::Request::get("/").body(Body::empty()).unwrap();
        let (response, ()) = tokio::join!(send(connection, request, &shelf), answering);
        match body {
            true => assert_eq!(text_of(response.unwrap().into_body()).await, "abc"),
            false => drop(response.unwrap()),
        }
        assert!(shelf.is_empty(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unwritten_request_is_returned() {
    for unsolicited in ["", "HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (connection, mut wire, shelf) = client();
        wire.send(unsolicited).await;
        drop(wire);
        let lost = send(connection, post(Body::full("abc")), &shelf).await.unwrap_err();
        let request = *lost.unsent.expect("not one byte was written");
        assert_eq!(
            (request.uri().to_string(), text_of(request.into_body()).await),
            ("/a?b".into(), "abc".into())
        );
    }
    let (connection, mut wire, shelf) = client();
    let answering = async {
        wire.until("abc").await;
        drop(wire);
    };
    let (lost, ()) = tokio::join!(send(connection, post(Body::full("abc")), &shelf), answering);
    let lost = lost.unwrap_err();
    assert!(lost.unsent.is_none() && lost.repeatable.is_none() && lost.error.is_end(), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sent_request_is_returned_only_if_a_repeat_is_harmless() {
    for (method, body, returned) in [("GET", "", true), ("DELETE", "", false), ("GET", "abc", false)] {
        let (connection, mut wire, shelf) = client();
        let request = http::Request::builder().method(method).uri("/a?b").header("host", "a.test");
        let request = request.body(Body::full(body)).unwrap();
        let answering = async {
            wire.until(if body.is_empty() { "\r\n\r\n" } else { body }).await;
            drop(wire);
        };
        let (lost, ()) = tokio::join!(send(connection, request, &shelf), answering);
        let lost = lost.unwrap_err();
        assert_eq!((lost.unsent.is_some(), lost.repeatable.is_some()), (false, returned), "{method} {body}");
        assert!(
            lost.repeatable.is_none_or(|request| request.uri() == "/a?b" && request.headers().len() == 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_and_its_trailers_are_written_as_they_arrive() {
    let (connection, mut wire, shelf) = client();
    let (frames, body) = channel();
    let answering = async {
        let head = wire.until("\r\n\r\n").await;
        assert_eq!(head, "POST /a?b HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n");
        frames.send(Ok(Frame::data("abc".into()))).unwrap();
        assert_eq!(wire.until("abc\r\n").await, "3\r\nabc\r\n");
        frames.send(Ok(trailers())).unwrap();
        drop(frames);
        assert_eq!(wire.until("\r\n\r\n").await, "0\r\nx-sum: 294\r\n\r\n");
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    };
    let (response, ()) = tokio::join!(send(connection, post(body), &shelf), answering);
    assert_eq!(response.unwrap().status(), 204);
    assert!(!shelf.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_before_the_end_of_the_upload() {
    let (connection, mut wire, shelf) = client();
    let (frames, body) = channel();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
    };
    let (response, ()) = tokio::join!(send(connection, post(body), &shelf), answering);
    assert_eq!(text_of(response.unwrap().into_body()).await, "abc");
    assert!(shelf.is_empty(), "the upload continues");
    frames.send(Ok(Frame::data("late".into()))).unwrap();
    assert_eq!(wire.until("late\r\n").await, "4\r\nlate\r\n");
    drop(frames);
    assert_eq!(wire.until("0\r\n\r\n").await, "0\r\n\r\n");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!shelf.is_empty(), "both are over");
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends_when_its_answer_is_dropped() {
    let (connection, mut wire, shelf) = client();
    let (frames, body) = channel();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    };
    let (response, ()) = tokio::join!(send(connection, post(body), &shelf), answering);
    drop(response);
    frames.closed().await;
    assert_eq!(wire.rest().await, "");
    assert!(shelf.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_a_100_until_a_timeout() {
    let expecting = |body| {
        let mut request = post(body);
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        request
    };
    for sends_continue in [true, false] {
        let (connection, mut wire, shelf) = client();
        let began = Instant::now();
        let answering = async {
            wire.until("\r\n\r\n").await;
            if sends_continue {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            wire.until("abc").await;
            wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        };
        let (response, ()) = tokio::join!(send(connection, expecting(Body::full("abc")), &shelf), answering);
        assert_eq!(response.unwrap().status(), 204);
        assert_eq!(began.elapsed(), if sends_continue { Duration::ZERO } else { defaults::ORIGIN_CONTINUE });
    }
    // A final response instead of the 100 means that the body is not sent.
    let (connection, mut wire, shelf) = client();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(wire.rest().await, "");
    };
    let (response, ()) = tokio::join!(send(connection, expecting(Body::full("abc")), &shelf), answering);
    assert_eq!(response.unwrap().status(), 417);
    assert!(shelf.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_although_its_upload_failed() {
    let (connection, mut wire, shelf) = client();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        drop(wire);
    };
    let request = post(Body::full(vec![b'x'; 1 << 20]));
    let (response, ()) = tokio::join!(send(connection, request, &shelf), answering);
    let response = response.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text_of(response.into_body()).await, "no");
    assert!(shelf.is_empty());
}

/// Sends an upload that never ends, which gets this early answer, and then the end of the stream if `ends`. Returns the
/// answer's body, and whether the upload was dropped although the far end still reads.
async fn early(answer: &str, ends: bool) -> (String, bool) {
    let (connection, mut wire, shelf) = client();
    let (frames, body) = channel();
    frames.send(Ok(Frame::data("abc".into()))).unwrap();
    let answering = async {
        wire.until("abc\r\n").await;
        wire.send(answer).await;
        if ends {
            wire.0.shutdown().await.unwrap();
        }
    };
    let (response, ()) = tokio::join!(send(connection, post(body), &shelf), answering);
    let text = text_of(response.unwrap().into_body()).await;
    let dropped = tokio::time::timeout(Duration::from_secs(1), frames.closed()).await.is_ok();
    assert!(shelf.is_empty());
    (text, dropped)
}

#[tokio::test(start_paused = true)]
async fn a_refused_upload_ends_and_a_wanted_upload_continues() {
    const REFUSED: &str =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    for (answer, ends, dropped) in [
        (REFUSED, false, true),
        (&REFUSED.replace("HTTP/1.1", "HTTP/1.0").replace("Connection: close\r\n", ""), false, true),
        (&REFUSED.replace("Content-Length: 2\r\n", ""), true, true),
        // The far end may read the upload, to keep the connection or to process it.
        (&REFUSED.replace("Connection: close\r\n", ""), false, false),
        (&REFUSED.replace("413 Content Too Large", "200 OK"), false, false),
        // Whoever has closed its sending direction after an answer discards the rest.
        (&REFUSED.replace("Connection: close\r\n", ""), true, true),
        (&REFUSED.replace("413 Content Too Large", "200 OK"), true, true),
    ] {
        assert_eq!(early(answer, ends).await, ("no".to_owned(), dropped), "{answer} {ends}");
    }
}

/// A stream that ends with a reset.
struct Resetting(tokio::io::DuplexStream);

impl tokio::io::AsyncRead for Resetting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        match buf.filled().len() > before {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl tokio::io::AsyncWrite for Resetting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A far end that closes without reading the upload sends a reset (RFC 9112 §9.6).
#[tokio::test(start_paused = true)]
async fn a_reset_ends_an_early_answer_without_a_length_and_no_other() {
    for (early, length) in [(true, ""), (false, ""), (true, "Content-Length: 3\r\n")] {
        let (near, far) = tokio::io::duplex(1 << 14);
        let (connection, mut wire, shelf) =
            (Connection::new(Io::other(Resetting(near))), Wire(far), Shelf::default());
        let answering = async {
            wire.until("\r\n\r\n").await;
            wire.send(&format!("HTTP/1.1 413 Content Too Large\r\n{length}\r\nno")).await;
            drop(wire);
        };
        let body = if early { Body::full(vec![b'x'; 1 << 20]) } else { Body::empty() };
        let (response, ()) = tokio::join!(send(connection, post(body), &shelf), answering);
        let response = response.unwrap();
        assert_eq!(response.status(), 413);
        let read = http_body_util::BodyExt::collect(response.into_body()).await;
        assert_eq!(read.is_ok(), early && length.is_empty(), "{early} {length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_request_closes_its_connection() {
    let (connection, mut wire, shelf) = client();
    let (frames, body) = channel();
    frames.send(Ok(Frame::data("abc".into()))).unwrap();
    frames.send(Err("it fell".into())).unwrap();
    let (lost, text) = tokio::join!(send(connection, post(body), &shelf), wire.rest());
    assert!(matches!(lost.unwrap_err().error, Error::Request(_)));
    assert!(!text.contains("0\r\n\r\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn interim_responses_arrive_in_order_and_a_flood_is_cut() {
    let (connection, mut wire, shelf) = client();
    let (sender, receiver) = interim::channel();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    };
    let sending = client::send(connection, http::Request::default().map(|()| Body::empty()), shelf, &sender);
    let (response, ()) = tokio::join!(sending, answering);
    assert!(response.is_ok());
    let heads = receiver.take(&std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [103, 102]);

    let (connection, mut wire, shelf) = client();
    let flood = async {
        wire.until("\r\n\r\n").await;
        wire.send(&"HTTP/1.1 102 P\r\n\r\n".repeat(defaults::INTERIM + 1)).await;
    };
    let (lost, ()) =
        tokio::join!(send(connection, http::Request::default().map(|()| Body::empty()), &shelf), flood);
    let error = lost.unwrap_err().error;
    assert!(matches!(error, Error::Interims) && error.to_string().contains("32"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_an_oversized_answer_names_the_limit() {
    let (connection, mut wire, shelf) = client();
    let answering = async {
        wire.until("\r\n\r\n").await;
        let fields = "A: b\r\n".repeat(defaults::H1_FIELDS + 1);
        wire.send(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await;
    };
    let request = http::Request::default().map(|()| Body::empty());
    let (lost, ()) = tokio::join!(send(connection, request, &shelf), answering);
    let error = lost.unwrap_err().error;
    assert!(matches!(error, Error::Head(BadHead::Fields)) && error.to_string().contains("512"), "{error}");
    assert!(error.is_invalid());
}

#[tokio::test(start_paused = true)]
async fn a_101_hands_over_the_stream_with_its_early_bytes() {
    let (connection, mut wire, shelf) = client();
    let answering = async {
        wire.until("\r\n\r\n").await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly").await;
        assert_eq!(wire.until("late").await, "late");
    };
    let requesting = async {
        let request = http::Request::default().map(|()| Body::empty());
        let mut response = send(connection, request, &shelf).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut stream = Tunnel::take(response.extensions_mut()).unwrap().await.unwrap();
        let mut early = [0; 5];
        stream.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        stream.write_all(b"late").await.unwrap();
        stream
    };
    let _stream = tokio::join!(answering, requesting).1;
    assert!(shelf.is_empty());
}

/// A stream whose far end has closed it, which only a write detects.
struct Broken(bool);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl tokio::io::AsyncWrite for Broken {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0 = true;
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_returned_only_with_its_whole_body() {
    let lost = async |request| {
        let connection = Connection::new(Io::other(Broken(false)));
        send(connection, request, &Shelf::default()).await.unwrap_err()
    };
    assert!(lost(post(Body::full("abc"))).await.unsent.is_none(), "its body was taken");
    let (frames, body) = channel();
    let request = *lost(post(body)).await.unsent.expect("nothing of it was taken");
    frames.send(Ok(Frame::data("abc".into()))).unwrap();
    drop(frames);
    assert_eq!(text_of(request.into_body()).await, "abc");
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    assert!(lost(request).await.unsent.is_some(), "it has no body");
}

#[tokio::test(start_paused = true)]
async fn a_connection_survives_a_broken_request_that_wrote_nothing() {
    let (connection, _wire, shelf) = client();
    let (frames, body) = channel();
    frames.send(Ok(Frame::data("abc".into()))).unwrap();
    let mut request = post(body);
    request.headers_mut().insert("content-length", "0".parse().unwrap());
    assert!(matches!(send(connection, request, &shelf).await.unwrap_err().error, Error::Request(_)));
    assert!(!shelf.is_empty());
}

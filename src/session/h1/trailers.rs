//! Trailers behind the chunks that hyper writes. hyper writes those alone that the head names, and a server's not
//! without `TE: trailers`; why they pass all the same, see [`crate::message::trailers`].
//!
//! A body with trailers waits at its end until hyper has handed over all that came before them. What hyper hands over
//! next is the last chunk and nothing else, and the connection sends the one with the trailers in its place
//! ([`Inserts::end_with`]). Where the body is not in chunks hyper hands over no such thing, and they are dropped.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::message::{Body, BoxError, trailers};
use crate::net::inserts::Inserts;

/// A body on its way to hyper.
#[derive(Debug)]
pub(crate) struct Trailing {
    body: Body,
    /// Of the connection that it is sent on.
    inserts: Option<Inserts>,
    /// What hyper's last chunk becomes.
    last: Option<Bytes>,
}

impl Trailing {
    /// A body that is sent on the connection of `inserts`. Without them its trailers are left to hyper.
    pub(crate) fn new(body: Body, inserts: Option<&Inserts>) -> Self {
        // Behind a length there is no place for trailers.
        let inserts = inserts.filter(|_| body.size_hint().exact().is_none()).cloned();
        Self { body, inserts, last: None }
    }

    /// The body, of which nothing was sent.
    pub(crate) fn into_inner(self) -> Body {
        self.body
    }
}

impl HttpBody for Trailing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(inserts) = &this.inserts else { return Pin::new(&mut this.body).poll_frame(cx) };
        if this.last.is_none() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            let trailers = match frame.map(|frame| frame.map(Frame::into_trailers)) {
                Some(Ok(Ok(trailers))) => trailers,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            this.last = trailers::last_chunk(trailers);
            if this.last.is_none() {
                return Poll::Ready(None);
            }
            inserts.put(b"");
            // hyper may have looked whether there is something to flush before it came here.
            cx.waker().wake_by_ref();
        }
        ready!(inserts.poll_emptied(cx));
        if let Some(last) = this.last.take() {
            inserts.end_with(last);
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::StreamExt;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Incoming;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc::{self, UnboundedSender};

    use super::*;
    use crate::defaults;
    use crate::net::io::{Duplex, Tcp};
    use crate::net::{Io, Scope};

    /// The end of a body that is not sent yet.
    type Later = Arc<Mutex<Option<UnboundedSender<Frame<Bytes>>>>>;

    /// hyper gathers what it writes in one buffer where the connection takes no slices, and in several where it does.
    async fn connections() -> [(Box<dyn Duplex>, Io); 2] {
        let (far, near) = tokio::io::duplex(7);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tcp, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        [(Box::new(far), Io::other(near)), (Box::new(tcp.unwrap()), Io::plain(Tcp::new(accepted.unwrap().0)))]
    }

    fn trailers() -> Frame<Bytes> {
        Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("294"))]))
    }

    /// A body of what is sent.
    fn body() -> (UnboundedSender<Frame<Bytes>>, Body) {
        let (frames, mut taken) = mpsc::unbounded_channel();
        let stream = futures_util::stream::poll_fn(move |cx| taken.poll_recv(cx));
        (frames, Body::wrap(StreamBody::new(stream.map(Ok::<_, Infallible>))))
    }

    /// Reads until `end`.
    async fn until(io: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = tokio::time::timeout(std::time::Duration::from_secs(10), io.read_u8()).await;
            read.push(byte.unwrap_or_else(|_| panic!("no {end:?} behind {read:?}")).unwrap());
        }
        String::from_utf8(read).unwrap()
    }

    /// Answers each request with "abc" and trailers; those of `/later` are `later`'s to send.
    async fn serve(mut io: Io, later: Later) {
        let inserts = io.inserts();
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let (frames, body) = body();
            frames.send(Frame::data("abc".into())).unwrap();
            match request.uri().path() {
                "/later" => *later.lock() = Some(frames),
                _ => frames.send(trailers()).unwrap(),
            }
            let response = Response::new(Trailing::new(body, Some(&inserts)));
            async { Ok::<_, Infallible>(response) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.auto_date_header(false).serve_connection(TokioIo::new(io), service).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_writes_them_and_goes_on() {
        for (mut far, near) in connections().await {
            let later = Later::default();
            let (mut from, mut to) = tokio::io::split(&mut far);
            // The second is there before the first is answered.
            let ask =
                to.write_all(b"GET / HTTP/1.1\r\n\r\nGET /later HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n");
            let hear = async {
                for _ in 0..2 {
                    assert!(until(&mut from, "\r\n\r\n").await.contains("transfer-encoding: chunked"));
                    assert_eq!(until(&mut from, "abc\r\n").await, "3\r\nabc\r\n");
                    if let Some(frames) = later.lock().take() {
                        frames.send(trailers()).unwrap();
                    }
                    assert_eq!(until(&mut from, "\r\n\r\n").await, "0\r\nx-sum: 294\r\n\r\n");
                }
                // Without chunks there is no place for them.
                let (head, mut rest) = (until(&mut from, "\r\n\r\n").await, String::new());
                assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
                from.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "abc");
            };
            let (asked, (), ()) = tokio::join!(ask, hear, serve(near, later.clone()));
            asked.unwrap();
        }
    }

    #[tokio::test]
    async fn hyper_is_made_to_flush_once_more() {
        for (mut far, mut near) in connections().await {
            let inserts = near.inserts();
            let service = hyper::service::service_fn(move |_: Request<Incoming>| {
                let mut polls = 0;
                // The trailers come when hyper has flushed the rest, and looks a last time before it sleeps.
                let stream = futures_util::stream::poll_fn(move |_| {
                    polls += 1;
                    match polls {
                        1 => Poll::Ready(Some(Ok::<_, Infallible>(Frame::data("abc".into())))),
                        2 => Poll::Pending,
                        _ => Poll::Ready(Some(Ok(trailers()))),
                    }
                });
                let body = Body::wrap(StreamBody::new(stream));
                let response = Response::new(Trailing::new(body, Some(&inserts)));
                async { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            let served = builder.auto_date_header(false).serve_connection(TokioIo::new(near), service);
            // On a task of its own: nothing else makes it run again.
            let scope = Scope::new();
            scope.spawn(async move { served.await.unwrap() });
            far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            until(&mut far, "0\r\nx-sum: 294\r\n\r\n").await;
        }
    }

    #[tokio::test]
    async fn a_client_writes_them_and_goes_on() {
        for (mut far, mut near) in connections().await {
            let inserts = near.inserts();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
            let ask = async {
                for _ in 0..2 {
                    let (frames, body) = body();
                    frames.send(Frame::data("abc".into())).unwrap();
                    frames.send(trailers()).unwrap();
                    let request = Request::post("/").body(Trailing::new(body, Some(&inserts))).unwrap();
                    sender.ready().await.unwrap();
                    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
                }
                drop(sender);
            };
            let answer = async {
                for _ in 0..2 {
                    assert!(until(&mut far, "\r\n\r\n").await.contains("transfer-encoding: chunked"));
                    assert_eq!(until(&mut far, "\r\n\r\n").await, "3\r\nabc\r\n0\r\nx-sum: 294\r\n\r\n");
                    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            };
            let ((), (), connection) = tokio::join!(ask, answer, connection);
            connection.unwrap();
        }
    }
    #[tokio::test]
    async fn hyper_takes_the_most_that_is_sent() {
        let value = |length| HeaderValue::from_bytes(&vec![b'a'; length]).unwrap();
        let field = |number: usize, length| (format!("x{number:03}").parse().unwrap(), value(length));
        let rest = defaults::TRAILERS - b"0\r\n\r\n".len();
        let each = rest / defaults::TRAILER_FIELDS - b"x000: \r\n".len();
        for (fields, length) in [(1, rest - b"x000: \r\n".len()), (defaults::TRAILER_FIELDS, each)] {
            let (near, far) = tokio::io::duplex(1 << 10);
            let mut near = Io::other(near);
            let inserts = near.inserts();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                let got = request.into_body().collect().await?;
                let count = got.trailers().map_or(0, HeaderMap::len);
                Ok::<_, hyper::Error>(
                    Response::builder().header("x-count", count).body(Body::empty()).unwrap(),
                )
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
            let ask = async move {
                let (frames, body) = body();
                let all = HeaderMap::from_iter((0..fields).map(|number| field(number, length)));
                frames.send(Frame::trailers(all)).unwrap();
                let request = Request::post("/").body(Trailing::new(body, Some(&inserts))).unwrap();
                sender.send_request(request).await.unwrap().headers()["x-count"].clone()
            };
            let (count, connection, served) = tokio::join!(ask, connection, served);
            assert_eq!(count, fields.to_string());
            connection.unwrap();
            served.unwrap();
        }
    }
}

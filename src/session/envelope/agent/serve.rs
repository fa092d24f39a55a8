//! The agent's end: one request from its envelope to the envelope of its answer.

use std::sync::Arc;

use http::HeaderValue;
use tokio::io::AsyncWriteExt;

use super::whole;
use crate::defaults;
use crate::http1::embedded::{
    EmbeddedRequest, Framing, ReadError, Reader, embed, embed_live, parse_request, request_head,
};
use crate::message::replay::Replayable;
use crate::message::spool::{SpoolRoom, Spooled};
use crate::message::{Body, Request, expect, hop, interim};
use crate::net::{Io, Scope};
use crate::session::{Handler, h1};

/// How an answer is sent to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerMode {
    /// Complete, because an intermediary holds bodies back.
    Whole,
    /// While it arrives. If the answer breaks off, its envelope breaks off too.
    Stream,
    /// While the origin makes it, for a relay that supports this: see
    /// [`PollMode::live`](crate::session::envelope::PollMode::live). If the answer breaks off, its envelope ends there
    /// without an error, so that the relay does not take the connection for broken.
    Live,
}

/// The envelope of an answer.
pub enum Answer {
    /// Complete: its length is known.
    Whole(Spooled),
    /// To be sent while it arrives.
    Stream(Replayable),
}

impl Answer {
    /// The envelope from its start; `None` for a stream that cannot be replayed ([`Replayable::body`]). Only one such
    /// body is to be read at a time.
    pub fn body(&self) -> Option<Body> {
        match self {
            Self::Whole(whole) => Some(whole.body()),
            Self::Stream(replayable) => replayable.body(),
        }
    }
}

/// Reads the request of an envelope, calls the handler, and returns the envelope of the answer. The length of the
/// envelope is known if the length of the answer is known and the envelope is not live. An answer of unknown length is
/// chunked, because trailers may follow. Dropping the future, or an envelope that is live, drops the handler's future.
///
/// With [`AnswerMode::Whole`], an answer that does not end in time, or does not fit into `room`, becomes a 502 for its
/// visitor, and an Upgrade becomes a 501.
///
/// # Errors
/// When the envelope holds no request.
pub async fn serve(
    envelope: Body,
    handler: Arc<dyn Handler>,
    scope: &Scope,
    room: &SpoolRoom,
    mode: AnswerMode,
) -> Result<Answer, ReadError> {
    let mut reader = Reader::new(envelope);
    let head = tokio::time::timeout(defaults::HEAD, reader.head(parse_request)).await;
    let head = head.unwrap_or(Err(ReadError::Broken("no complete head arrived in time".into())))?;
    let envelope = match head.upgrade.clone() {
        Some(_) if mode == AnswerMode::Whole => {
            return Ok(Answer::Whole(whole::no_upgrade(&head.headers).await));
        }
        Some(token) => upgrade(reader, head, token, handler, scope),
        None => {
            let mut request = Request::new(reader.stream(head.framing));
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = head.target;
            *request.headers_mut() = head.headers;
            match mode {
                AnswerMode::Whole => return Ok(Answer::Whole(whole::answer(request, &*handler, room).await)),
                AnswerMode::Stream => {
                    let answer = handler.call(request, interim::Sender::default()).await;
                    embed(answer, &head.method, false)
                }
                AnswerMode::Live => {
                    let demand = expect::on_demand(&mut request);
                    let (sender, receiver) = interim::channel();
                    embed_live(handler.call(request, sender), head.method, (receiver, demand)).await
                }
            }
        }
    };
    Ok(Answer::Stream(Replayable::new(envelope, defaults::ANSWER_AGAIN)))
}

/// Serves the request on a connection in memory, because only a connection can be upgraded. The bytes that come from
/// this connection are already an embedded answer, without interim responses. Behind a 101 they are the bytes of the
/// stream.
fn upgrade(
    reader: Reader,
    mut head: EmbeddedRequest,
    token: HeaderValue,
    handler: Arc<dyn Handler>,
    scope: &Scope,
) -> Body {
    hop::set_upgrade(&mut head.headers, token);
    let first = request_head(&head.method, &head.target, &head.headers, Framing::Rest(None));
    let (near, far) = tokio::io::duplex(defaults::PIPE);
    let (read, mut write) = tokio::io::split(near);
    let mut rest = reader.stream(Framing::Rest(None)).into_reader();
    scope.spawn(async move {
        // Either end may close first; the other end then sees the end of its own stream.
        if write.write_all(&first).await.is_ok() {
            let _ = tokio::io::copy(&mut rest, &mut write).await;
            let _ = write.shutdown().await;
        }
    });
    scope.spawn(async move {
        if let Err(error) = h1::serve::once(Io::other(far), handler).await {
            tracing::debug!(%error, "an upgrade in an envelope ended");
        }
    });
    Body::from_reader(read)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use http::header::CONTENT_LENGTH;
    use http_body::{Body as _, Frame};
    use http_body_util::BodyExt;

    use super::*;
    use crate::message::{BoxError, Response};
    use crate::session::handler_fn;

    async fn served(envelope: &'static str, handler: Arc<dyn Handler>) -> Result<Answer, ReadError> {
        let room = SpoolRoom::default();
        serve(Body::full(envelope), handler, &Scope::new(), &room, AnswerMode::Stream).await
    }

    async fn answered(envelope: &'static str, answer: fn() -> Response) -> String {
        let handler = handler_fn(move |request: Request| async move {
            assert_eq!(request.headers()["host"], "a.test");
            answer()
        });
        let answer = served(envelope, Arc::new(handler)).await.unwrap();
        let body = answer.body().unwrap().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_carries_its_content_length() {
        let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let answer = answered(get, || Response::new(Body::full("hey"))).await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhey");
        let head = "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let answer = answered(head, || {
            http::Response::builder().header("content-length", "7").body(Body::empty()).unwrap()
        });
        assert_eq!(answer.await, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    }

    #[tokio::test]
    async fn a_broken_answer_ends_visibly_incomplete() {
        use http_body_util::StreamBody;
        for (length, wanted) in [
            (Some("9"), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            (None, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ] {
            for mode in [AnswerMode::Live, AnswerMode::Stream] {
                let pieces = [Ok(Frame::data(Bytes::from("half"))), Err::<_, BoxError>("it fell".into())];
                let body = Body::wrap(StreamBody::new(futures_util::stream::iter(pieces)));
                let mut answer = Response::new(body);
                answer.headers_mut().extend(length.map(|n| (CONTENT_LENGTH, HeaderValue::from_static(n))));
                let envelope = embed(answer, &Method::GET, mode == AnswerMode::Live);
                assert_eq!(envelope.size_hint().exact(), None);
                match (mode, envelope.collect().await) {
                    (AnswerMode::Live, Ok(all)) => assert_eq!(all.to_bytes(), wanted),
                    (AnswerMode::Stream, Err(_)) => {}
                    (mode, all) => panic!("{mode:?}: {all:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_malformed_request_is_not_served() {
        let handler: Arc<dyn Handler> = Arc::new(handler_fn(|_| async { Response::new(Body::empty()) }));
        for bad in ["", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"] {
            assert!(served(bad, handler.clone()).await.is_err(), "{bad:?}");
        }
    }
}

//! An answer as an embedded message, after the heads of the interim responses before it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::Method;
use http::header::{CONTENT_LENGTH, TRAILER};
use http_body::{Body as _, Frame};

use super::{Coded, Framing, response_head};
use crate::http1::write::Reason;
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::expect::BodyDemand;
use crate::message::framing::is_bodiless;
use crate::message::{Body, Response, hop, interim};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer to a request with this method. `live`: if the answer breaks off, the message ends there without an error;
/// else the message breaks off too.
pub fn embed(answer: Response, method: &Method, live: bool) -> Body {
    let state = AnswerState::made(answer, method);
    Body::from_source(EmbeddedAnswer { state, ahead: BytesMut::new(), live })
}

/// An answer that is still being made, live as for [`embed`], as soon as there is something to send. Each interim
/// response before the answer is sent as soon as it arrives. Dropping the future, or the body, drops the answer's
/// future.
pub async fn embed_live(answer: BoxFuture<'static, Response>, method: Method, sources: Ahead) -> Body {
    let state = AnswerState::Awaited(answer, method, sources);
    let mut envelope = EmbeddedAnswer { state, ahead: BytesMut::new(), live: true };
    poll_fn(|cx| envelope.poll_ahead(cx)).await;
    Body::from_source(envelope)
}

/// The heads of interim responses, then the head of the answer, then its body.
struct EmbeddedAnswer {
    state: AnswerState,
    /// Heads of interim responses that are not sent yet.
    ahead: BytesMut,
    /// A body that breaks off ends the message without an error.
    live: bool,
}

/// The sources of heads before an answer: interim responses, and the demand for the body of the request.
type Ahead = (interim::Receiver, Option<Arc<BodyDemand>>);

enum AnswerState {
    /// The answer is being made. Meanwhile the body of the request may be requested.
    Awaited(BoxFuture<'static, Response>, Method, Ahead),
    /// The head, until it is sent, and the body.
    Made(Option<Bytes>, Coded),
}

impl AnswerState {
    fn made(answer: Response, method: &Method) -> Self {
        let (mut parts, mut body) = answer.into_parts();
        let _ = hop::strip(&mut parts.headers);
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let bodiless = is_bodiless(method, parts.status);
        if bodiless {
            body = Body::empty();
        }
        let length = if bodiless { announced } else { announced.or(body.size_hint().exact()) };
        let chunked = !bodiless && (length.is_none() || parts.headers.contains_key(TRAILER));
        let framing = if chunked { Framing::Chunked } else { Framing::Rest(length) };
        let status = (parts.status, parts.extensions.get::<Reason>());
        Self::Made(Some(response_head(status, &parts.headers, framing)), Coded::new(body, framing))
    }
}

impl EmbeddedAnswer {
    /// Resolves when there is something to send.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let AnswerState::Awaited(answer, method, (interim, demand)) = &mut self.state else {
            return Poll::Ready(());
        };
        let polled = answer.as_mut().poll(cx);
        for head in interim.take(cx) {
            self.ahead.extend_from_slice(&response_head(
                (head.status(), None),
                head.headers(),
                Framing::Empty,
            ));
        }
        let demanded = demand.as_ref().is_some_and(|demand| demand.take(cx));
        match polled {
            Poll::Ready(response) => self.state = AnswerState::made(response, method),
            Poll::Pending if demanded => self.ahead.extend_from_slice(CONTINUE),
            Poll::Pending if self.ahead.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(())
    }
}

impl FrameSource for EmbeddedAnswer {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if self.ahead.is_empty() {
            ready!(self.poll_ahead(cx));
        }
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.ahead.split().freeze()))));
        }
        match &mut self.state {
            AnswerState::Awaited(..) => Poll::Pending,
            AnswerState::Made(head @ Some(_), _) => {
                Poll::Ready(head.take().map(|head| Ok(Frame::data(head))))
            }
            AnswerState::Made(None, body) => match ready!(body.poll_frame(cx)) {
                Some(Err(error)) if self.live => {
                    tracing::info!(%error, "an answer broke off");
                    Poll::Ready(None)
                }
                frame => Poll::Ready(frame),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.state, AnswerState::Made(None, body) if self.ahead.is_empty() && body.is_end_stream())
    }

    fn length(&self) -> Option<u64> {
        match &self.state {
            // A live body may break off, and a message that announces its length cannot end early.
            AnswerState::Made(head, body) if !self.live => {
                body.length().map(|length| head.as_ref().map_or(0, Bytes::len) as u64 + length)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::message::{Request, expect};

    fn hints() -> interim::Head {
        let mut head = interim::Head::new(());
        *head.status_mut() = StatusCode::EARLY_HINTS;
        head
    }

    async fn next(envelope: &mut Body) -> String {
        let frame = envelope.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn interim_responses_are_written_at_once() {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (sender, receiver) = interim::channel();
        let answer = async move {
            sender.send(hints());
            sender.send(hints());
            wait.await.unwrap();
            sender.send(hints());
            Response::new(Body::full("ok"))
        };
        let mut body = embed_live(Box::pin(answer), Method::GET, (receiver, None)).await;
        assert_eq!(next(&mut body).await, "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2));
        assert!(futures_util::poll!(body.frame()).is_pending());
        go.send(()).unwrap();
        assert_eq!(next(&mut body).await, "HTTP/1.1 103 Early Hints\r\n\r\n");
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }

    #[tokio::test]
    async fn a_100_is_sent_once_and_only_if_the_body_is_read() {
        for reads in [true, false] {
            let (go, coming) = tokio::sync::oneshot::channel::<()>();
            let upload =
                futures_util::stream::once(async { coming.await.map(|()| Frame::data(Bytes::from("abc"))) });
            let mut request = Request::new(Body::wrap(http_body_util::StreamBody::new(upload)));
            request.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));
            let demand = expect::on_demand(&mut request);
            let answer = async move {
                let read =
                    if reads { request.into_body().collect().await.unwrap().to_bytes() } else { "no".into() };
                Response::new(Body::full(read))
            };
            let mut body =
                embed_live(Box::pin(answer), Method::POST, (interim::Receiver::default(), demand)).await;
            if reads {
                assert_eq!(next(&mut body).await.as_bytes(), CONTINUE);
                go.send(()).unwrap();
            }
            let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            assert!(
                rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with(if reads { "abc" } else { "no" })
            );
        }
    }
}

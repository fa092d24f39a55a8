//! An answer that is sent while it is made. Each interim response before the answer is sent as soon as it arrives.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http::Method;
use http_body::{Body as _, Frame};

use super::embed::{AnswerMode, embed};
use crate::http1::embedded::{Framing, response_head};
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::expect::BodyDemand;
use crate::message::{Body, Response, interim};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The envelope of an answer that is still being made, and the interim responses before it.
struct Live {
    state: AnswerState,
    /// Heads of interim responses that are not sent yet.
    ahead: BytesMut,
}

/// The sources of heads before an answer: interim responses, and the demand for the body of the request.
pub(super) type Ahead = (interim::Receiver, Option<Arc<BodyDemand>>);

enum AnswerState {
    /// The answer is being made. Meanwhile the body of the request may be requested.
    Awaited(BoxFuture<'static, Response>, Method, Ahead),
    Embedded(Body),
}

/// The envelope of an answer to a request with `method`, as soon as there is something to send. Dropping the future, or
/// the body, drops the answer's future.
pub(super) async fn envelope(answer: BoxFuture<'static, Response>, method: Method, ahead: Ahead) -> Body {
    let mut live = Live { state: AnswerState::Awaited(answer, method, ahead), ahead: BytesMut::new() };
    poll_fn(|cx| live.poll_ahead(cx)).await;
    match live {
        Live { state: AnswerState::Embedded(body), ahead } if ahead.is_empty() => body,
        live => Body::from_source(live),
    }
}

impl Live {
    /// Resolves when there is something to send.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let AnswerState::Awaited(answer, method, (interim, demand)) = &mut self.state else {
            return Poll::Ready(());
        };
        let polled = answer.as_mut().poll(cx);
        for head in interim.take(cx) {
            self.ahead.extend_from_slice(&response_head(head.status(), head.headers(), Framing::Empty));
        }
        let demanded = demand.as_ref().is_some_and(|demand| demand.take(cx));
        match polled {
            Poll::Ready(response) => {
                self.state = AnswerState::Embedded(embed(response, method, AnswerMode::Live));
            }
            Poll::Pending if demanded => self.ahead.extend_from_slice(CONTINUE),
            Poll::Pending if self.ahead.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(())
    }
}

impl FrameSource for Live {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if self.ahead.is_empty() {
            ready!(self.poll_ahead(cx));
        }
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.ahead.split().freeze()))));
        }
        match &mut self.state {
            AnswerState::Embedded(body) => Pin::new(body).poll_frame(cx),
            AnswerState::Awaited(..) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.state, AnswerState::Embedded(body) if self.ahead.is_empty() && body.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
        let mut body = envelope(Box::pin(answer), Method::GET, (receiver, None)).await;
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
                envelope(Box::pin(answer), Method::POST, (interim::Receiver::default(), demand)).await;
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

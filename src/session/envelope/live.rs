//! An answer as it is made: interim responses in front of it, each as soon as it is said.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::Method;
use http_body::{Body as HttpBody, Frame};

use super::serve::{Way, embed};
use crate::message::embedded::{Framing, response_head};
use crate::message::{Body, BoxError, Response, interim};

/// The envelope of an answer that is still being made, and what is in front of it.
struct Live {
    made: Made,
    /// Heads that are not sent yet.
    ahead: BytesMut,
}

enum Made {
    Awaited(BoxFuture<'static, Response>, Method),
    Embedded(Body),
}

/// The envelope of an answer to a request with `method`, as soon as there is something to send. Dropping the future, or
/// the body, drops the answer's future.
pub(super) async fn envelope(answer: BoxFuture<'static, Response>, method: Method) -> Body {
    let mut live = Live { made: Made::Awaited(answer, method), ahead: BytesMut::new() };
    poll_fn(|cx| live.poll_ahead(cx)).await;
    match live {
        Live { made: Made::Embedded(body), ahead } if ahead.is_empty() => body,
        live => Body::wrap(live),
    }
}

impl Live {
    /// Resolves when there is something to send.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Made::Awaited(answer, method) = &mut self.made else { return Poll::Ready(()) };
        let (polled, said) = interim::collect(|| answer.as_mut().poll(cx));
        for head in said {
            self.ahead.extend_from_slice(&response_head(head.status(), head.headers(), Framing::Empty));
        }
        match polled {
            Poll::Ready(response) => self.made = Made::Embedded(embed(response, method, Way::Live)),
            Poll::Pending if self.ahead.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(())
    }
}

impl HttpBody for Live {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ahead.is_empty() {
            ready!(self.poll_ahead(cx));
        }
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.ahead.split().freeze()))));
        }
        match &mut self.made {
            Made::Embedded(body) => Pin::new(body).poll_frame(cx),
            Made::Awaited(..) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.made, Made::Embedded(body) if self.ahead.is_empty() && body.is_end_stream())
    }
}

//! The single body type that all parts of this crate exchange.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::defaults;

/// Any error, for bodies and services.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Values that are kept until a body has ended or is dropped: slots, counts, permits.
type Guard = Box<dyn Any + Send>;

/// Measures one body. The meter is dropped when the body has ended or is dropped.
pub trait Meter: Send {
    /// A frame with this many bytes was taken. `last`: no data follows.
    fn passed(&mut self, bytes: usize, last: bool);

    /// The body broke off.
    fn broke(&mut self) {}
}

/// A streaming body. It may hold values until its last frame was taken, or until it is dropped.
#[derive(Default)]
pub struct Body {
    kind: BodyKind,
    hold: Option<Guard>,
    meter: Option<Box<dyn Meter>>,
}

#[derive(Default)]
enum BodyKind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Stream(Http2Stream),
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
    /// The body broke off; the next poll returns the error.
    Broken(BoxError),
}

impl BodyKind {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Broken(_) => false,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.receiver.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

/// The body received on an HTTP/2 stream.
struct Http2Stream {
    receiver: h2::RecvStream,
    data_done: bool,
    /// The number of bytes still to come, if a length was announced.
    left: Option<u64>,
}

impl Http2Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_done {
            match ready!(self.receiver.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Data that is passed on counts as consumed: its receiver has bounds of its own.
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    let released = self.receiver.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(data))));
                }
                // RFC 9113 §8.1: the far end has sent its complete answer, and wants no more of the upload.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.receiver.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl From<h2::RecvStream> for Body {
    fn from(receiver: h2::RecvStream) -> Self {
        Self::from(BodyKind::Stream(Http2Stream { receiver, data_done: false, left: None }))
    }
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::from(BodyKind::Full(bytes.into()))
    }

    /// The body received on an HTTP/2 stream, with the length that its head announces, if any.
    pub fn received(receiver: h2::RecvStream, length: Option<u64>) -> Self {
        Self::from(BodyKind::Stream(Http2Stream { receiver, data_done: false, left: length }))
    }

    /// Any other body, boxed.
    pub fn wrap<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::from(BodyKind::Other(Box::pin(body.map_err(Into::into))))
    }

    /// Keeps `value` until this body has ended or is dropped, beside the values that it keeps already.
    pub fn hold(&mut self, value: impl Any + Send) {
        self.hold = Some(match self.hold.take() {
            Some(earlier) => Box::new((earlier, value)),
            None => Box::new(value),
        });
    }

    /// Measures this body with `meter`, which is dropped when the body has ended or is dropped.
    pub fn measure(&mut self, meter: Box<dyn Meter>) {
        self.meter = Some(meter);
    }

    /// Calls `look` after each poll of this body, with the number of bytes that the poll returned.
    #[must_use]
    pub fn watched(self, look: impl FnMut(Poll<usize>) + Send + Unpin + 'static) -> Self {
        Self::wrap(WatchedBody { body: self, look })
    }

    /// Reads and discards the rest of an unwanted upload, because some visitors treat an upload that is cut after an
    /// answer as a failure. Bytes and time are limited; a longer upload is cut nevertheless. Dropping the future cuts
    /// the upload.
    pub async fn linger(mut self) {
        let rest = async {
            let mut left = defaults::LINGER_BYTES;
            while let Some(Ok(frame)) = self.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(defaults::LINGER, rest).await;
    }
}

struct WatchedBody<F> {
    body: Body,
    look: F,
}

impl<F: FnMut(Poll<usize>) + Unpin> HttpBody for WatchedBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let data = |frame: &Option<Result<Frame<Bytes>, _>>| {
            frame.as_ref()?.as_ref().ok()?.data_ref().map(Bytes::len)
        };
        (self.look)(match &polled {
            Poll::Ready(frame) => Poll::Ready(data(frame).unwrap_or(0)),
            Poll::Pending => Poll::Pending,
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<BodyKind> for Body {
    fn from(kind: BodyKind) -> Self {
        Self { kind, hold: None, meter: None }
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self::from(BodyKind::Incoming(body))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match &mut self.kind {
            BodyKind::Broken(_) => {
                let BodyKind::Broken(error) = std::mem::take(&mut self.kind) else {
                    return Poll::Ready(None);
                };
                self.hold = None;
                return Poll::Ready(Some(Err(error)));
            }
            BodyKind::Empty => Poll::Ready(None),
            BodyKind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            BodyKind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            BodyKind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            BodyKind::Stream(stream) => stream.poll_frame(cx).map_err(Into::into),
            BodyKind::Other(body) => body.as_mut().poll_frame(cx),
        };
        match polled {
            Poll::Ready(None) => {
                self.hold = None;
                if let Some(mut meter) = self.meter.take() {
                    meter.passed(0, true);
                }
                Poll::Ready(None)
            }
            // On an error hyper closes the connection and drops its unwritten bytes. The error is returned one poll
            // later, when hyper has written all earlier bytes. So the far end receives a request that breaks off, and
            // does not treat the connection as bad.
            Poll::Ready(Some(Err(error))) => {
                self.kind = BodyKind::Broken(error);
                if let Some(mut meter) = self.meter.take() {
                    meter.broke();
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                let last = self.meter.is_some() && self.kind.is_end_stream();
                if let Some(meter) = &mut self.meter {
                    meter.passed(frame.data_ref().map_or(0, Bytes::len), last);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            polled @ Poll::Pending => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Empty => SizeHint::with_exact(0),
            BodyKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodyKind::Incoming(body) => body.size_hint(),
            BodyKind::Stream(stream) if stream.receiver.is_end_stream() => SizeHint::with_exact(0),
            BodyKind::Stream(Http2Stream { left: Some(left), .. }) => SizeHint::with_exact(*left),
            BodyKind::Stream(_) | BodyKind::Broken(_) => SizeHint::default(),
            BodyKind::Other(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_frees_its_held_values_at_its_end() {
        let token = Arc::new(());
        let mut body = Body::full("abc");
        body.hold(token.clone());
        body.hold(token.clone());
        assert_eq!(Arc::strong_count(&token), 3);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "abc");
        assert_eq!(Arc::strong_count(&token), 3);
        assert!(body.frame().await.is_none());
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn a_body_frees_its_held_values_when_it_is_dropped() {
        let token = Arc::new(());
        let mut body = Body::full("abc");
        body.hold(token.clone());
        drop(body);
        assert_eq!(Arc::strong_count(&token), 1);
    }
}

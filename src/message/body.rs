//! The single body type that all parts of this crate exchange: a source of frames, and the observers of those frames.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyDataStream, BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tokio::io::AsyncRead;
use tokio::sync::oneshot;
use tokio_util::io::{ReaderStream, StreamReader};

use super::http2::Http2Body;
use crate::defaults;

/// Any error, for bodies and services.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Values that are kept until a body has ended or is dropped: slots, counts, permits.
type Guard = Box<dyn Any + Send>;

/// The result of polling a [`FrameSource`].
pub type PolledFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// Makes the frames of a body.
pub trait FrameSource: Send {
    /// As [`HttpBody::poll_frame`]. Not called again after `None` or an error.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame;

    /// Resolves when the next frame has arrived, or the end of the body, without being requested. Unlike a poll for the
    /// frame, this sends no 100 to a client that waits for a 100 (RFC 9110 §10.1.1). A source that is not read from a
    /// client never resolves.
    fn poll_arrived(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Whether the next frame is known to be `None`.
    fn is_end_stream(&self) -> bool {
        false
    }

    /// The number of bytes still to come, if it is known.
    fn length(&self) -> Option<u64> {
        None
    }
}

/// The result of one poll of a body, for its observers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEvent {
    /// The source has no frame yet.
    Pending,
    /// A frame with this many bytes of data was taken. `last`: no frame follows.
    Frame {
        /// Bytes of data; 0 for trailers.
        bytes: usize,
        /// Whether the body has ended with this frame.
        last: bool,
    },
    /// The body has ended.
    End,
    /// The body broke off.
    Broken,
}

/// Observes each poll of one body. An observer is dropped when the body has ended, has broken off, or is dropped.
pub trait Observer: Send {
    /// Called before each poll of the source.
    ///
    /// # Errors
    /// The body breaks off with this error, and the source is not polled.
    fn before(&mut self, _cx: &mut Context<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called with the result of each poll.
    fn event(&mut self, event: BodyEvent);
}

impl<F: FnMut(BodyEvent) + Send> Observer for F {
    fn event(&mut self, event: BodyEvent) {
        self(event);
    }
}

/// The earlier observers of a body, and the latest.
struct ObserverPair(Box<dyn Observer>, Box<dyn Observer>);

impl Observer for ObserverPair {
    fn before(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        self.0.before(cx)?;
        self.1.before(cx)
    }

    fn event(&mut self, event: BodyEvent) {
        self.0.event(event);
        self.1.event(event);
    }
}

/// A streaming body. It may hold values until its last frame was taken, or until it is dropped.
#[derive(Default)]
pub struct Body {
    kind: BodyKind,
    observer: Option<Box<dyn Observer>>,
    hold: Option<Guard>,
    /// Boxed, because few bodies are limited or watched.
    control: Option<Box<BodyControl>>,
}

/// The limit of a body, and the reason for which it breaks off.
#[derive(Default)]
struct BodyControl {
    /// The most bytes that the body may still have.
    left: Option<u64>,
    verdict: BodyVerdict,
}

#[derive(Default)]
enum BodyKind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Stream(Http2Body),
    Source(Box<dyn FrameSource>),
    /// A body of another crate.
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
    /// The body broke off; the next poll returns the error.
    Broken(BoxError),
}

impl BodyKind {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Stream(stream) => stream.poll_frame(cx),
            Self::Source(source) => source.poll_frame(cx),
            Self::Other(body) => body.as_mut().poll_frame(cx),
            Self::Broken(_) => match std::mem::take(self) {
                Self::Broken(error) => Poll::Ready(Some(Err(error))),
                _ => Poll::Ready(None),
            },
        }
    }

    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Stream(stream) => stream.poll_arrived(cx),
            Self::Source(source) => source.poll_arrived(cx),
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Broken(_) => false,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Source(source) => source.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

/// Why a received body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBody {
    /// The body is longer than its limit.
    #[error("the body is longer than it may be")]
    TooLong,
    /// More trailers than a message may have.
    #[error(
        "the body has more than {} trailer fields, or more than {} bytes of them",
        defaults::TRAILER_FIELDS,
        defaults::TRAILERS
    )]
    Trailers,
    /// The trailers are not valid in HTTP/2 (RFC 9113 §8.2.1).
    #[error("the value of a trailer field begins or ends with a blank")]
    Malformed,
    /// The chunked coding is broken (RFC 9112 §7.1), or has too many extensions.
    #[error("the chunked coding of its body is malformed")]
    Chunk,
}

/// Why a body broke off, if it was refused. Clones belong to the same body.
#[derive(Debug, Clone, Default)]
pub struct BodyVerdict(Arc<OnceLock<RefusedBody>>);

impl BodyVerdict {
    /// The reason, once the body has broken off for it.
    pub fn get(&self) -> Option<RefusedBody> {
        self.0.get().copied()
    }
}

impl From<h2::RecvStream> for Body {
    fn from(receiver: h2::RecvStream) -> Self {
        Self::from(BodyKind::Stream(Http2Body::of_answer(receiver)))
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

    /// The body of a request on an HTTP/2 stream, with the length that its head announces, if any. If the body is
    /// dropped before its end, `unread` gets the stream.
    pub(crate) fn received(
        receiver: h2::RecvStream,
        length: Option<u64>,
        unread: Option<oneshot::Sender<h2::RecvStream>>,
    ) -> Self {
        Self::from(BodyKind::Stream(Http2Body::of_request(receiver, length, unread)))
    }

    /// A body of the frames that `source` makes.
    pub(crate) fn from_source(source: impl FrameSource + 'static) -> Self {
        Self::from(BodyKind::Source(Box::new(source)))
    }

    /// A body that breaks off at once.
    pub(crate) fn broken(error: BoxError) -> Self {
        Self::from(BodyKind::Broken(error))
    }

    /// A body of another crate, boxed.
    pub fn wrap<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::from(BodyKind::Other(Box::pin(body.map_err(Into::into))))
    }

    /// A body of the bytes that `read` yields.
    pub(crate) fn from_reader(read: impl AsyncRead + Send + 'static) -> Self {
        Self::wrap(StreamBody::new(ReaderStream::new(read).map(|read| read.map(Frame::data))))
    }

    /// A reader of the data of this body.
    pub(crate) fn into_reader(self) -> impl AsyncRead + Send + Unpin {
        StreamReader::new(BodyDataStream::new(self).map(|data| data.map_err(std::io::Error::other)))
    }

    /// Keeps `value` until this body has ended or is dropped, beside the values that it keeps already.
    pub(crate) fn hold(&mut self, value: impl Any + Send) {
        self.hold = Some(match self.hold.take() {
            Some(earlier) => Box::new((earlier, value)),
            None => Box::new(value),
        });
    }

    /// Adds an observer behind the observers that this body has already.
    pub(crate) fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(match self.observer.take() {
            Some(earlier) => Box::new(ObserverPair(earlier, observer)),
            None => observer,
        });
    }

    /// Breaks this body off once it has more than `most` bytes, so that it never looks complete. A body has one limit;
    /// the latest replaces an earlier limit.
    pub fn limit(&mut self, most: u64) {
        self.control.get_or_insert_default().left = Some(most);
    }

    /// Why this body breaks off, should it be refused. `None` for a body that has ended.
    pub fn verdict(&mut self) -> Option<BodyVerdict> {
        (!self.is_end_stream()).then(|| self.control.get_or_insert_default().verdict.clone())
    }

    /// Resolves when the next part of the body has arrived without being requested. See
    /// [`FrameSource::poll_arrived`].
    pub(crate) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.kind.poll_arrived(cx)
    }

    /// Polls the source, if the observers and the limit permit.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if let Some(observer) = &mut self.observer
            && let Err(error) = observer.before(cx)
        {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = self.kind.poll_frame(cx);
        if let Some(left) = self.control.as_mut().and_then(|control| control.left.as_mut())
            && let Poll::Ready(Some(Ok(frame))) = &polled
        {
            match left.checked_sub(data_length(frame) as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(RefusedBody::TooLong.into()))),
            }
        }
        polled
    }

    fn event(&mut self, event: BodyEvent) {
        if let Some(observer) = &mut self.observer {
            observer.event(event);
        }
    }
}

fn data_length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

impl From<BodyKind> for Body {
    fn from(kind: BodyKind) -> Self {
        Self { kind, observer: None, hold: None, control: None }
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        if matches!(self.kind, BodyKind::Broken(_)) {
            return std::mem::take(&mut *self).kind.poll_frame(cx);
        }
        match self.poll_source(cx) {
            Poll::Ready(None) => {
                self.event(BodyEvent::End);
                *self = Self::empty();
                Poll::Ready(None)
            }
            // On an error hyper closes the connection and drops its unwritten bytes, and h2 drops the unwritten frames
            // of the stream. The error is returned one poll later, when earlier bytes are written. So the far end
            // receives a message that breaks off, and does not treat the connection as bad.
            Poll::Ready(Some(Err(error))) => {
                if let (Some(control), Some(bad)) = (&self.control, error.downcast_ref::<RefusedBody>()) {
                    let _ = control.verdict.0.set(*bad);
                }
                self.event(BodyEvent::Broken);
                *self = Self { kind: BodyKind::Broken(error), hold: self.hold.take(), ..Self::empty() };
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if self.observer.is_some() {
                    let (bytes, last) = (data_length(&frame), self.kind.is_end_stream());
                    self.event(BodyEvent::Frame { bytes, last });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                self.event(BodyEvent::Pending);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let length = match &self.kind {
            BodyKind::Empty => Some(0),
            BodyKind::Full(bytes) => Some(bytes.len() as u64),
            BodyKind::Incoming(body) => return body.size_hint(),
            BodyKind::Stream(stream) => stream.length(),
            BodyKind::Source(source) => source.length(),
            BodyKind::Other(body) => return body.size_hint(),
            BodyKind::Broken(_) => None,
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_beyond_its_limit_breaks_off_and_keeps_the_reason() {
        let mut body = Body::full("abc");
        body.limit(2);
        let verdict = body.verdict().unwrap();
        assert!(verdict.get().is_none() && body.frame().await.unwrap().is_err());
        assert_eq!(verdict.get(), Some(RefusedBody::TooLong));
        assert!(Body::empty().verdict().is_none());
    }

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

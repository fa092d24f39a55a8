//! An answer that can be sent again. A connection may have ended just when the agent used it, and the relay takes one
//! answer for each request, however often the answer is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use parking_lot::Mutex;

use crate::defaults;
use crate::message::Body;
use crate::message::body::{FrameSource, PolledFrame};

/// See the module.
pub struct Replayable(Arc<Mutex<ReplaySource>>);

struct ReplaySource {
    /// The pieces that were read from `rest`; `None` when they have become too large, or when `rest` broke off.
    taken: Option<Vec<Bytes>>,
    size: usize,
    rest: Body,
}

impl Replayable {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(ReplaySource { taken: Some(Vec::new()), size: 0, rest: body })))
    }

    /// The body from its start; `None` when the body broke off, or when more than [`defaults::ANSWER_AGAIN`] bytes were
    /// read. Only one such body is to be read at a time.
    pub fn body(&self) -> Option<Body> {
        self.0.lock().taken.as_ref()?;
        Some(Body::from_source(ReplayBody { source: self.0.clone(), next: 0 }))
    }
}

struct ReplayBody {
    source: Arc<Mutex<ReplaySource>>,
    next: usize,
}

impl FrameSource for ReplayBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let source = self.source.clone();
        let mut source = source.lock();
        if let Some(data) = source.taken.as_ref().and_then(|taken| taken.get(self.next)) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        let polled = ready!(Pin::new(&mut source.rest).poll_frame(cx));
        if let Some(Err(_)) = &polled {
            // A body that broke off must not look complete the next time.
            source.taken = None;
        } else if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            source.size += data.len();
            self.next += 1;
            match source.size <= defaults::ANSWER_AGAIN {
                true => source.taken.iter_mut().for_each(|taken| taken.push(data.clone())),
                false => source.taken = None,
            }
        }
        if polled.is_none() || source.rest.is_end_stream() {
            // `rest` holds a connection to the origin, which other requests need.
            source.rest = Body::empty();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.lock();
        let replayed = source.taken.as_ref().is_none_or(|taken| self.next >= taken.len());
        replayed && source.rest.is_end_stream()
    }

    fn length(&self) -> Option<u64> {
        let source = self.source.lock();
        let pending = source.taken.iter().flat_map(|taken| taken.iter().skip(self.next));
        let pending: usize = pending.map(Bytes::len).sum();
        source.rest.size_hint().exact().map(|rest| rest + pending as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::message::BoxError;

    fn body(pieces: &'static [&'static str]) -> Body {
        let frames =
            pieces.iter().map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn replayed_pieces_precede_the_rest() {
        let replayable = Replayable::new(body(&["one", "two", "three"]));
        let mut first = replayable.body().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
        drop(first);
        let all = replayable.body().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(all, "onetwothree");
        let (mut whole, lease) = (Body::full("abc"), Arc::new(()));
        whole.hold(lease.clone());
        let sized = Replayable::new(whole);
        let mut first = sized.body().unwrap();
        assert_eq!(first.size_hint().exact(), Some(3));
        first.frame().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&lease), 1, "the values that the body held are free with its last byte");
        drop(first);
        assert_eq!(sized.body().unwrap().size_hint().exact(), Some(3));
    }

    #[tokio::test]
    async fn a_broken_body_is_not_replayed() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"one"))), Err::<_, BoxError>("broken".into())];
        let replayable = Replayable::new(Body::wrap(StreamBody::new(futures_util::stream::iter(frames))));
        assert!(replayable.body().unwrap().collect().await.is_err());
        assert!(replayable.body().is_none());
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_not_replayed() {
        let replayable = Replayable::new(Body::full(vec![0; defaults::ANSWER_AGAIN + 1]));
        let read = replayable.body().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), defaults::ANSWER_AGAIN + 1);
        assert!(replayable.body().is_none());
    }
}

//! A body that streams and can be read again from its start, as long as it is short.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use parking_lot::Mutex;

use super::Body;
use super::body::{FrameSource, PolledFrame};

/// See the module.
pub struct Replayable(Arc<Mutex<ReplaySource>>);

struct ReplaySource {
    /// The most bytes that are kept for the next reader.
    most: usize,
    /// The pieces that were read from `rest`; `None` when they have become too large, or when `rest` broke off.
    taken: Option<Vec<Bytes>>,
    size: usize,
    rest: Body,
}

impl Replayable {
    /// A body of which `most` bytes are kept. Its unread rest stays until this value and the body of its last reader
    /// are dropped.
    pub fn new(body: Body, most: usize) -> Self {
        Self(Arc::new(Mutex::new(ReplaySource { most, taken: Some(Vec::new()), size: 0, rest: body })))
    }

    /// The body from its start; `None` when the body broke off, or when more bytes were read than are kept. Only one
    /// such body is to be read at a time.
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
            match source.size <= source.most {
                true => source.taken.iter_mut().for_each(|taken| taken.push(data.clone())),
                false => source.taken = None,
            }
        }
        if polled.is_none() || source.rest.is_end_stream() {
            // The rest may hold a connection that others need.
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
        let replayable = Replayable::new(body(&["one", "two", "three"]), 100);
        let mut first = replayable.body().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
        drop(first);
        let all = replayable.body().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(all, "onetwothree");
        let (mut whole, lease) = (Body::full("abc"), Arc::new(()));
        whole.hold(lease.clone());
        let sized = Replayable::new(whole, 100);
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
        let replayable =
            Replayable::new(Body::wrap(StreamBody::new(futures_util::stream::iter(frames))), 100);
        assert!(replayable.body().unwrap().collect().await.is_err());
        assert!(replayable.body().is_none());
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_not_replayed() {
        let replayable = Replayable::new(Body::full(vec![0; 101]), 100);
        let read = replayable.body().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), 101);
        assert!(replayable.body().is_none());
    }

    #[tokio::test]
    async fn the_rest_of_a_body_is_kept_after_its_reader() {
        let connection = Arc::new(());
        let request = || {
            let mut body = Body::full("abc");
            body.hold(connection.clone());
            let kept = Replayable::new(body, 0);
            (kept.body().unwrap(), kept)
        };
        let (body, kept) = request();
        drop(body);
        assert_eq!(Arc::strong_count(&connection), 2);
        drop(kept);
        assert_eq!(Arc::strong_count(&connection), 1);
        let (mut body, _kept) = request();
        assert_eq!(body.size_hint().exact(), Some(3));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(Arc::strong_count(&connection), 1);
    }
}

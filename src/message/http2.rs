//! The body of an HTTP/2 stream, and the rules of RFC 9113 that the h2 crate does not enforce.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::oneshot;

use super::body::{PolledFrame, RefusedBody};
use super::{BoxError, trailers};

/// Whether the value of a field begins or ends with a blank. A message with such a field is malformed (RFC 9113
/// §8.2.1).
pub(crate) fn is_malformed(fields: &HeaderMap) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields.values().map(|value| value.as_bytes()).any(|value| blank(value.first()) || blank(value.last()))
}

/// The length of a body that announces none.
const UNKNOWN: u64 = u64::MAX;

/// The body received on an HTTP/2 stream. The h2 crate checks that it has the announced length.
pub(super) struct Http2Body {
    /// `None` only during the drop.
    receiver: Option<RecvStream>,
    /// Data that was received before it was requested. Boxed, because this is rare and would enlarge every body.
    arrived: Option<Box<Result<Bytes, h2::Error>>>,
    /// The bytes of the frame that was taken last. They count against the window until the next frame is requested: a
    /// reader that cannot pass the frame on must not receive more in the meantime.
    unreleased: u32,
    /// The number of bytes still to come; [`UNKNOWN`] if no length was announced. An `Option` would enlarge every body.
    left: u64,
    /// Gets the stream back if the body is dropped before its end.
    unread: Option<oneshot::Sender<RecvStream>>,
    /// The body belongs to an answer, which is complete without its trailers.
    answer: bool,
}

impl Http2Body {
    pub(super) fn of_request(
        receiver: RecvStream,
        length: Option<u64>,
        unread: Option<oneshot::Sender<RecvStream>>,
    ) -> Self {
        let left = length.unwrap_or(UNKNOWN);
        Self { receiver: Some(receiver), arrived: None, unreleased: 0, left, unread, answer: false }
    }

    pub(super) fn of_answer(receiver: RecvStream) -> Self {
        Self {
            receiver: Some(receiver),
            arrived: None,
            unreleased: 0,
            left: UNKNOWN,
            unread: None,
            answer: true,
        }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        self.release();
        let Some(receiver) = &mut self.receiver else { return Poll::Ready(None) };
        let data = match self.arrived.take() {
            Some(arrived) => Some(*arrived),
            // After the last data this returns `None` each time.
            None => ready!(receiver.poll_data(cx)),
        };
        match data {
            Some(Ok(data)) => {
                if self.left != UNKNOWN {
                    self.left = self.left.saturating_sub(data.len() as u64);
                }
                // A frame is never as large as that (RFC 9113 §4.2).
                self.unreleased = u32::try_from(data.len()).unwrap_or(u32::MAX);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            // A reset ends no body, whatever its code: the far end may still have had bytes to send.
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                let trailers = ready!(receiver.poll_trailers(cx)).map_err(Into::into);
                Poll::Ready(trailers.transpose().and_then(|trailers| self.trailers(trailers)))
            }
        }
    }

    /// Returns the bytes of the last frame to the window. This cannot fail: the stream has received them.
    fn release(&mut self) {
        let bytes = std::mem::take(&mut self.unreleased) as usize;
        if let Some(receiver) = self.receiver.as_mut().filter(|_| bytes > 0) {
            let _ = receiver.flow_control().release_capacity(bytes);
        }
    }

    fn trailers(&self, trailers: Result<HeaderMap, BoxError>) -> Option<Result<Frame<Bytes>, BoxError>> {
        match trailers {
            Ok(trailers) if is_malformed(&trailers) => Some(Err(RefusedBody::Malformed.into())),
            Ok(trailers) if trailers::fit(&trailers) => Some(Ok(Frame::trailers(trailers))),
            Ok(_) => (!self.answer).then(|| Err(RefusedBody::Trailers.into())),
            Err(error) => Some(Err(error)),
        }
    }

    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrived.is_none()
            && let Some(receiver) = &mut self.receiver
        {
            self.arrived = ready!(receiver.poll_data(cx)).map(Box::new);
        }
        Poll::Ready(())
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.arrived.is_none() && self.receiver.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// The number of bytes still to come, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        if self.is_end_stream() { Some(0) } else { (self.left != UNKNOWN).then_some(self.left) }
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.release();
        let (Some(unread), Some(mut receiver)) = (self.unread.take(), self.receiver.take()) else { return };
        if let Some(Ok(data)) = self.arrived.take().map(|arrived| *arrived) {
            let _ = receiver.flow_control().release_capacity(data.len());
        }
        if !receiver.is_end_stream() {
            // If nobody waits for the stream, it is dropped, and reset.
            let _ = unread.send(receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::hop::tests::map;

    #[test]
    fn a_blank_at_either_end_of_a_value_is_malformed() {
        for (value, malformed) in [
            ("a", false),
            ("", false),
            ("a b", false),
            (" a", true),
            ("a ", true),
            ("\ta", true),
            ("a\t", true),
        ] {
            assert_eq!(is_malformed(&map(&[("x", "1"), ("x-a", value)])), malformed, "{value:?}");
        }
    }
}

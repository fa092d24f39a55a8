//! The envelope of an answer.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, TRAILER};
use http_body::{Body as _, Frame};

use crate::http1::embedded::{Coded, Framing, response_head};
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::framing::is_bodiless;
use crate::message::{Body, Response, hop};

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
pub(super) fn embed(answer: Response, method: &Method, mode: AnswerMode) -> Body {
    let (mut parts, mut body) = answer.into_parts();
    let _ = hop::strip(&mut parts.headers);
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let bodiless = is_bodiless(method, parts.status);
    if bodiless {
        body = Body::empty();
    }
    let length = if bodiless { announced } else { announced.or(body.size_hint().exact()) };
    let chunked =
        mode != AnswerMode::Whole && !bodiless && (length.is_none() || parts.headers.contains_key(TRAILER));
    let framing = if chunked { Framing::Chunked } else { Framing::Rest(length) };
    let head = response_head(parts.status, &parts.headers, framing);
    Body::from_source(Embedded {
        head: Some(head),
        body: Coded::new(body, framing),
        live: mode == AnswerMode::Live,
    })
}

/// A head, then its body.
struct Embedded {
    head: Option<Bytes>,
    body: Coded,
    /// A body that breaks off ends the envelope without an error.
    live: bool,
}

impl FrameSource for Embedded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        match self.body.poll_frame(cx) {
            Poll::Ready(Some(Err(error))) if self.live => {
                tracing::info!(%error, "an answer broke off");
                Poll::Ready(None)
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.body.is_end_stream()
    }

    fn length(&self) -> Option<u64> {
        if self.live {
            // The body may break off, and an envelope that announces its length cannot end early.
            return None;
        }
        let head = self.head.as_ref().map_or(0, Bytes::len) as u64;
        self.body.length().map(|length| head + length)
    }
}

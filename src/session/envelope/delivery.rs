//! Requests in the answer to a poll.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TRAILER, UPGRADE};
use http_body::{Body as _, Frame};

use super::continue_gate::{ContinueGate, GateOpened, gate};
use super::mailbox::ExchangeId;
use super::queue::Queue;
use super::request::{Queued, Upload};
use super::stream::poll_cut;
use super::{PollMode, UrlId};
use crate::domain::Visitor;
use crate::http1::embedded::{Coded, Framing, request_head};
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::framing::expects_length;
use crate::message::{Body, BoxError, Request, expect};
use crate::net::flag::Listener;

/// A message in memory is written in pieces of this size, in bytes.
const PIECE: usize = 64 << 10;

/// Requests for one poll, to be written as one message. If this is dropped before all of the message was written, the
/// requests are queued again.
pub struct Delivery {
    lease: DeliveryLease,
    opened: Option<GateOpened>,
}

impl Delivery {
    /// Takes the requests, which are delivered to `url` from now on. `None` if there are no requests, another poll of
    /// the same URL was quicker, a visitor has left, or the registration was cut.
    pub(super) fn begin(
        queue: &Arc<Queue>,
        url: UrlId,
        mode: PollMode,
        requests: &mut Vec<(ExchangeId, Queued)>,
    ) -> Option<Self> {
        let (mut gate, mut opened) = (None, None);
        for (_, queued) in &mut *requests {
            (gate, opened) = hold_back(queued, mode.live);
        }
        let ids: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
        let delivers = !ids.is_empty()
            && queue.deliver(url, &ids, |_, recipient| {
                recipient.mode = mode;
                recipient.gate = gate.take();
            });
        if !delivers {
            return None;
        }
        let requests = requests.drain(..).map(|(_, queued)| queued).collect();
        let lease = DeliveryLease { queue: queue.clone(), url, mode, requests, begun: false };
        Some(Self { lease, opened })
    }

    /// The address of each request's visitor.
    pub fn visitors(&self) -> impl Iterator<Item = Option<SocketAddr>> {
        let remote =
            |queued: &Queued| queued.request.extensions().get::<Visitor>().map(|visitor| visitor.remote);
        self.lease.requests.iter().map(remote)
    }

    /// The request of [`PollMode::IN_MEMORY`] and its body: the absolute target, and the end-to-end fields, without
    /// `Content-Length` unless its visitor sent one.
    pub fn request(&self) -> Option<(&Request, &Bytes)> {
        let Queued { request, upload: Upload::Spooled(spooled) } = self.lease.requests.first()? else {
            return None;
        };
        Some((request, spooled.in_memory()?))
    }

    /// The message as the transport has written it, ready to be the body of the answer to the poll.
    pub fn written(self, text: Bytes) -> Body {
        let left = Some(text.len() as u64);
        Body::from_source(DeliveryBody { parts: [Part::Memory(text)].into(), left, lease: self.lease })
    }

    /// The message as HTTP/1.1, ready to be the body of the answer to the poll. Its length is known unless it streams.
    pub fn message(self) -> Body {
        let Self { mut lease, mut opened } = self;
        let (mut parts, mut text, mut left) = (VecDeque::new(), BytesMut::new(), Some(0_u64));
        for Queued { request, upload } in &mut lease.requests {
            let declared = request.headers_mut().remove(CONTENT_LENGTH).is_some();
            let length = match upload {
                Upload::Spooled(spooled) => Some(spooled.length()),
                _ => request.body().size_hint().exact(),
            };
            let streams = matches!(upload, Upload::Unread) && !request.headers().contains_key(UPGRADE);
            let framing = framing(request, declared, length, streams);
            let head = request_head(request.method(), request.uri(), request.headers(), framing);
            let length = length.filter(|_| framing != Framing::Chunked);
            left = left.zip(length).map(|(left, length)| left + head.len() as u64 + length);
            text.extend_from_slice(&head);
            let body = match upload {
                Upload::Spooled(spooled) => match spooled.in_memory() {
                    Some(bytes) => {
                        text.extend_from_slice(bytes);
                        continue;
                    }
                    None => spooled.body(),
                },
                _ => std::mem::take(request.body_mut()),
            };
            parts.push_back(Part::Memory(text.split().freeze()));
            let (body, cut) = (Coded::new(body, framing), lease.queue.is_cut());
            parts.push_back(Part::Streamed { body, cut, opened: opened.take() });
        }
        parts.push_back(Part::Memory(text.freeze()));
        Body::from_source(DeliveryBody { parts, left, lease })
    }
}

/// Holds a body with `Expect` back until its agent sends a 100, if the agent answers `live`. Otherwise reading the body
/// makes the server send a 100 to the visitor, and the request loses its `Expect`.
fn hold_back(
    Queued { request, upload }: &mut Queued,
    live: bool,
) -> (Option<ContinueGate>, Option<GateOpened>) {
    let streams = matches!(upload, Upload::Unread) && !request.headers().contains_key(UPGRADE);
    if live && streams && expect::expects_continue(request.headers()) {
        let (gate, opened) = gate();
        return (Some(gate), Some(opened));
    }
    request.headers_mut().remove(EXPECT);
    (None, None)
}

/// How a request announces its end. Only an agent that reads a request while it arrives gets a chunked body.
fn framing(request: &Request, declared: bool, length: Option<u64>, streams: bool) -> Framing {
    if streams && (length.is_none() || request.headers().contains_key(TRAILER)) {
        return Framing::Chunked;
    }
    // A request without a body needs no length, unless it had a length or its method makes readers expect one.
    let expected = declared || expects_length(request.method());
    Framing::Rest(length.filter(|length| *length > 0 || expected))
}

/// The requests that are delivered to a URL. If this is dropped before all of them were sent, each request that can be
/// delivered again is queued again.
struct DeliveryLease {
    queue: Arc<Queue>,
    url: UrlId,
    mode: PollMode,
    /// Empty when all of them were sent.
    requests: Vec<Queued>,
    /// A part was sent.
    begun: bool,
}

impl DeliveryLease {
    /// Notes that all of the message is on its way. The message may still not arrive.
    fn sent(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let can_redeliver = |queued: &Queued| self.mode.again && matches!(queued.upload, Upload::Spooled(_));
        let kept = std::mem::take(&mut self.requests).into_iter();
        // Outside of the lock: requests that are not kept are dropped here.
        let kept: Vec<_> = kept.map(|queued| Some(queued).filter(can_redeliver)).collect();
        self.queue.update(|mailbox| mailbox.delivered(self.url, kept));
    }
}

impl Drop for DeliveryLease {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let can_redeliver = |queued: &Queued| match &queued.upload {
            // An agent that reads a request while it arrives may have passed its head on already, and the origin must
            // not receive the head twice.
            Upload::Spooled(spooled) => !(self.begun && self.mode.streams && spooled.length() > 0),
            _ => !self.begun,
        };
        let returned = std::mem::take(&mut self.requests);
        let returned = returned.into_iter().map(|queued| Some(queued).filter(can_redeliver)).collect();
        self.queue.update(|mailbox| mailbox.delivery_failed(self.url, returned));
    }
}

enum Part {
    Memory(Bytes),
    Streamed {
        body: Coded,
        /// Resolves when the registration is cut.
        cut: Listener,
        /// The gate of a body that is held back.
        opened: Option<GateOpened>,
    },
}

struct DeliveryBody {
    parts: VecDeque<Part>,
    /// The bytes still to be read of a message whose length is known.
    left: Option<u64>,
    lease: DeliveryLease,
}

impl DeliveryBody {
    /// Counts a piece. A reader that has the whole length reads no further, even if the end of the body is pending.
    fn passed(&mut self, piece: usize) {
        self.lease.begun = true;
        self.left = self.left.map(|left| left.saturating_sub(piece as u64));
        let is_over = |part: &Part| match part {
            Part::Memory(bytes) => bytes.is_empty(),
            Part::Streamed { body, .. } => body.is_end_stream(),
        };
        if self.left == Some(0) || self.parts.iter().all(is_over) {
            self.lease.sent();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while let Some(part) = self.parts.front_mut() {
            let piece = match part {
                // The message is written in pieces. The last piece is polled for when the pieces before it are on their
                // way, and then the message counts as sent.
                Part::Memory(bytes) => {
                    Some(bytes.split_to(bytes.len().min(PIECE))).filter(|piece| !piece.is_empty())
                }
                Part::Streamed { body, cut, opened } => {
                    poll_cut(cut, cx)?;
                    if let Some(gate) = opened {
                        // The visitor may send the body without a 100.
                        if body.poll_arrived(cx).is_pending() {
                            ready!(gate.as_mut().poll(cx))?;
                        }
                        *opened = None;
                    }
                    ready!(body.poll_frame(cx)?).map(|frame| frame.into_data().unwrap_or_default())
                }
            };
            if piece.is_some() {
                return Poll::Ready(piece.map(Ok));
            }
            self.parts.pop_front();
        }
        Poll::Ready(None)
    }
}

impl FrameSource for DeliveryBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let piece = ready!(self.poll_piece(cx)?);
        self.passed(piece.as_ref().map_or(0, Bytes::len));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.lease.requests.is_empty()
    }

    fn length(&self) -> Option<u64> {
        self.left.filter(|_| !self.lease.begun)
    }
}

impl Drop for DeliveryBody {
    fn drop(&mut self) {
        // A body of which nothing was read is given back with its request.
        for part in self.parts.drain(..) {
            if let Part::Streamed { body, .. } = part
                && let Some(Queued { request, upload: Upload::Unread }) = self.lease.requests.first_mut()
            {
                *request.body_mut() = body.into_body();
            }
        }
    }
}

//! Requests in the answer to a poll.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, TRAILER};
use http_body::{Body as _, Frame};

use super::mailbox::ExchangeId;
use super::queue::{BreakWhenCut, Queue};
use super::request::{Queued, Recipient, Upload};
use super::{PollMode, UrlId};
use crate::defaults;
use crate::domain::Visitor;
use crate::http1::embedded::{Coded, Framing, request_head};
use crate::message::body::{FrameSource, Observer as _, PolledFrame};
use crate::message::expect::{self, Gate, NotWanted};
use crate::message::framing::expects_length;
use crate::message::spool::Spooled;
use crate::message::{Body, BoxError, Request};
use crate::session::carrier::SendErrorKind;

/// Resolves when a body that is held back may be read, or is refused.
type TimedPassage = BoxFuture<'static, Result<(), NotWanted>>;

/// The requests that a poll has taken, to be written as one message. If this is dropped before all of the message was
/// written, each request that can be delivered again is queued again.
pub struct Delivery {
    queue: Arc<Queue>,
    /// The URL to which the message is written; `None` while it is being made.
    url: Option<UrlId>,
    mode: PollMode,
    /// Empty when all of them were sent.
    requests: Vec<(ExchangeId, Queued)>,
    passage: Option<TimedPassage>,
    /// A part was sent.
    begun: bool,
}

impl Delivery {
    /// The first request of a poll.
    pub(super) fn new(queue: &Arc<Queue>, id: ExchangeId, request: Queued) -> Self {
        let (queue, requests) = (queue.clone(), vec![(id, request)]);
        Self { queue, url: None, mode: PollMode::WHOLE, requests, passage: None, begun: false }
    }

    /// Makes the first request ready to be sent. For a batch, adds requests that wait behind it and can be sent at
    /// once. None is added behind a long request, for which it would have to wait.
    pub(super) async fn fill(&mut self, mode: PollMode) {
        self.mode = mode;
        let mut size = self.complete_last().await;
        while mode.batch && self.requests.len() < defaults::PIPELINE && size < defaults::MESSAGE_MEMORY as u64
        {
            let Some(next) = self.queue.lock().take_next(Queued::is_ready) else { return };
            self.requests.push(next);
            size += self.complete_last().await;
        }
    }

    /// Completes the request that was added last, and returns the length of its body. The request is left out if its
    /// visitor has left. The request fails if its body could not be read, or if no complete message can carry it.
    async fn complete_last(&mut self) -> u64 {
        let Some((id, request)) = self.requests.last_mut() else { return 0 };
        let is_wanted = self.queue.lock().is_wanted(*id);
        let completed = match is_wanted {
            true => request.complete(&self.queue, self.mode).await,
            false => Err(SendErrorKind::Closed),
        };
        let Err(kind) = completed else { return request.spooled().map_or(0, Spooled::length) };
        self.queue.lock().undeliverable(*id, kind);
        self.requests.pop();
        0
    }

    /// Delivers the requests to `url` from now on. `false` if there are no requests, another poll of the same URL was
    /// quicker, a visitor has left, or the registration was cut.
    pub(super) fn begin(&mut self, url: UrlId) -> bool {
        let (mode, mut gate) = (self.mode, None);
        for (_, queued) in &mut self.requests {
            (gate, self.passage) = hold_back(queued, mode.live).unzip();
        }
        let ids: Vec<_> = self.requests.iter().map(|(id, _)| *id).collect();
        let note = |recipient: &mut Recipient| {
            recipient.mode = mode;
            recipient.gate = gate.take();
        };
        let mut mailbox = self.queue.lock();
        let delivers = !ids.is_empty() && mailbox.deliver(url, &ids, note);
        if delivers {
            // Under the lock, so that the router knows the URL exactly as long as the mailbox does.
            self.queue.router.queues.lock().insert(url, Arc::downgrade(&self.queue));
            self.url = Some(url);
        }
        delivers
    }

    /// The address of each request's visitor.
    pub fn visitors(&self) -> impl Iterator<Item = Option<SocketAddr>> {
        let requests = self.requests.iter().map(|(_, queued)| &queued.request);
        requests.map(|request| request.extensions().get::<Visitor>().map(|visitor| visitor.remote))
    }

    /// The request of [`PollMode::IN_MEMORY`] and its body: the absolute target, and the end-to-end fields, without
    /// `Content-Length` unless its visitor sent one.
    pub fn request(&self) -> Option<(&Request, &Bytes)> {
        let (_, queued) = self.requests.first()?;
        Some((&queued.request, queued.in_memory()?))
    }

    /// The message as the transport has written it, ready to be the body of the answer to the poll.
    pub fn written(self, text: Bytes) -> Body {
        let left = Some(text.len() as u64);
        Body::from_source(DeliveryBody { parts: [Part::Memory(text)].into(), left, delivery: self })
    }

    /// The message as HTTP/1.1, ready to be the body of the answer to the poll. Its length is known unless it streams.
    pub fn message(mut self) -> Body {
        let (mut parts, mut text, mut left) = (VecDeque::new(), BytesMut::new(), Some(0_u64));
        for (_, queued) in &mut self.requests {
            let length = queued.request.body().size_hint().exact();
            let length = queued.spooled().map(Spooled::length).or(length);
            let framing = framing(queued, length, self.mode);
            let head = &queued.request;
            let head = request_head(head.method(), head.uri(), head.headers(), framing);
            let length = length.filter(|_| framing != Framing::Chunked);
            left = left.zip(length).map(|(left, length)| left + head.len() as u64 + length);
            text.extend_from_slice(&head);
            if framing != Framing::Chunked
                && let Some(bytes) = queued.in_memory()
            {
                text.extend_from_slice(bytes);
                continue;
            }
            let body = queued.spooled().map(Spooled::body);
            let body = body.unwrap_or_else(|| std::mem::take(queued.request.body_mut()));
            parts.push_back(Part::Memory(text.split().freeze()));
            let (body, cut) = (Coded::new(body, framing), BreakWhenCut(self.queue.is_cut()));
            parts.push_back(Part::Streamed { body, cut, passage: self.passage.take() });
        }
        parts.push_back(Part::Memory(text.freeze()));
        Body::from_source(DeliveryBody { parts, left, delivery: self })
    }

    /// Notes that all of the message is on its way. The message may still not arrive.
    fn sent(&mut self) {
        let Some(url) = self.url.filter(|_| !self.requests.is_empty()) else { return };
        let (mode, requests) = (self.mode, std::mem::take(&mut self.requests));
        // Outside of the lock: requests that are not kept are dropped here.
        let kept = keep(requests, |upload| mode.again && matches!(upload, Upload::Spooled(_)));
        self.queue.lock().delivered(url, kept);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let can_redeliver = |upload: &Upload| match upload {
            // An agent that reads a request while it arrives may have passed its head on already, and the origin must
            // not receive the head twice.
            Upload::Spooled(spooled) => !(self.begun && self.mode.streams && spooled.length() > 0),
            _ => !self.begun,
        };
        let returned = keep(std::mem::take(&mut self.requests), can_redeliver);
        self.queue.lock().returned(self.url, returned);
    }
}

/// The requests that are to be kept, in their places.
fn keep(
    requests: Vec<(ExchangeId, Queued)>,
    is_kept: impl Fn(&Upload) -> bool,
) -> Vec<(ExchangeId, Option<Queued>)> {
    let kept = requests.into_iter().map(|(id, request)| (id, Some(request).filter(|r| is_kept(&r.upload))));
    kept.collect()
}

/// Whether the body of a request arrives while it is sent.
fn streams(queued: &Queued) -> bool {
    matches!(queued.upload, Upload::Unread) && !queued.upgrades()
}

/// Holds a body with `Expect` back until its agent sends a 100, if the agent answers `live`; an agent that sends no 100
/// would leave its origin waiting, so the body is not held for ever. Otherwise reading the body makes the server send
/// a 100 to the visitor, and the request loses its `Expect`.
fn hold_back(queued: &mut Queued, live: bool) -> Option<(Gate, TimedPassage)> {
    if live && streams(queued) && expect::expects_continue(queued.request.headers()) {
        let (gate, passage) = expect::gate();
        return Some((gate, Box::pin(passage.within(defaults::ORIGIN_CONTINUE))));
    }
    expect::remove_continue(queued.request.headers_mut());
    None
}

/// How a request announces its end. A chunked body is for an agent that reads a request while it arrives, and for our
/// own agents where trailers follow a complete body.
fn framing(queued: &mut Queued, length: Option<u64>, mode: PollMode) -> Framing {
    let declared = queued.request.headers_mut().remove(CONTENT_LENGTH).is_some();
    if streams(queued) && (length.is_none() || queued.request.headers().contains_key(TRAILER))
        || mode.takes_trailers() && queued.spooled().is_some_and(Spooled::has_trailers)
    {
        return Framing::Chunked;
    }
    // A request without a body needs no length, unless it had a length or its method makes readers expect one.
    let expected = declared || expects_length(queued.request.method());
    Framing::Rest(length.filter(|length| *length > 0 || expected))
}

enum Part {
    Memory(Bytes),
    Streamed {
        body: Coded,
        cut: BreakWhenCut,
        /// The passage of a body that is held back.
        passage: Option<TimedPassage>,
    },
}

struct DeliveryBody {
    parts: VecDeque<Part>,
    /// The bytes still to be read of a message whose length is known.
    left: Option<u64>,
    delivery: Delivery,
}

impl DeliveryBody {
    /// Counts a piece. A reader that has the whole length reads no further, even if the end of the body is pending.
    fn passed(&mut self, piece: usize) {
        self.delivery.begun = true;
        self.left = self.left.map(|left| left.saturating_sub(piece as u64));
        let is_over = |part: &Part| match part {
            Part::Memory(bytes) => bytes.is_empty(),
            Part::Streamed { body, .. } => body.is_end_stream(),
        };
        if self.left == Some(0) || self.parts.iter().all(is_over) {
            self.delivery.sent();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while let Some(part) = self.parts.front_mut() {
            let piece = match part {
                // The message is written in pieces. The last piece is polled for when the pieces before it are on their
                // way, and then the message counts as sent.
                Part::Memory(bytes) => {
                    Some(bytes.split_to(bytes.len().min(defaults::PIECE))).filter(|piece| !piece.is_empty())
                }
                Part::Streamed { body, cut, passage } => {
                    cut.before(cx)?;
                    if let Some(waiting) = passage {
                        // The visitor may send the body without a 100.
                        if body.poll_arrived(cx).is_pending() {
                            ready!(waiting.as_mut().poll(cx))?;
                        }
                        *passage = None;
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
        self.delivery.requests.is_empty()
    }

    fn length(&self) -> Option<u64> {
        self.left.filter(|_| !self.delivery.begun)
    }
}

impl Drop for DeliveryBody {
    fn drop(&mut self) {
        // A body of which nothing was read is given back with its request.
        for part in self.parts.drain(..) {
            if let Part::Streamed { body, .. } = part
                && let Some((_, Queued { request, upload: Upload::Unread })) =
                    self.delivery.requests.first_mut()
            {
                *request.body_mut() = body.into_body();
            }
        }
    }
}

//! A request in the answer to a poll.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRAILER, UPGRADE};
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::gate::{Gate, Opened, gate};
use super::job::Job;
use super::queue::Queue;
use super::severed::poll_cut;
use super::spool::Spooled;
use super::{Manner, UrlId, answer};
use crate::domain::Visitor;
use crate::http1::embedded::{Coded, Framing, request_head};
use crate::message::framing::expects_length;
use crate::message::{Body, BoxError, Request, expect};
use crate::net::flag::Listener;
use crate::session::carrier::SendErrorKind;

/// A message in memory goes out in pieces of this size, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// An embedded request, ready to be the body of the answer to a poll. One that is dropped before it was written goes
/// back to the queue.
pub struct Handed {
    /// Who sent it.
    pub visitor: Option<SocketAddr>,
    /// The message; its length is known unless it streams.
    pub message: Body,
}

/// Embeds a request for the poll of `url`. `None` when its visitor has gone, or its body could not be had.
pub(super) async fn embed(queue: &Arc<Queue>, url: UrlId, job: Job, manner: Manner) -> Option<Handed> {
    if job.done.is_closed() {
        return None;
    }
    let upgrades = job.request.headers().contains_key(UPGRADE);
    if upgrades && !manner.streams {
        job.done.send(Err(SendErrorKind::NoUpgrade.error()));
        return None;
    }
    let empty = job.taking.is_none() && job.request.body().is_end_stream();
    // A body of which a part has been read cannot come as a stream any more.
    let whole = !manner.streams || job.taking.is_some();
    let job = if whole && !empty { job.take_in(queue).await? } else { job };
    let Job { number, mut request, done, mut taken, .. } = job;
    let visitor = request.extensions().get::<Visitor>().map(|visitor| visitor.remote);
    let known = request.headers_mut().remove(CONTENT_LENGTH).is_some();
    if taken.is_none() && empty {
        taken = Some(Spooled::default());
    }
    let (gate, opened) = hold_back(&mut request, manner.live && taken.is_none() && !upgrades);
    let (parts, mut body) = request.into_parts();
    let mut length = taken.as_ref().map_or_else(|| body.size_hint().exact(), |taken| Some(taken.length()));
    let framing = framing(&parts, known, length, taken.is_none() && !upgrades);
    if framing == Framing::Chunked {
        length = None;
    }
    let head = request_head(&parts.method, &parts.uri, &parts.headers, framing);
    let method = parts.method.clone();
    let request = Request::from_parts(parts, Body::empty());
    let after = answer::After::UnderWay;
    let flight = answer::Flight { queue: queue.clone(), number, method, upgrades, manner, done, after, gate };
    if let Err(done) = queue.hand(url, flight) {
        // Another poll of the same URL was quicker.
        let mut request = request;
        *request.body_mut() = body;
        queue.put_back(Job { number, request, done, taken, taking: None }, None);
        return None;
    }
    let left = length.map(|length| head.len() as u64 + length);
    let (mut first, mut cut) = (head, None);
    match taken.as_ref().map(|taken| (taken, taken.in_memory())) {
        Some((_, Some(bytes))) if bytes.is_empty() => {}
        Some((_, Some(bytes))) => first = [&first[..], bytes].concat().into(),
        Some((taken, None)) => (body, cut) = (taken.body(), Some(queue.is_cut())),
        None => cut = Some(queue.is_cut()),
    }
    let back = Back { queue: queue.clone(), url, request, taken, once: false };
    let body = Coded::new(body, framing);
    let message = Delivery { first, begun: false, opened, body, cut, left, back: Some(back) };
    Some(Handed { visitor, message: Body::wrap(message) })
}

/// Holds a body back until its agent asks for it, if it `can`. Else reading the body is what says 100 to the visitor,
/// and the request says nothing of it.
fn hold_back(request: &mut Request, can: bool) -> (Option<Gate>, Option<Opened>) {
    if can && expect::is_said(request.headers()) {
        let (gate, opened) = gate();
        return (Some(gate), Some(opened));
    }
    request.headers_mut().remove(EXPECT);
    (None, None)
}

/// How a message says where it ends. Only who takes it as it comes is given one that does not say so in front.
fn framing(parts: &Parts, known: bool, length: Option<u64>, comes: bool) -> Framing {
    if comes && (length.is_none() || parts.headers.contains_key(TRAILER)) {
        return Framing::Chunked;
    }
    // A request without a body needs no length, unless it had one or its method makes readers expect it.
    let expected = known || expects_length(&parts.method);
    Framing::Rest(length.filter(|length| *length > 0 || expected))
}

/// What is needed to give a request back.
pub(super) struct Back {
    pub(super) queue: Arc<Queue>,
    pub(super) url: UrlId,
    pub(super) request: Request,
    /// The body, if it can be had again.
    pub(super) taken: Option<Spooled>,
    /// Nobody can poll its URL again: once sent it need not be kept.
    pub(super) once: bool,
}

pub(super) struct Delivery {
    /// What is in memory: the head, and the body if it is there too.
    first: Bytes,
    begun: bool,
    /// For a body that is held back: it goes behind the head alone.
    opened: Option<Opened>,
    body: Coded,
    /// For what is not in memory.
    cut: Option<Listener>,
    /// What is still to be read of a message whose length is known, in bytes.
    left: Option<u64>,
    back: Option<Back>,
}

impl Delivery {
    /// A message that is in memory.
    pub(super) fn of(text: Bytes, back: Back) -> Self {
        let (body, left) = (Coded::new(Body::empty(), Framing::Empty), Some(text.len() as u64));
        Self { first: text, begun: false, opened: None, body, cut: None, left, back: Some(back) }
    }

    /// Counts a piece. Whoever is told the length reads no further, also where the body has its end still to come.
    fn passed(&mut self, piece: usize) {
        self.left = self.left.map(|left| left.saturating_sub(piece as u64));
        if self.left == Some(0) {
            self.sent();
        }
    }

    /// All of it is on its way; whether it arrives is another matter.
    fn sent(&mut self) {
        if let Some(Back { queue, url, request, taken, once }) = self.back.take() {
            queue.flights.sent(url, request, taken.filter(|_| !once));
            queue.sent(url);
        }
    }
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.first.is_empty() {
            self.begun = true;
            // In pieces: the last is asked for when those before are on their way, and then it counts as sent.
            let length = self.first.len().min(PIECE);
            let piece = self.first.split_to(length);
            self.passed(length);
            if self.first.is_empty() && self.body.is_end_stream() {
                self.sent();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(cut) = &mut self.cut {
            poll_cut(cut, cx)?;
        }
        if let Some(opened) = &mut self.opened {
            ready!(opened.as_mut().poll(cx))?;
            self.opened = None;
        }
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            None => self.sent(),
            Some(Ok(_)) if self.body.is_end_stream() => self.sent(),
            Some(Ok(frame)) => self.passed(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => {}
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0) || self.first.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(total) if !self.begun => SizeHint::with_exact(total),
            _ => SizeHint::default(),
        }
    }
}

impl Back {
    /// Gives the request back, with `body` if that was not taken in. Without either, part of it is gone with the
    /// connection.
    pub(super) fn give(self, body: Option<Body>) {
        let Self { queue, url, mut request, taken, .. } = self;
        let Some(flight) = queue.flights.take(url) else { return };
        match (&taken, body) {
            // Who reads it as it comes may have handed its head on already, and its origin must not see it twice.
            (Some(taken), None) if flight.manner.streams && taken.length() > 0 => return flight.close(),
            (Some(_), _) => {}
            (None, Some(body)) => *request.body_mut() = body,
            (None, None) => return flight.close(),
        }
        let answer::Flight { number, done, .. } = flight;
        queue.put_back(Job { number, request, done, taken, taking: None }, Some(url));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let body = std::mem::replace(&mut self.body, Coded::new(Body::empty(), Framing::Empty));
            back.give((!self.begun).then(|| body.into_body()));
        }
    }
}

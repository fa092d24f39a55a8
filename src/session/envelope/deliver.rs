//! A request in the answer to a poll.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_LENGTH, UPGRADE};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::queue::{Done, Job, Queue};
use super::{UrlId, answer};
use crate::defaults;
use crate::domain::Visitor;
use crate::message::embedded::{ReadError, request_head, whole};
use crate::message::{Body, BoxError, Request};
use crate::session::carrier::SendErrorKind;

/// A message in memory goes out in pieces of this size, in bytes.
const PIECE: usize = 64 << 10;

/// An embedded request, ready to be the body of the answer to a poll. One that is dropped before it was written goes
/// back to the queue.
pub struct Handed {
    /// Who sent it.
    pub visitor: Option<SocketAddr>,
    /// The message; its length is known unless it streams.
    pub message: Body,
}

/// Embeds a request for the poll of `url`. `None` when its visitor has gone, or its body could not be had.
pub(super) async fn embed(queue: &Arc<Queue>, url: UrlId, job: Job, streams: bool) -> Option<Handed> {
    if job.done.is_closed() {
        return None;
    }
    let Job { number, request, mut done, share } = job;
    let upgrades = request.headers().contains_key(UPGRADE);
    if upgrades && !streams {
        let _ = done.send(Err(SendErrorKind::NoUpgrade.error()));
        return None;
    }
    let visitor = request.extensions().get::<Visitor>().map(|visitor| visitor.remote);
    let (mut parts, body) = request.into_parts();
    let known = parts.headers.remove(CONTENT_LENGTH).is_some();
    let mut length = body.size_hint().exact();
    let mut body = body;
    let mut bytes = None;
    if body.is_end_stream() {
        bytes = Some(Bytes::new());
    } else if !streams {
        let (all, told) = in_memory(body, done).await?;
        (bytes, done) = (Some(all), told);
        body = Body::empty();
    }
    if let Some(bytes) = &bytes {
        length = Some(bytes.len() as u64);
    }
    // A request without a body needs no length, unless it had one or its method makes readers expect it.
    let expected = known || [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
    let said = length.filter(|length| *length > 0 || expected);
    let head = request_head(&parts.method, &parts.uri, &parts.headers, said);
    let method = parts.method.clone();
    let request = Request::from_parts(parts, Body::empty());
    if !queue.hand(number, url) {
        // Another poll of the same URL was quicker.
        let mut request = request;
        *request.body_mut() = bytes.map_or(body, Body::full);
        queue.put_back(Job { number, request, done, share }, None);
        return None;
    }
    queue.flights.insert(url, answer::Flight { queue: queue.clone(), number, method, upgrades, done });
    let first = match &bytes {
        Some(bytes) => {
            let mut message = BytesMut::from(head);
            message.extend_from_slice(bytes);
            message.freeze()
        }
        None => head,
    };
    let total =
        length.map(|length| if bytes.is_some() { first.len() as u64 } else { first.len() as u64 + length });
    let back = Back { queue: queue.clone(), url, request, bytes, share };
    let message = Delivery { first, begun: false, body, total, back: Some(back) };
    Some(Handed { visitor, message: Body::wrap(message) })
}

/// The body in one piece; its visitor is told when that cannot be.
pub(super) async fn in_memory(body: Body, done: Done) -> Option<(Bytes, Done)> {
    let kind = match whole(body, defaults::MESSAGE).await {
        Ok(bytes) => return Some((bytes, done)),
        Err(ReadError::TooLarge(_)) => SendErrorKind::TooLarge,
        Err(_) => SendErrorKind::Closed,
    };
    let _ = done.send(Err(kind.error()));
    None
}

/// What is needed to give a request back.
pub(super) struct Back {
    pub(super) queue: Arc<Queue>,
    pub(super) url: UrlId,
    pub(super) request: Request,
    /// The body, if it is in memory.
    pub(super) bytes: Option<Bytes>,
    pub(super) share: Option<tokio::sync::OwnedSemaphorePermit>,
}

pub(super) struct Delivery {
    /// What is in memory: the head, and the body if it is there too.
    pub(super) first: Bytes,
    pub(super) begun: bool,
    pub(super) body: Body,
    pub(super) total: Option<u64>,
    pub(super) back: Option<Back>,
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
            if self.first.is_empty() && self.body.is_end_stream() {
                self.back = None;
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        loop {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            match &polled {
                Poll::Ready(None) => self.back = None,
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => continue,
                Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.back = None,
                _ => {}
            }
            return polled;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.total {
            Some(total) if !self.begun => SizeHint::with_exact(total),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(Back { queue, url, mut request, bytes, share }) = self.back.take() else { return };
        let Some(flight) = queue.flights.take(url) else { return };
        match (bytes, self.begun) {
            (Some(bytes), _) => *request.body_mut() = Body::full(bytes),
            (None, false) => *request.body_mut() = std::mem::take(&mut self.body),
            // Part of the body is gone with the connection.
            (None, true) => {
                queue.answered(flight.number);
                let _ = flight.done.send(Err(SendErrorKind::Closed.error()));
                return;
            }
        }
        let answer::Flight { number, done, .. } = flight;
        queue.put_back(Job { number, request, done, share }, Some(url));
    }
}

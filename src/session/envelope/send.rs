//! The visitor's side: a request waits for a poll, then for its answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, EXPECT, UPGRADE};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::Queue;
use super::queue::Job;
use crate::defaults;
use crate::message::embedded::{ReadError, whole};
use crate::message::{Body, Request, Response, upgrade};
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct Envelopes(Arc<Queue>);

/// The relay's end of a queue.
pub fn carrier(queue: Arc<Queue>) -> Box<dyn Carrier> {
    Box::new(Envelopes(queue))
}

impl Carrier for Envelopes {
    fn send(&self, request: Request, slot: Slot) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.exchange(request).await?;
            slot.keep_with(&mut response);
            Ok(response)
        })
    }

    fn capacity(&self) -> usize {
        defaults::ENVELOPES
    }

    fn drain(&self) {
        self.0.end();
    }

    fn is_late(&self) -> bool {
        self.0.glance().silent > self.0.absence()
    }

    fn is_closed(&self) -> bool {
        self.0.is_ended()
    }
}

impl Envelopes {
    async fn exchange(&self, mut request: Request) -> Result<Response, SendError> {
        if request.headers().contains_key(UPGRADE) {
            return Err(SendErrorKind::NoUpgrade.error());
        }
        upgrade::join_cookies(request.headers_mut());
        // Reading the body is what says 100 to the visitor; the agent cannot.
        request.headers_mut().remove(EXPECT);
        let mut share = None;
        if !request.body().is_end_stream() && self.0.wants_whole() {
            share = Some(self.take_in(&mut request).await?);
        }
        let (done, mut answer) = oneshot::channel();
        let job = Job { number: 0, request, done, share };
        let number = self.0.push(job).map_err(|request| SendErrorKind::Closed.unsent(*request))?;
        let _leave = Leave { queue: &self.0, number };
        let since = Instant::now();
        loop {
            let look = tokio::time::sleep(self.patience(since));
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(SendErrorKind::Closed.error())),
                () = look => {}
            }
            let kind = match self.patience(since).is_zero() {
                false => continue,
                true if self.0.glance().silent >= self.0.absence() => SendErrorKind::Absent,
                true => SendErrorKind::Busy,
            };
            if let Some(request) = self.0.take_back(number) {
                return Err(kind.unsent(request));
            }
            // It is in the agent's hand: how long an answer may take is not this carrier's matter.
            return answer.await.unwrap_or_else(|_| Err(SendErrorKind::Closed.error()));
        }
    }

    /// How much longer a waiting request waits: long for an agent that is busy, not for one that does not poll.
    fn patience(&self, since: Instant) -> std::time::Duration {
        let absent = self.0.absence().saturating_sub(self.0.glance().silent);
        absent.min(defaults::POLL_BUSY.saturating_sub(since.elapsed()))
    }

    /// Takes the body into memory before the request takes a poll, which a slow visitor could hold for long otherwise.
    async fn take_in(&self, request: &mut Request) -> Result<OwnedSemaphorePermit, SendError> {
        let length = request.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.unwrap_or(defaults::MESSAGE);
        if length > defaults::MESSAGE {
            return Err(SendErrorKind::TooLarge.error());
        }
        let room = u32::try_from(length).unwrap_or(u32::MAX);
        let Ok(share) = self.0.memory.clone().try_acquire_many_owned(room) else {
            return Err(SendErrorKind::Busy.unsent(std::mem::take(request)));
        };
        let body = std::mem::take(request.body_mut());
        let body = whole(body, defaults::MESSAGE).await.map_err(|error| match error {
            ReadError::TooLarge(_) => SendErrorKind::TooLarge.error(),
            _ => SendErrorKind::Closed.error(),
        })?;
        request.headers_mut().remove(CONTENT_LENGTH);
        *request.body_mut() = Body::full(body);
        Ok(share)
    }
}

struct Leave<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.number);
    }
}

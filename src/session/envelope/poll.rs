//! Polls: each waits for its turn, takes requests, and makes a message of them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{EXPECT, UPGRADE};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::mailbox::{ExchangeId, PollEnd, PollId};
use super::queue::Queue;
use super::request::{Queued, Upload, of_spool};
use super::{PollMode, UrlId};
use crate::defaults;
use crate::message::spool::Spooled;
use crate::session::carrier::SendErrorKind;

impl Queue {
    /// Waits for a request for at most `hold`. Polls are served in turn. Dropping the future gives the turn up, and a
    /// request that was just assigned to this poll is assigned to the next poll.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll(
        self: &Arc<Self>,
        url: UrlId,
        mode: PollMode,
        hold: Duration,
    ) -> Result<Delivery, PollEnd> {
        let until = Instant::now() + hold;
        let mut again = mode.again;
        loop {
            let first = self.next(url, (mode.streams, again), until).await?;
            // A request that this poll itself has queued again was not delivered before.
            again = false;
            let mut assembly = Assembly::new(self);
            assembly.add(first, mode).await;
            if mode.batch {
                self.fill(&mut assembly, mode).await;
            }
            if let Some(delivery) = Delivery::begin(self, url, mode, &mut assembly.requests) {
                return Ok(delivery);
            }
            drop(assembly);
            // The agent has given up this poll for a newer poll of the same URL, which must keep its turn.
            if self.update(|mailbox| mailbox.is_polled(url)) {
                return Err(PollEnd::Nothing);
            }
        }
    }

    async fn next(
        self: &Arc<Self>,
        url: UrlId,
        (streams, again): (bool, bool),
        until: Instant,
    ) -> Result<(ExchangeId, Queued), PollEnd> {
        let (place, served) = oneshot::channel();
        let polled = self.update(|mailbox| mailbox.poll(url, (streams, again), place));
        if matches!(polled, Ok(_) | Err(PollEnd::Nothing)) {
            self.first_poll.raise();
        }
        let mut turn = Turn { queue: self, id: polled?, served };
        tokio::select! {
            biased;
            served = &mut turn.served => {
                served.map_err(|_| if self.is_ended() { PollEnd::Ended } else { PollEnd::Nothing })
            }
            () = tokio::time::sleep_until(until) => Err(PollEnd::Nothing),
        }
    }

    /// Adds requests that wait behind the first request of a batch and can be sent at once. None is added behind a long
    /// request, for which it would have to wait.
    async fn fill(&self, assembly: &mut Assembly<'_>, mode: PollMode) {
        let mut size = assembly.last_length();
        while assembly.requests.len() < defaults::PIPELINE && size < defaults::MESSAGE_MEMORY as u64 {
            let Some(next) = self.update(|mailbox| mailbox.take_next(Queued::is_ready)) else { return };
            let before = assembly.requests.len();
            assembly.add(next, mode).await;
            if assembly.requests.len() > before {
                size += assembly.last_length();
            }
        }
    }
}

/// One poll's place in the queue.
struct Turn<'a> {
    queue: &'a Queue,
    id: PollId,
    served: oneshot::Receiver<(ExchangeId, Queued)>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Closed first, so that a request that is served from now on is assigned to another poll.
        self.served.close();
        self.queue.update(|mailbox| mailbox.poll_left(self.id));
        if let Ok((id, queued)) = self.served.try_recv() {
            self.queue.undelivered(id, queued);
        }
    }
}

/// Requests of which a poll makes a message. If the poll breaks, the assembly is dropped, and its requests are queued
/// again in their order.
struct Assembly<'a> {
    queue: &'a Arc<Queue>,
    requests: Vec<(ExchangeId, Queued)>,
}

impl<'a> Assembly<'a> {
    fn new(queue: &'a Arc<Queue>) -> Self {
        Self { queue, requests: Vec::new() }
    }

    /// Adds a request, with all of its body unless the poll streams. The request is left out if its visitor has left.
    /// The request fails if its body could not be read, or if it is for an Upgrade, which a complete message cannot
    /// carry.
    async fn add(&mut self, (id, queued): (ExchangeId, Queued), mode: PollMode) {
        let upgrades = queued.request.headers().contains_key(UPGRADE);
        self.requests.push((id, queued));
        if upgrades && !mode.streams {
            return self.fail_last(SendErrorKind::NoUpgrade);
        }
        if !self.queue.is_wanted(id) {
            return self.fail_last(SendErrorKind::Closed);
        }
        if let Err(kind) = self.complete_last(mode.streams).await {
            return self.fail_last(kind);
        }
        if mode.in_memory
            && let Err(kind) = self.load_last().await
        {
            self.fail_last(kind);
        }
    }

    /// The length of the body of the request that was added last, in bytes.
    fn last_length(&self) -> u64 {
        match self.requests.last() {
            Some((_, Queued { upload: Upload::Spooled(spooled), .. })) => spooled.length(),
            _ => 0,
        }
    }

    fn fail_last(&mut self, kind: SendErrorKind) {
        if let Some((id, _queued)) = self.requests.pop() {
            self.queue.undeliverable(id, kind);
        }
    }

    /// Reads the body of the request that was added last. A body that can stream is not read, unless a part of it was
    /// read before.
    async fn complete_last(&mut self, streams: bool) -> Result<(), SendErrorKind> {
        let Some((_, queued)) = self.requests.last_mut() else { return Ok(()) };
        match &queued.upload {
            Upload::Spooled(_) => return Ok(()),
            Upload::Unread if queued.request.body().is_end_stream() => {
                queued.upload = Upload::Spooled(Spooled::default());
                return Ok(());
            }
            Upload::Unread if streams => return Ok(()),
            Upload::Unread => {
                let (body, queue) = (std::mem::take(queued.request.body_mut()), self.queue.clone());
                // Reading the body makes the server send 100 to the visitor.
                queued.request.headers_mut().remove(EXPECT);
                queued.upload = Upload::Spooling(Box::pin(async move { queue.room.take_in(body).await }));
            }
            Upload::Spooling(_) => {}
        }
        let spooled = poll_fn(|cx| match &mut queued.upload {
            Upload::Spooling(spooling) => spooling.as_mut().poll(cx),
            _ => Poll::Ready(Ok(Spooled::default())),
        });
        queued.upload = Upload::Spooled(spooled.await.map_err(|error| of_spool(&error))?);
        Ok(())
    }

    /// Reads a body that is in a file into memory.
    async fn load_last(&mut self) -> Result<(), SendErrorKind> {
        let Some((_, Queued { upload: Upload::Spooled(spooled), .. })) = self.requests.last_mut() else {
            return Ok(());
        };
        spooled.load().await.map_err(|error| {
            tracing::warn!(%error, "an upload cannot be read from its temporary file");
            SendErrorKind::Busy
        })
    }
}

impl Drop for Assembly<'_> {
    fn drop(&mut self) {
        for (id, queued) in self.requests.drain(..).rev() {
            self.queue.undelivered(id, queued);
        }
    }
}

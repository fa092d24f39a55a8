//! The events of polls and answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Delivered, Effect, ExchangeId, Mailbox, PollEnd, PollId, Stage, WaitingPoll};
use crate::defaults;
use crate::session::carrier::SendErrorKind;
use crate::session::envelope::{PollMode, UrlId};

impl<R, V, P> Mailbox<R, V, P> {
    /// A poll arrives. If `url` may be polled again, its earlier delivery did not arrive: an agent that had received
    /// that delivery would poll the next URL. The requests of the delivery are queued first; a request that cannot be
    /// delivered again fails.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub fn poll(&mut self, url: UrlId, mode: PollMode, place: P) -> Result<PollId, PollEnd> {
        if mode.again {
            self.recall(url);
        }
        if self.ended {
            return Err(PollEnd::Ended);
        }
        // A delivery that was recalled while it was written is queued again when its writing ends.
        let will_requeue = self.urls.get(&url).is_some_and(|delivered| delivered.recalled);
        if self.is_used(url) && !will_requeue {
            return Err(PollEnd::Used);
        }
        // A second poll of a URL means that the agent has given up the first poll, even if its connection is still
        // open.
        while let Some(place) = self.polls.iter().position(|poll| poll.url == url) {
            self.end_poll(place);
        }
        if self.polls.len() >= defaults::POLLS_MOST {
            return Err(PollEnd::TooMany);
        }
        self.mode = Some(mode);
        if mode.cancels() && !self.abandoned.is_empty() {
            return Err(PollEnd::Nothing);
        }
        let id = PollId(self.number());
        self.polls.push_back(WaitingPoll { id, url, mode, place });
        self.match_up();
        Ok(id)
    }

    /// A poll no longer waits.
    pub fn poll_left(&mut self, id: PollId) {
        self.polls.retain(|poll| poll.id != id);
        self.last_activity = self.now;
    }

    /// Whether a poll of `url` waits.
    pub fn is_polled(&self, url: UrlId) -> bool {
        self.polls.iter().any(|poll| poll.url == url)
    }

    /// Takes the next request for a message that has room for it, if it `fits`.
    pub fn take_next(&mut self, fits: impl FnOnce(&R) -> bool) -> Option<(ExchangeId, R)> {
        let id = *self.queue.front()?;
        self.exchanges.get(id.0)?.request.as_ref().filter(|request| fits(request))?;
        self.queue.pop_front();
        Some((id, self.take(id, false)?))
    }

    /// Whether a poll has the request and its visitor still waits.
    pub fn is_wanted(&self, id: ExchangeId) -> bool {
        self.exchanges.get(id.0).is_some_and(|exchange| matches!(exchange.stage, Stage::Delivering(_)))
    }

    /// A message of these requests is made, and is to be written to `url`. `note` is called for each visitor. `false`
    /// if another poll of the same URL was quicker or waits, a visitor has left, or the registration was cut.
    pub fn deliver(&mut self, url: UrlId, ids: &[ExchangeId], mut note: impl FnMut(&mut V)) -> bool {
        if self.cut || self.is_polled(url) || self.is_used(url) || !ids.iter().all(|id| self.is_wanted(*id)) {
            return false;
        }
        self.used.insert(url, ());
        let exchanges = ids.into();
        self.urls.insert(url, Delivered { exchanges, sent: None, closed: None, recalled: false });
        for id in ids {
            self.set(*id, Stage::Delivering(Some(url)));
            if let Some(visitor) = self.exchanges.get_mut(id.0).and_then(|e| e.visitor.as_mut()) {
                note(visitor);
            }
        }
        true
    }

    /// `url` delivers on a connection, and `closed` is set when the agent has closed that connection.
    pub fn delivers_on(&mut self, url: UrlId, closed: &Arc<AtomicBool>) {
        if let Some(delivered) = self.urls.get_mut(&url) {
            delivered.closed = Some(closed.clone());
        }
    }

    /// The whole message of `url` has left this process. `kept` has its requests, each if it can be delivered again.
    pub fn delivered(&mut self, url: UrlId, kept: Vec<(ExchangeId, Option<R>)>) {
        self.last_activity = self.now;
        let Some(delivered) = self.urls.get_mut(&url).filter(|delivered| !delivered.recalled) else {
            return self.returned(Some(url), kept);
        };
        delivered.sent = Some(self.now);
        for (id, kept) in kept {
            match self.exchanges.get_mut(id.0) {
                Some(exchange) if matches!(exchange.stage, Stage::Delivering(_)) => {
                    exchange.request = kept;
                    self.set(id, Stage::InHand(url));
                }
                _ => self.discard(kept),
            }
        }
    }

    /// A poll gives its requests back: no message was made of them, or their delivery to `url` broke off. Those that
    /// can be delivered again are queued first, the visitors of others get an error.
    pub fn returned(&mut self, url: Option<UrlId>, requests: Vec<(ExchangeId, Option<R>)>) {
        if let Some(url) = url {
            if self.take_url(url).is_none() {
                // The delivery has its answer.
                return requests.into_iter().for_each(|(_, request)| self.discard(request));
            }
            if requests.iter().any(|(_, request)| request.is_some()) {
                self.may_deliver(url);
            }
        }
        for (id, request) in requests.into_iter().rev() {
            self.take_back(id, request.ok_or(SendErrorKind::Closed));
        }
        self.match_up();
    }

    /// The message of a request cannot be made: its visitor gets an error.
    pub fn undeliverable(&mut self, id: ExchangeId, kind: SendErrorKind) {
        self.take_back(id, Err(kind));
    }

    /// URLs whose visitors have left, each once. A poll without a request announces them to an agent that cancels.
    pub fn abandoned(&mut self) -> Vec<UrlId> {
        std::iter::from_fn(|| self.abandoned.pop()).take(defaults::GONE_AT_ONCE).collect()
    }

    /// The answer to the delivery of `url` arrives. Returns the visitors in the order of the requests, also those that
    /// have left.
    pub fn answer(&mut self, url: UrlId) -> Option<Vec<V>> {
        let delivered = self.take_url(url)?;
        self.late_answers.remove(&url);
        self.abandoned.remove(&url);
        self.last_activity = self.now;
        let mut visitors = Vec::with_capacity(delivered.exchanges.len());
        for id in delivered.exchanges {
            let kept = self.take_request(id);
            self.discard(kept);
            visitors.extend(self.exchanges.get_mut(id.0).and_then(|exchange| exchange.visitor.take()));
            if self.set(id, Stage::Answering) == Some(Stage::VisitorLeft) {
                self.remove(id);
            }
        }
        Some(visitors)
    }

    /// Announces to an agent that cancels that the visitors of `url` have left: by ending a poll that waits, or else by
    /// the agent's next poll.
    pub(super) fn abandon(&mut self, url: UrlId) {
        if !self.mode.is_some_and(PollMode::cancels) || !self.is_abandoned(url) {
            return;
        }
        self.abandoned.insert(url, ());
        if let Some(place) = self.polls.iter().position(|poll| poll.mode.cancels()) {
            self.end_poll(place);
        }
    }

    pub(super) fn match_up(&mut self) {
        while !self.queue.is_empty() && !self.polls.is_empty() {
            let (Some(poll), Some(id)) = (self.polls.pop_front(), self.queue.pop_front()) else { return };
            self.last_activity = self.now;
            if let Some(request) = self.take(id, poll.mode.streams) {
                self.effects.push(Effect::Serve(poll.place, id, request));
            }
        }
    }

    pub(super) fn end_poll(&mut self, place: usize) {
        self.effects.extend(self.polls.remove(place).map(|poll| Effect::EndPoll(poll.place)));
    }

    /// Puts a request at the front of the queue, or gives its visitor an error; neither if the visitor has left.
    pub(super) fn take_back(&mut self, id: ExchangeId, request: Result<R, SendErrorKind>) {
        let (before, now) = (self.set(id, Stage::Queued), self.now);
        match (self.exchanges.get_mut(id.0), request) {
            (Some(exchange), Ok(request)) if before != Some(Stage::VisitorLeft) => {
                (exchange.since, exchange.request) = (now, Some(request));
                match self.ended {
                    true => self.fail(id, SendErrorKind::Closed),
                    false => self.queue.push_front(id),
                }
            }
            (Some(_), Err(kind)) if before != Some(Stage::VisitorLeft) => self.fail(id, kind),
            (_, request) => {
                self.discard(request.ok());
                self.remove(id);
            }
        }
    }

    fn recall(&mut self, url: UrlId) {
        let Some(delivered) = self.urls.get_mut(&url) else { return };
        let mut exchanges = delivered.exchanges.iter().filter_map(|id| self.exchanges.get(id.0));
        // A complete message is still being written: its requests are queued again when that ends. A stream is lost.
        if exchanges.clone().any(|e| matches!(e.stage, Stage::Delivering(_)) && !e.streams) {
            delivered.recalled = true;
        } else if !exchanges.all(|exchange| exchange.stage == Stage::VisitorLeft) {
            self.last_activity = self.now;
            let ids = delivered.exchanges.clone();
            let kept = ids.into_iter().map(|id| (id, self.take_request(id))).collect();
            self.returned(Some(url), kept);
        }
    }

    /// Takes a queued request for a delivery.
    fn take(&mut self, id: ExchangeId, streams: bool) -> Option<R> {
        self.set(id, Stage::Delivering(None));
        let exchange = self.exchanges.get_mut(id.0)?;
        exchange.streams = streams;
        exchange.request.take()
    }

    /// Notes that the URL has delivered nothing, and may deliver the next request.
    fn may_deliver(&mut self, url: UrlId) {
        self.used.remove(&url);
        self.late_answers.remove(&url);
    }
}

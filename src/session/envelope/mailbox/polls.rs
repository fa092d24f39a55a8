//! The events of polls and answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Delivered, ExchangeId, Mailbox, PollEnd, PollId, Stage, WaitingPoll};
use crate::defaults;
use crate::session::carrier::SendErrorKind;
use crate::session::envelope::UrlId;

impl<R, V, P> Mailbox<R, V, P> {
    /// A poll arrives. If `url` may be polled `again`, its earlier delivery did not arrive: an agent that had received
    /// that delivery would poll the next URL. The requests of the delivery are queued first; a request that cannot be
    /// delivered again fails.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub(in crate::session::envelope) fn poll(
        &mut self,
        url: UrlId,
        (streams, again): (bool, bool),
        place: P,
    ) -> Result<PollId, PollEnd> {
        if again {
            self.recall(url);
        }
        if self.ended {
            return Err(PollEnd::Ended);
        }
        // A delivery that was recalled while it was written is queued again when its writing ends.
        let will_requeue = self.urls.get(&url).is_some_and(|delivered| delivered.recalled);
        if self.used.contains(url) && !will_requeue {
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
        self.whole = Some(!streams);
        if streams && !self.abandoned.is_empty() {
            return Err(PollEnd::Nothing);
        }
        let id = PollId(self.number());
        self.polls.push_back(WaitingPoll { id, url, streams, place });
        self.match_up();
        Ok(id)
    }

    /// A poll no longer waits.
    pub(in crate::session::envelope) fn poll_left(&mut self, id: PollId) {
        self.polls.retain(|poll| poll.id != id);
        self.last_activity = self.now;
    }

    /// Whether a poll of `url` waits.
    pub(in crate::session::envelope) fn is_polled(&self, url: UrlId) -> bool {
        self.polls.iter().any(|poll| poll.url == url)
    }

    fn recall(&mut self, url: UrlId) {
        let Some(delivered) = self.urls.get_mut(&url) else { return };
        let mut exchanges = delivered.exchanges.iter().filter_map(|id| self.exchanges.get(id.0));
        // A complete message is still being written: its requests are queued again when that ends. A stream is lost.
        if exchanges
            .clone()
            .any(|exchange| matches!(exchange.stage, Stage::Delivering(_)) && !exchange.streams)
        {
            delivered.recalled = true;
            return;
        }
        if exchanges.all(|exchange| matches!(exchange.stage, Stage::VisitorLeft)) {
            return;
        }
        let Some(delivered) = self.take_url(url) else { return };
        self.last_activity = self.now;
        for id in delivered.exchanges.into_iter().rev() {
            match self.set(id, Stage::Answering) {
                Some(Stage::VisitorLeft) => self.remove(id, None),
                Some(Stage::InHand { kept: Some(request), .. }) => {
                    self.may_deliver(url);
                    self.queue_first(id, request);
                }
                _ => self.fail(id, SendErrorKind::Closed),
            }
        }
    }

    /// Takes the next request for a message that has room for it, if it `fits`.
    pub(in crate::session::envelope) fn take_next(
        &mut self,
        fits: impl FnOnce(&R) -> bool,
    ) -> Option<(ExchangeId, R)> {
        let id = *self.queue.front()?;
        let Stage::Queued(request) = &self.exchanges.get(id.0)?.stage else { return None };
        if !fits(request) {
            return None;
        }
        self.queue.pop_front();
        Some((id, self.take(id, false)?))
    }

    /// Whether a poll has the request and its visitor still waits.
    pub(in crate::session::envelope) fn is_wanted(&self, id: ExchangeId) -> bool {
        self.exchanges.get(id.0).is_some_and(|exchange| matches!(exchange.stage, Stage::Delivering(_)))
    }

    /// A message of these requests is made, and is to be written to `url`. `note` is called for each visitor. `false`
    /// if another poll of the same URL was quicker or waits, a visitor has left, or the registration was cut.
    pub(in crate::session::envelope) fn deliver(
        &mut self,
        url: UrlId,
        ids: &[ExchangeId],
        mut note: impl FnMut(usize, &mut V),
    ) -> bool {
        if self.cut
            || self.is_polled(url)
            || self.used.contains(url)
            || !ids.iter().all(|id| self.is_wanted(*id))
        {
            return false;
        }
        self.used.insert(url);
        let exchanges = ids.into();
        self.urls.insert(url, Delivered { exchanges, sent: None, closed: None, recalled: false });
        for (place, id) in ids.iter().enumerate() {
            self.set(*id, Stage::Delivering(Some(url)));
            if let Some(visitor) = self.exchanges.get_mut(id.0).and_then(|e| e.visitor.as_mut()) {
                note(place, visitor);
            }
        }
        true
    }

    /// The message of a request cannot be made: its visitor gets an error.
    pub(in crate::session::envelope) fn undeliverable(&mut self, id: ExchangeId, kind: SendErrorKind) {
        match self.is_wanted(id) {
            true => self.fail(id, kind),
            false => self.remove(id, None),
        }
    }

    /// The message of a request was not made: it is queued first.
    pub(in crate::session::envelope) fn undelivered(&mut self, id: ExchangeId, request: R) {
        self.queue_first(id, request);
        self.match_up();
    }

    /// `url` delivers on a connection, and `closed` is set when the agent has closed that connection.
    pub(in crate::session::envelope) fn delivers_on(&mut self, url: UrlId, closed: &Arc<AtomicBool>) {
        if let Some(delivered) = self.urls.get_mut(&url) {
            delivered.closed = Some(closed.clone());
        }
    }

    /// The whole message of `url` has left this process. `kept` has the requests in their order, each if it can be
    /// delivered again.
    pub(in crate::session::envelope) fn delivered(&mut self, url: UrlId, kept: Vec<Option<R>>) {
        self.last_activity = self.now;
        if self.urls.get(&url).is_some_and(|delivered| delivered.recalled) {
            return self.delivery_failed(url, kept);
        }
        let ids = self.urls.get_mut(&url).map(|delivered| {
            delivered.sent = Some(self.now);
            delivered.exchanges.clone()
        });
        let mut kept = kept.into_iter();
        for id in ids.into_iter().flatten() {
            let kept = kept.next().flatten();
            match self.is_wanted(id) {
                true => drop(self.set(id, Stage::InHand { url, kept })),
                false => self.discard(kept, None),
            }
        }
        kept.for_each(|kept| self.discard(kept, None));
    }

    /// The delivery of `url` broke off. `returned` has the requests in their order: those that can be delivered again
    /// are queued first, the visitors of others get an error.
    pub(in crate::session::envelope) fn delivery_failed(&mut self, url: UrlId, returned: Vec<Option<R>>) {
        let Some(delivered) = self.take_url(url) else {
            // The delivery has its answer.
            return returned.into_iter().for_each(|request| self.discard(request, None));
        };
        if returned.iter().any(Option::is_some) {
            self.may_deliver(url);
        }
        for (id, request) in delivered.exchanges.into_iter().zip(returned).rev() {
            match request {
                Some(request) => self.queue_first(id, request),
                None => self.undeliverable(id, SendErrorKind::Closed),
            }
        }
        self.match_up();
    }

    /// URLs whose visitors have left, each once.
    pub(in crate::session::envelope) fn abandoned(&mut self) -> Vec<UrlId> {
        let some = self.abandoned.len().min(defaults::GONE_AT_ONCE);
        self.abandoned.drain(..some).collect()
    }

    /// The answer to the delivery of `url` arrives. Returns the visitors in the order of the requests, also those that
    /// have left.
    pub(in crate::session::envelope) fn answer(&mut self, url: UrlId) -> Option<Vec<V>> {
        let delivered = self.take_url(url)?;
        self.late_answers.retain(|late| *late != url);
        self.last_activity = self.now;
        let mut visitors = Vec::with_capacity(delivered.exchanges.len());
        for id in delivered.exchanges {
            visitors.extend(self.exchanges.get_mut(id.0).and_then(|exchange| exchange.visitor.take()));
            match self.set(id, Stage::Answering) {
                Some(Stage::VisitorLeft) => self.remove(id, None),
                Some(Stage::InHand { kept, .. }) => self.discard(kept, None),
                _ => {}
            }
        }
        Some(visitors)
    }
}

//! The handling of requests whose registration ends, or whose agent is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Delivered, Effect, Mailbox, NewPoller, Stage};
use crate::defaults;
use crate::session::carrier::SendErrorKind;
use crate::session::envelope::{UrlId, poller};

impl<R, V, P> Mailbox<R, V, P> {
    /// Ends the registration. Polls end, and requests that wait are sent elsewhere. Requests in hand may still be
    /// answered.
    pub fn end(&mut self) {
        self.ended = true;
        while !self.polls.is_empty() {
            self.end_poll(0);
        }
        while let Some(url) = self.late_answers.pop() {
            self.forget(url);
        }
        while let Some(id) = self.queue.pop_front() {
            self.fail(id, SendErrorKind::Closed);
        }
    }

    /// Ends the registration, and the requests that are in hand or being delivered.
    pub(in crate::session::envelope) fn cut(&mut self) {
        self.cut = true;
        self.end();
        self.lose(|_, _, _| true);
    }

    /// The agent has left. Ends the registration, and the requests that the agent has in hand.
    pub fn agent_left(&mut self) {
        self.end();
        self.lose(|_, _, delivered| delivered.sent.is_some());
    }

    /// A poller has registered again, and `url` is its first URL.
    pub fn registered(&mut self, url: UrlId) {
        if self.newcomer.as_ref().is_none_or(|newcomer| newcomer.due.is_none()) {
            self.newcomer = Some(NewPoller { poller: poller(url), registered: self.now, due: None });
        }
    }

    /// Whether the poll of `url` is the first poll of a poller that has registered after others.
    pub fn is_newcomer(&mut self, url: UrlId) -> bool {
        let new = self.newcomer.as_mut().filter(|new| new.poller == poller(url) && new.due.is_none());
        new.map(|newcomer| newcomer.due = Some(self.now + defaults::POLL_TAKEOVER)).is_some()
    }

    /// Takes over the requests of pollers that are gone. If that is too early, returns how long to wait. A poller is
    /// gone if it does not poll and has closed the connection that took its request. A request that was delivered after
    /// the newest poller registered stays: one process may register more than once.
    pub fn take_over(&mut self) -> Option<Duration> {
        let left = self.newcomer.as_ref()?.due?.saturating_duration_since(self.now);
        if !left.is_zero() {
            return Some(left);
        }
        let newcomer = self.newcomer.take()?;
        self.lose(|mailbox, url, delivered| {
            delivered.sent.is_some_and(|sent| sent < newcomer.registered)
                && poller(url) != newcomer.poller
                && delivered.closed.as_ref().is_some_and(|closed| closed.load(Ordering::Acquire))
                && !mailbox.polls.iter().any(|poll| poller(poll.url) == poller(url))
        });
        None
    }

    /// Takes back the requests of an agent that is gone. A request is queued again if that is safe; otherwise its
    /// visitor gets an error.
    fn lose(&mut self, is_lost: impl Fn(&Self, UrlId, &Delivered) -> bool) {
        let lost = self.urls.iter().filter(|(url, delivered)| is_lost(self, **url, delivered));
        let lost: Vec<_> = lost.map(|(url, _)| *url).collect();
        let taken = lost.into_iter().filter_map(|url| self.take_url(url));
        let mut ids: Vec<_> = taken.flat_map(|delivered| delivered.exchanges).collect();
        ids.retain(|id| self.exchanges.contains(id.0));
        // Each request is put at the front of the queue, so the oldest is put there last.
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(self.exchanges[id.0].number));
        let mut count = 0;
        for id in ids {
            let exchange = &mut self.exchanges[id.0];
            count += usize::from(exchange.stage != Stage::VisitorLeft);
            let repeatable = exchange.repeats > 0;
            exchange.repeats = exchange.repeats.saturating_sub(1);
            let mut kept = exchange.request.take();
            let repeated = kept.take_if(|_| repeatable);
            self.discard(kept);
            self.take_back(id, repeated.ok_or(SendErrorKind::Closed));
        }
        if count > 0 {
            self.effects.push(Effect::Lost(count));
        }
        self.match_up();
    }
}

//! Requests in the hand of an agent that is gone. Each is queued again if that is safe; else its visitor gets a 502.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Queue, State};
use super::{UrlId, poller};
use crate::defaults;

/// A request in an agent's hand.
pub(super) struct InHand {
    pub(super) url: UrlId,
    /// When all of it had left this process; `None` while its delivery is under way.
    sent: Option<Instant>,
    /// Set when the agent has closed the connection that took the request; `None` where that shows nothing.
    closed: Option<Arc<AtomicBool>>,
}

impl InHand {
    pub(super) fn of(url: UrlId) -> Self {
        Self { url, sent: None, closed: None }
    }
}

/// A poller that registered where others had registered before.
pub(super) struct Newcomer {
    poller: u64,
    registered: Instant,
    /// When it is to be decided whether the others are gone: a while after its first poll.
    due: Option<Instant>,
}

impl Queue {
    /// All of what `url` delivers has left this process.
    pub(super) fn sent(&self, url: UrlId) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.left = now;
        state.handed.values_mut().filter(|held| held.url == url).for_each(|held| held.sent = Some(now));
    }

    /// `url` delivers on a connection of which `closed` shows whether the agent has closed it.
    pub fn delivers_on(&self, url: UrlId, closed: &Arc<AtomicBool>) {
        let mut state = self.state.lock();
        let held = state.handed.values_mut().filter(|held| held.url == url);
        held.for_each(|held| held.closed = Some(closed.clone()));
    }

    /// A registration that stood was made again, and `url` is where that poller begins.
    pub fn registered(&self, url: UrlId) {
        let mut state = self.state.lock();
        if state.newcomer.as_ref().is_none_or(|newcomer| newcomer.due.is_none()) {
            state.newcomer = Some(Newcomer { poller: poller(url), registered: Instant::now(), due: None });
        }
    }

    /// Whether the poll of `url` is the first of a poller that has registered where others had before.
    pub fn is_new(&self, url: UrlId) -> bool {
        let mut state = self.state.lock();
        let newcomer = state.newcomer.as_mut();
        let Some(newcomer) = newcomer.filter(|new| new.poller == poller(url) && new.due.is_none()) else {
            return false;
        };
        newcomer.due = Some(Instant::now() + defaults::POLL_TAKEOVER);
        true
    }

    /// Takes over what was in the hands of pollers that are gone, once it is time; else returns how long that is.
    ///
    /// A poller is gone if it does not poll, and has closed the connection that took its request. What came to a poller
    /// after the newest registered stays: a process registers more than once.
    pub fn take_over(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        let left = state.newcomer.as_ref()?.due?.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        let newcomer = state.newcomer.take()?;
        drop(state);
        self.lose(|state, held| {
            let polls = || state.polls.iter().any(|waiter| poller(waiter.url) == poller(held.url));
            held.sent.is_some_and(|sent| sent < newcomer.registered)
                && poller(held.url) != newcomer.poller
                && held.closed.as_ref().is_some_and(|closed| closed.load(Ordering::Acquire))
                && !polls()
        });
        None
    }

    /// Ends the registration of an agent that is gone, and what it has in hand.
    pub fn desert(&self) {
        self.end();
        self.lose(|_, held| held.sent.is_some());
    }

    pub(super) fn lose(&self, is_lost: impl Fn(&State, &InHand) -> bool) {
        let mut state = self.state.lock();
        let lost = state.handed.iter().filter(|(_, held)| is_lost(&state, held));
        let mut lost: Vec<_> = lost.map(|(number, held)| (*number, held.url)).collect();
        lost.iter().for_each(|(number, _)| drop(state.handed.remove(number)));
        drop(state);
        if !lost.is_empty() {
            tracing::info!(requests = lost.len(), "the agent that had these requests in hand is gone");
        }
        // The oldest comes last, and so is the first in the queue.
        lost.sort_unstable_by(|one, other| other.cmp(one));
        for (_, url) in lost {
            for back in self.flights.lose(url).into_iter().rev() {
                match back {
                    Ok(job) => self.put_back(job, None),
                    Err(flight) => flight.close(),
                }
            }
        }
    }
}

impl State {
    /// For how long the agent has not polled, answered, or taken a request.
    pub(super) fn unpolled(&self) -> Duration {
        let busy = !self.polls.is_empty() || self.handed.values().any(|held| held.sent.is_none());
        if busy { Duration::ZERO } else { self.left.elapsed() }
    }
}

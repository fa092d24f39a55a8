//! The requests and polls of one registration, first come, first served on both sides. The mailbox decides which poll
//! takes which request, notes the delivery of each URL, and handles requests whose agent or visitor is gone.
//!
//! The mailbox does no I/O, does not wait, and reads no clock. Each method is an event, [`Mailbox::advance`] sets the
//! time, and [`Mailbox::effects`] returns the effects that the caller executes.

mod ends;
mod polls;
mod visitors;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::UrlId;
use super::used::Used;
use crate::session::carrier::SendErrorKind;

/// Names an exchange for as long as its visitor waits, a poll makes a message of its request, or a URL refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::session::envelope) struct ExchangeId(usize);

/// Names a poll that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session::envelope) struct PollId(u64);

/// Why a poll brings no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollEnd {
    /// No request arrived while the poll was held, another poll of the same URL arrived, or visitors left
    /// ([`Queue::abandoned`](super::Queue::abandoned)).
    #[error("there was no request")]
    Nothing,
    /// The URL has delivered its request.
    #[error("this URL has delivered its request")]
    Used,
    /// Too many polls wait already.
    #[error("too many polls wait already")]
    TooMany,
    /// The registration has ended.
    #[error("the registration has ended")]
    Ended,
}

/// An effect that the caller executes. `R` is a request, `V` a visitor's place, `P` a poll's place.
#[derive(Debug)]
pub(in crate::session::envelope) enum Effect<R, V, P> {
    /// The poll takes this request, and makes a message of it.
    Serve(P, ExchangeId, R),
    /// The poll ends without a request.
    EndPoll(P),
    /// The visitor gets an error, with its request if that was still queued.
    Fail(V, SendErrorKind, Option<R>),
    /// These are needed no more. Dropping them may call the mailbox again.
    Drop(Option<R>, Option<V>),
    /// No answer is taken at this URL any more.
    Forget(UrlId),
    /// The agent that had this many requests in hand is gone.
    Lost(usize),
}

/// Where a request is.
#[derive(Debug)]
enum Stage<R> {
    /// It waits for a poll.
    Queued(R),
    /// A poll has the request. With a URL, the message is being written to that URL; before that, it is being made.
    Delivering(Option<UrlId>),
    /// All of its message has left this process. `kept` is the request, if it can be delivered again.
    InHand { url: UrlId, kept: Option<R> },
    /// The request has its answer or its error, or will get it without this mailbox.
    Answering,
    /// The visitor has left. A delivery or a URL still refers to the exchange.
    VisitorLeft,
}

struct QueuedExchange<R, V> {
    /// Counts up: the oldest request is delivered first, also when requests are delivered again.
    number: u64,
    stage: Stage<R>,
    visitor: Option<V>,
    /// When the request was queued.
    since: Instant,
    /// The request may be executed more than once (RFC 9110 §9.2.2).
    idempotent: bool,
    /// How often the request may still be delivered after it may have been executed: a request that makes each agent
    /// crash must not be repeated for ever.
    repeats: usize,
    /// The poll that took the request reads messages while they arrive.
    streams: bool,
}

/// A URL that delivers, or has delivered, and has no answer.
struct Delivered {
    exchanges: SmallVec<[ExchangeId; 1]>,
    /// When all of the message had left this process.
    sent: Option<Instant>,
    /// Set when the agent has closed the connection that took the message; `None` where that is not known.
    closed: Option<Arc<AtomicBool>>,
    /// The URL was polled again meanwhile: the agent has given up the connection of this delivery.
    recalled: bool,
}

struct WaitingPoll<P> {
    id: PollId,
    url: UrlId,
    streams: bool,
    place: P,
}

/// A poller that registered where others had registered before.
struct NewPoller {
    poller: u64,
    registered: Instant,
    /// When the mailbox decides whether the other pollers are gone: a while after the first poll of this poller.
    due: Option<Instant>,
}

/// See the module.
pub(in crate::session::envelope) struct Mailbox<R, V, P> {
    exchanges: Slab<QueuedExchange<R, V>>,
    queue: VecDeque<ExchangeId>,
    polls: VecDeque<WaitingPoll<P>>,
    urls: HashMap<UrlId, Delivered>,
    used: Used,
    /// URLs whose visitors left before their answers arrived, oldest first.
    late_answers: VecDeque<UrlId>,
    /// URLs whose visitors left, still to be announced to the agent.
    abandoned: VecDeque<UrlId>,
    newcomer: Option<NewPoller>,
    /// How many requests are in the agent's hand or on their way there, and have a visitor.
    in_hand: usize,
    /// How many of these requests are on their way.
    delivering: usize,
    /// When the agent last polled, took a request, or answered.
    last_activity: Instant,
    /// How long requests wait for an agent that does not poll.
    absence: Duration,
    /// The last poll wanted whole messages; `None` before the first.
    whole: Option<bool>,
    ended: bool,
    cut: bool,
    numbers: u64,
    now: Instant,
    effects: Vec<Effect<R, V, P>>,
}

/// The state of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Polls that wait.
    pub polls: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests in the agent's hand, or on their way there.
    pub in_hand: usize,
    /// How long the agent has been silent; zero while it polls or has requests in hand.
    pub silent: Duration,
    /// The same, but requests that have reached the agent's hand do not count.
    pub unpolled: Duration,
}

impl<R, V, P> Mailbox<R, V, P> {
    /// An empty mailbox; requests wait for `absence` after the last poll.
    pub(in crate::session::envelope) fn new(absence: Duration, now: Instant) -> Self {
        Self {
            exchanges: Slab::new(),
            queue: VecDeque::new(),
            polls: VecDeque::new(),
            urls: HashMap::new(),
            used: Used::default(),
            late_answers: VecDeque::new(),
            abandoned: VecDeque::new(),
            newcomer: None,
            in_hand: 0,
            delivering: 0,
            last_activity: now,
            now,
            effects: Vec::new(),
            absence,
            whole: None,
            ended: false,
            cut: false,
            numbers: 0,
        }
    }

    /// Sets the time.
    pub(in crate::session::envelope) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// The effects of all events since the last call, in the order in which they are to be executed.
    pub(in crate::session::envelope) fn effects(&mut self) -> Vec<Effect<R, V, P>> {
        std::mem::take(&mut self.effects)
    }

    /// The state of the mailbox.
    pub(in crate::session::envelope) fn status(&self) -> QueueStatus {
        QueueStatus {
            polls: self.polls.len(),
            waiting: self.queue.len(),
            in_hand: self.in_hand,
            silent: self.silent(),
            unpolled: match self.polls.is_empty() && self.delivering == 0 {
                true => self.now.saturating_duration_since(self.last_activity),
                false => Duration::ZERO,
            },
        }
    }

    fn silent(&self) -> Duration {
        match self.polls.is_empty() && self.in_hand == 0 {
            true => self.now.saturating_duration_since(self.last_activity),
            false => Duration::ZERO,
        }
    }

    /// Whether the registration has ended.
    pub(in crate::session::envelope) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether a URL has delivered.
    pub(in crate::session::envelope) fn is_used(&self, url: UrlId) -> bool {
        self.used.contains(url)
    }

    /// Whether the last poll wanted whole messages; `None` before the first.
    pub(in crate::session::envelope) fn wants_whole(&self) -> Option<bool> {
        self.whole
    }

    /// URLs at which an answer is still taken.
    pub(in crate::session::envelope) fn urls(&self) -> impl Iterator<Item = UrlId> {
        self.urls.keys().copied()
    }

    /// How many exchanges a visitor, a poll or a URL refers to.
    #[cfg(test)]
    pub(in crate::session::envelope) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn set(&mut self, id: ExchangeId, stage: Stage<R>) -> Option<Stage<R>> {
        let exchange = self.exchanges.get_mut(id.0)?;
        let count = |stage: &Stage<R>| match stage {
            Stage::Delivering(_) => (1, 1),
            Stage::InHand { .. } => (1, 0),
            _ => (0, 0),
        };
        let (more, before) = (count(&stage), std::mem::replace(&mut exchange.stage, stage));
        let less = count(&before);
        self.in_hand = self.in_hand + more.0 - less.0;
        self.delivering = self.delivering + more.1 - less.1;
        Some(before)
    }

    /// Takes a queued request for a delivery.
    fn take(&mut self, id: ExchangeId, streams: bool) -> Option<R> {
        if let Some(exchange) = self.exchanges.get_mut(id.0) {
            exchange.streams = streams;
        }
        match self.set(id, Stage::Delivering(None))? {
            Stage::Queued(request) => Some(request),
            // The queue has only queued requests.
            _ => None,
        }
    }

    fn match_up(&mut self) {
        while !self.queue.is_empty() && !self.polls.is_empty() {
            let (Some(poll), Some(id)) = (self.polls.pop_front(), self.queue.pop_front()) else { return };
            self.last_activity = self.now;
            if let Some(request) = self.take(id, poll.streams) {
                self.effects.push(Effect::Serve(poll.place, id, request));
            }
        }
    }

    fn end_poll(&mut self, place: usize) {
        self.effects.extend(self.polls.remove(place).map(|poll| Effect::EndPoll(poll.place)));
    }

    /// Puts a request at the front of the queue, unless its visitor has left.
    fn queue_first(&mut self, id: ExchangeId, request: R) {
        match self.exchanges.get_mut(id.0) {
            Some(exchange) if !matches!(exchange.stage, Stage::VisitorLeft) => {
                exchange.since = self.now;
                self.set(id, Stage::Queued(request));
                match self.ended {
                    true => self.fail(id, SendErrorKind::Closed),
                    false => self.queue.push_front(id),
                }
            }
            _ => self.remove(id, Some(request)),
        }
    }

    /// Gives the visitor an error, and its request if that was queued.
    fn fail(&mut self, id: ExchangeId, kind: SendErrorKind) {
        let request = match self.set(id, Stage::Answering) {
            Some(Stage::Queued(request)) => Some(request),
            Some(Stage::InHand { kept, .. }) => {
                self.discard(kept, None);
                None
            }
            _ => None,
        };
        match self.exchanges.get_mut(id.0).and_then(|exchange| exchange.visitor.take()) {
            Some(visitor) => self.effects.push(Effect::Fail(visitor, kind, request)),
            None => self.discard(request, None),
        }
    }

    fn remove(&mut self, id: ExchangeId, request: Option<R>) {
        let removed = self.exchanges.try_remove(id.0);
        self.discard(request, removed.and_then(|exchange| exchange.visitor));
    }

    fn take_url(&mut self, url: UrlId) -> Option<Delivered> {
        let delivered = self.urls.remove(&url)?;
        self.effects.push(Effect::Forget(url));
        Some(delivered)
    }

    /// Notes that the URL has delivered nothing, and may deliver the next request.
    fn may_deliver(&mut self, url: UrlId) {
        self.used.forget(url);
        self.late_answers.retain(|late| *late != url);
    }

    /// Forgets a URL whose visitors have all left.
    fn forget(&mut self, url: UrlId) {
        let has_left = |id: &ExchangeId| {
            self.exchanges.get(id.0).is_none_or(|exchange| matches!(exchange.stage, Stage::VisitorLeft))
        };
        if self.urls.get(&url).is_some_and(|delivered| delivered.exchanges.iter().all(has_left)) {
            let delivered = self.take_url(url);
            for id in delivered.into_iter().flat_map(|delivered| delivered.exchanges) {
                self.remove(id, None);
            }
        }
    }

    fn discard(&mut self, request: Option<R>, visitor: Option<V>) {
        if request.is_some() || visitor.is_some() {
            self.effects.push(Effect::Drop(request, visitor));
        }
    }
}

//! The requests and polls of one registration, first come first served on both sides: which poll takes which request,
//! what each URL has delivered, and what becomes of requests whose agent or visitor is gone.
//!
//! Nothing here reads, writes, waits or looks at a clock: a method is what happens, [`Mailbox::advance`] is how time
//! passes, and what is to be done about both comes out of [`Mailbox::effects`].

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
    /// There was none for as long as a poll is held, another poll of the same URL came, or visitors left
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

/// What is to be done outside. `R` is a request, `V` a visitor's place, `P` a poll's.
#[derive(Debug)]
pub(in crate::session::envelope) enum Effect<R, V, P> {
    /// The poll takes this request, and makes a message of it.
    Serve(P, ExchangeId, R),
    /// The poll ends without a request.
    EndPoll(P),
    /// The visitor gets an error, with its request if nothing of that has left this process.
    Fail(V, SendErrorKind, Option<R>),
    /// These are needed no more; their ends may call back.
    Drop(Option<R>, Option<V>),
    /// No answer is taken at this URL any more.
    Forget(UrlId),
    /// The agent that had so many requests in hand is gone.
    Lost(usize),
}

/// Where a request is.
#[derive(Debug)]
enum Stage<R> {
    /// It waits for a poll.
    Queued(R),
    /// A poll has it. With a URL, its message is being written there; before that, the message is being made.
    Delivering(Option<UrlId>),
    /// All of its message has left this process. `kept` is the request, if it can be delivered again.
    InHand { url: UrlId, kept: Option<R> },
    /// It has its answer or its error, or will have it without this mailbox.
    Answering,
    /// Its visitor has left. A delivery or a URL refers to it still.
    Gone,
}

struct QueuedExchange<R, V> {
    /// Counts up: what came first is delivered first, also for the second time.
    number: u64,
    stage: Stage<R>,
    visitor: Option<V>,
    /// Since when it is in the queue.
    since: Instant,
    /// It may be executed more than once (RFC 9110 §9.2.2).
    idempotent: bool,
    /// How often it may still be delivered after it may have been executed: one that ends each agent must not go on.
    repeats: usize,
    /// Its poll reads messages as they come.
    streams: bool,
}

/// A URL that delivers, or has delivered, and has no answer.
struct Delivered {
    exchanges: SmallVec<[ExchangeId; 1]>,
    /// When all of it had left this process.
    sent: Option<Instant>,
    /// Set when the agent has closed the connection that took the message; `None` where that is not known.
    closed: Option<Arc<AtomicBool>>,
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
    /// When it is to be decided whether the others are gone: a while after its first poll.
    due: Option<Instant>,
}

/// See the module.
pub(in crate::session::envelope) struct Mailbox<R, V, P> {
    exchanges: Slab<QueuedExchange<R, V>>,
    queue: VecDeque<ExchangeId>,
    polls: VecDeque<WaitingPoll<P>>,
    urls: HashMap<UrlId, Delivered>,
    used: Used,
    /// URLs whose visitors left before their answers came, oldest first.
    left: VecDeque<UrlId>,
    /// URLs whose visitors left, and of which the agent is still to be told.
    abandoned: VecDeque<UrlId>,
    newcomer: Option<NewPoller>,
    /// How many are in the agent's hand, or on the way there, and have a visitor.
    in_hand: usize,
    /// How many of them are on the way.
    delivering: usize,
    /// When the agent was last seen to poll, to take a request, or to answer.
    seen: Instant,
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

/// How a mailbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Polls that wait.
    pub polls: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests in the agent's hand, or on their way there.
    pub in_hand: usize,
    /// For how long the agent was not seen; zero while it polls or has requests in hand.
    pub silent: Duration,
    /// The same, but requests in hand do not count.
    pub unpolled: Duration,
}

impl<R, V, P> Mailbox<R, V, P> {
    /// An empty one; requests wait for `absence` after the last poll.
    pub(in crate::session::envelope) fn new(absence: Duration, now: Instant) -> Self {
        Self {
            exchanges: Slab::new(),
            queue: VecDeque::new(),
            polls: VecDeque::new(),
            urls: HashMap::new(),
            used: Used::default(),
            left: VecDeque::new(),
            abandoned: VecDeque::new(),
            newcomer: None,
            in_hand: 0,
            delivering: 0,
            seen: now,
            now,
            effects: Vec::new(),
            absence,
            whole: None,
            ended: false,
            cut: false,
            numbers: 0,
        }
    }

    /// It is so late now.
    pub(in crate::session::envelope) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// What is to be done about all that has happened since the last call, in this order.
    pub(in crate::session::envelope) fn effects(&mut self) -> Vec<Effect<R, V, P>> {
        std::mem::take(&mut self.effects)
    }

    /// How it stands.
    pub(in crate::session::envelope) fn status(&self) -> QueueStatus {
        QueueStatus {
            polls: self.polls.len(),
            waiting: self.queue.len(),
            in_hand: self.in_hand,
            silent: self.silent(),
            unpolled: match self.polls.is_empty() && self.delivering == 0 {
                true => self.now.saturating_duration_since(self.seen),
                false => Duration::ZERO,
            },
        }
    }

    fn silent(&self) -> Duration {
        match self.polls.is_empty() && self.in_hand == 0 {
            true => self.now.saturating_duration_since(self.seen),
            false => Duration::ZERO,
        }
    }

    /// Whether it has ended.
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

    /// Exchanges that somebody refers to.
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
            // Nothing else is in the queue.
            _ => None,
        }
    }

    fn match_up(&mut self) {
        while !self.queue.is_empty() && !self.polls.is_empty() {
            let (Some(poll), Some(id)) = (self.polls.pop_front(), self.queue.pop_front()) else { return };
            self.seen = self.now;
            if let Some(request) = self.take(id, poll.streams) {
                self.effects.push(Effect::Serve(poll.place, id, request));
            }
        }
    }

    fn end_poll(&mut self, place: usize) {
        self.effects.extend(self.polls.remove(place).map(|poll| Effect::EndPoll(poll.place)));
    }

    /// Puts a request back in front, unless its visitor has left.
    fn queue_first(&mut self, id: ExchangeId, request: R) {
        match self.exchanges.get_mut(id.0) {
            Some(exchange) if !matches!(exchange.stage, Stage::Gone) => {
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

    /// The visitor gets an error; its request too, if that was queued.
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

    /// The URL has delivered nothing, and may deliver what comes next.
    fn may_deliver(&mut self, url: UrlId) {
        self.used.forget(url);
        self.left.retain(|left| *left != url);
    }

    /// Forgets a URL whose visitors have all left.
    fn forget(&mut self, url: UrlId) {
        let is_gone = |id: &ExchangeId| {
            self.exchanges.get(id.0).is_none_or(|exchange| matches!(exchange.stage, Stage::Gone))
        };
        if self.urls.get(&url).is_some_and(|delivered| delivered.exchanges.iter().all(is_gone)) {
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

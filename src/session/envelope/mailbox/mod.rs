//! The requests and polls of one registration, first come, first served on both sides. The mailbox decides which poll
//! takes which request, notes the delivery of each URL, and handles requests whose agent or visitor is gone.
//!
//! The mailbox does no I/O, does not wait, and reads no clock. Each method is an event, [`Mailbox::advance`] sets the
//! time, and [`Mailbox::effects`] returns the effects that the caller executes.

mod ends;
mod polls;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use slab::Slab;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{PollMode, UrlId};
use crate::defaults;
use crate::session::Recent;
use crate::session::carrier::SendErrorKind;

/// Names an exchange for as long as its visitor waits, a poll makes a message of its request, or a URL refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExchangeId(usize);

/// Names a poll that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollId(u64);

/// Why a poll brings no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollEnd {
    /// No request arrived while the poll was held, another poll of the same URL arrived, or visitors left
    /// (`Mailbox::abandoned`).
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
pub(super) enum Effect<R, V, P> {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits for a poll.
    Queued,
    /// A poll has the request. With a URL, the message is being written to that URL; before that, it is being made.
    Delivering(Option<UrlId>),
    /// All of its message has left this process, to this URL.
    InHand(UrlId),
    /// The request has its answer or its error, or will get it without this mailbox.
    Answering,
    /// The visitor has left. A delivery or a URL still refers to the exchange.
    VisitorLeft,
}

struct QueuedExchange<R, V> {
    /// Counts up: the oldest request is delivered first, also when requests are delivered again.
    number: u64,
    stage: Stage,
    /// The request while it is queued, or in hand and can be delivered again.
    request: Option<R>,
    visitor: Option<V>,
    /// When the request was queued.
    since: Instant,
    /// How often the request may still be delivered after it may have been executed: never unless it is idempotent (RFC
    /// 9110 §9.2.2), and a request that makes each agent crash must not be repeated for ever.
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
    mode: PollMode,
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
pub struct Mailbox<R, V, P> {
    exchanges: Slab<QueuedExchange<R, V>>,
    queue: VecDeque<ExchangeId>,
    polls: VecDeque<WaitingPoll<P>>,
    urls: HashMap<UrlId, Delivered>,
    /// URLs that have delivered, so that none delivers twice.
    used: Recent<UrlId>,
    /// URLs whose visitors left before their answers arrived.
    late_answers: Recent<UrlId>,
    /// URLs whose visitors left, still to be announced to the agent.
    abandoned: Recent<UrlId>,
    newcomer: Option<NewPoller>,
    /// How many requests are in the agent's hand or on their way there, and have a visitor.
    in_hand: usize,
    /// How many of these requests are on their way.
    delivering: usize,
    /// When the agent last polled, took a request, or answered.
    last_activity: Instant,
    /// How long requests wait for an agent that does not poll.
    absence: Duration,
    /// The mode of the last poll.
    mode: Option<PollMode>,
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
    /// How long the agent has been silent; zero while it polls or a request is on its way to it.
    pub unpolled: Duration,
}

impl<R, V, P> Mailbox<R, V, P> {
    /// An empty mailbox; requests wait for `absence` after the last poll.
    pub(super) fn new(absence: Duration, now: Instant) -> Self {
        Self {
            exchanges: Slab::new(),
            queue: VecDeque::new(),
            polls: VecDeque::new(),
            urls: HashMap::new(),
            used: Recent::new(defaults::URLS_USED),
            late_answers: Recent::new(defaults::ANSWERS_LATE),
            abandoned: Recent::new(defaults::ANSWERS_LATE),
            newcomer: None,
            in_hand: 0,
            delivering: 0,
            last_activity: now,
            now,
            effects: Vec::new(),
            absence,
            mode: None,
            ended: false,
            cut: false,
            numbers: 0,
        }
    }

    /// Sets the time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// The effects of all events since the last call, in the order in which they are to be executed.
    pub(super) fn effects(&mut self) -> Vec<Effect<R, V, P>> {
        std::mem::take(&mut self.effects)
    }

    /// A visitor's request arrives. The request is given back if the registration has ended.
    pub(super) fn request(&mut self, request: R, visitor: V, idempotent: bool) -> ExchangeId {
        let exchange = QueuedExchange {
            number: self.number(),
            stage: Stage::Queued,
            request: Some(request),
            visitor: Some(visitor),
            since: self.now,
            repeats: if idempotent { defaults::REPEATS } else { 0 },
            streams: false,
        };
        let id = ExchangeId(self.exchanges.insert(exchange));
        if self.ended {
            self.fail(id, SendErrorKind::Closed);
        } else {
            self.queue.push_back(id);
            self.match_up();
        }
        id
    }

    /// A visitor has left, or has its answer. The id of its exchange is not valid any more.
    pub(super) fn visitor_left(&mut self, id: ExchangeId) {
        let url = match self.set(id, Stage::VisitorLeft) {
            Some(Stage::Delivering(None)) => return,
            Some(Stage::Delivering(Some(url)) | Stage::InHand(url)) => url,
            before => {
                if before == Some(Stage::Queued) {
                    self.queue.retain(|queued| *queued != id);
                }
                return self.remove(id);
            }
        };
        let kept = self.take_request(id);
        self.discard(kept);
        if self.ended {
            return self.forget(url);
        }
        let oldest = self.late_answers.insert(url, ());
        self.abandon(url);
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    /// Until when a request waits in the queue; `None` while it is not queued.
    pub(super) fn deadline(&self, id: ExchangeId) -> Option<Instant> {
        let exchange = self.exchanges.get(id.0).filter(|exchange| exchange.stage == Stage::Queued)?;
        Some((exchange.since + defaults::POLL_BUSY).min(self.now + self.patience()))
    }

    /// Time has passed: requests that have waited for too long get an error.
    pub(super) fn tick(&mut self) {
        let absent = self.patience().is_zero();
        let is_due = |e: &QueuedExchange<R, V>| absent || self.now >= e.since + defaults::POLL_BUSY;
        let is_overdue = |id: &ExchangeId| self.exchanges.get(id.0).is_none_or(is_due);
        let overdue: Vec<_> = self.queue.iter().copied().filter(is_overdue).collect();
        self.queue.retain(|id| !overdue.contains(id));
        let kind = if absent { SendErrorKind::Absent } else { SendErrorKind::Busy };
        overdue.into_iter().for_each(|id| self.fail(id, kind));
    }

    /// The state of the mailbox.
    pub fn status(&self) -> QueueStatus {
        QueueStatus {
            polls: self.polls.len(),
            waiting: self.queue.len(),
            in_hand: self.in_hand,
            unpolled: self.silent(self.delivering),
        }
    }

    /// How long the agent has been silent; zero while it polls or has these `requests`.
    fn silent(&self, requests: usize) -> Duration {
        match self.polls.is_empty() && requests == 0 {
            true => self.now.saturating_duration_since(self.last_activity),
            false => Duration::ZERO,
        }
    }

    /// Whether the agent has been silent for so long that requests do not wait for it.
    pub(super) fn is_absent(&self) -> bool {
        self.patience().is_zero()
    }

    /// Whether the registration has ended.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether a URL has delivered.
    pub fn is_used(&self, url: UrlId) -> bool {
        self.used.get(&url).is_some()
    }

    /// Whether the last poll wanted whole messages; `None` before the first.
    pub(super) fn wants_whole(&self) -> Option<bool> {
        self.mode.map(|mode| !mode.streams)
    }

    /// URLs at which an answer is still taken.
    pub(super) fn urls(&self) -> impl Iterator<Item = UrlId> {
        self.urls.keys().copied()
    }

    /// How much longer requests wait for an agent that is silent.
    fn patience(&self) -> Duration {
        self.absence.saturating_sub(self.silent(self.in_hand))
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Changes the stage of an exchange, and returns the stage before.
    fn set(&mut self, id: ExchangeId, stage: Stage) -> Option<Stage> {
        let exchange = self.exchanges.get_mut(id.0)?;
        let count = |stage: &Stage| match stage {
            Stage::Delivering(_) => (1, 1),
            Stage::InHand(_) => (1, 0),
            _ => (0, 0),
        };
        let (more, before) = (count(&stage), std::mem::replace(&mut exchange.stage, stage));
        let less = count(&before);
        self.in_hand = self.in_hand + more.0 - less.0;
        self.delivering = self.delivering + more.1 - less.1;
        Some(before)
    }

    fn take_request(&mut self, id: ExchangeId) -> Option<R> {
        self.exchanges.get_mut(id.0)?.request.take()
    }

    /// Gives the visitor an error, and its request if the mailbox has it.
    fn fail(&mut self, id: ExchangeId, kind: SendErrorKind) {
        self.set(id, Stage::Answering);
        let request = self.take_request(id);
        match self.exchanges.get_mut(id.0).and_then(|exchange| exchange.visitor.take()) {
            Some(visitor) => self.effects.push(Effect::Fail(visitor, kind, request)),
            None => self.discard(request),
        }
    }

    fn remove(&mut self, id: ExchangeId) {
        let removed = self.exchanges.try_remove(id.0);
        self.effects.extend(removed.map(|exchange| Effect::Drop(exchange.request, exchange.visitor)));
    }

    fn discard(&mut self, request: Option<R>) {
        self.effects.extend(request.map(|request| Effect::Drop(Some(request), None)));
    }

    fn take_url(&mut self, url: UrlId) -> Option<Delivered> {
        let delivered = self.urls.remove(&url)?;
        self.effects.push(Effect::Forget(url));
        Some(delivered)
    }

    /// Whether all visitors of a URL have left.
    fn is_abandoned(&self, url: UrlId) -> bool {
        let has_left =
            |id: &ExchangeId| self.exchanges.get(id.0).is_none_or(|e| e.stage == Stage::VisitorLeft);
        self.urls.get(&url).is_some_and(|delivered| delivered.exchanges.iter().all(has_left))
    }

    /// Forgets a URL whose visitors have all left.
    fn forget(&mut self, url: UrlId) {
        if self.is_abandoned(url) {
            let delivered = self.take_url(url);
            delivered.into_iter().flat_map(|delivered| delivered.exchanges).for_each(|id| self.remove(id));
        }
    }
}

#[cfg(test)]
impl<R, V, P> Mailbox<R, V, P> {
    /// How many exchanges a visitor, a poll or a URL refers to.
    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }
}

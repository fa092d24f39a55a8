//! One registration's queue: its [`Mailbox`] behind a lock, and the execution of its effects.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::UrlId;
use super::mailbox::{Effect, ExchangeId, Mailbox, QueueStatus};
use super::request::{Queued, Recipient};
use crate::defaults;
use crate::message::spool::SpoolRoom;
use crate::message::store::SpoolBudget;
use crate::net::flag::{Flag, Listener};
use crate::session::carrier::SendErrorKind;

/// Where a poll waits for its request.
pub(super) type PollPlace = oneshot::Sender<(ExchangeId, Queued)>;
type QueueMailbox = Mailbox<Queued, Recipient, PollPlace>;

/// Finds the queue of each URL that has delivered and has no answer. Outlives registrations: a delivered request may be
/// answered after the end of its registration.
#[derive(Default)]
pub struct AnswerRouter {
    /// The room for the bodies of requests and answers.
    pub(super) store: Arc<SpoolBudget>,
    queues: Mutex<HashMap<UrlId, Weak<Queue>>>,
}

impl AnswerRouter {
    /// A router of queues whose bodies and answers stay within `store`.
    pub fn new(store: Arc<SpoolBudget>) -> Self {
        Self { store, queues: Mutex::default() }
    }

    fn insert(&self, url: UrlId, queue: &Arc<Queue>) {
        self.queues.lock().insert(url, Arc::downgrade(queue));
    }

    fn remove(&self, url: UrlId) {
        self.queues.lock().remove(&url);
    }

    /// The queue whose requests `url` has delivered.
    pub(super) fn find(&self, url: UrlId) -> Option<Arc<Queue>> {
        self.queues.lock().get(&url).and_then(Weak::upgrade)
    }
}

/// See the module.
pub struct Queue {
    pub(super) router: Arc<AnswerRouter>,
    pub(super) room: SpoolRoom,
    /// The room for answers to batches while they are being read, in bytes.
    pub(super) answers: Arc<Semaphore>,
    mailbox: Mutex<QueueMailbox>,
    absence: Duration,
    /// Raised by the first poll.
    pub(super) first_poll: Arc<Flag>,
    /// Raised when the bodies that stream are to break off.
    cut: Arc<Flag>,
}

impl Queue {
    /// An empty queue; requests wait for `absence` after the last poll, and their bodies take at most `most` bytes each
    /// and `room` bytes together.
    pub fn new(router: Arc<AnswerRouter>, absence: Duration, most: usize, room: usize) -> Arc<Self> {
        let answers = defaults::PIPELINES_ANSWERS.min(room).max(defaults::PIPELINE_ANSWERS);
        Arc::new(Self {
            // At most a quarter for one body, so that one visitor does not take all of the room.
            room: SpoolRoom::new(most.min(room / 4), room).within(router.store.clone()),
            router,
            answers: Arc::new(Semaphore::new(answers)),
            mailbox: Mutex::new(Mailbox::new(absence, Instant::now())),
            absence,
            first_poll: Arc::default(),
            cut: Arc::default(),
        })
    }

    /// Changes the mailbox, and executes the effects of the change.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut QueueMailbox) -> T) -> T {
        let mut mailbox = self.mailbox.lock();
        mailbox.advance(Instant::now());
        let result = change(&mut mailbox);
        let mut effects = mailbox.effects();
        // Under the lock, because the URL may deliver again at once.
        effects.retain(|effect| match effect {
            Effect::Forget(url) => {
                self.router.remove(*url);
                false
            }
            _ => true,
        });
        drop(mailbox);
        effects.into_iter().for_each(|effect| self.execute(effect));
        result
    }

    fn execute(&self, effect: Effect<Queued, Recipient, PollPlace>) {
        match effect {
            Effect::Serve(place, id, queued) => {
                // The poll may have broken just now.
                if let Err((id, queued)) = place.send((id, queued)) {
                    self.undelivered(id, queued);
                }
            }
            Effect::Fail(recipient, kind, queued) => recipient.fail(kind, queued),
            Effect::Lost(requests) => {
                tracing::info!(requests, "an agent left with requests in flight");
            }
            Effect::EndPoll(_) | Effect::Drop(..) | Effect::Forget(_) => {}
        }
    }

    /// See [`Mailbox::undelivered`].
    pub(super) fn undelivered(&self, id: ExchangeId, queued: Queued) {
        self.update(|mailbox| mailbox.undelivered(id, queued));
    }

    /// See [`Mailbox::undeliverable`].
    pub(super) fn undeliverable(&self, id: ExchangeId, kind: SendErrorKind) {
        self.update(|mailbox| mailbox.undeliverable(id, kind));
    }

    /// See [`Mailbox::is_wanted`].
    pub(super) fn is_wanted(&self, id: ExchangeId) -> bool {
        self.mailbox.lock().is_wanted(id)
    }

    /// As [`Mailbox::deliver`]; from then on the router finds this queue for the answer.
    pub(super) fn deliver(
        self: &Arc<Self>,
        url: UrlId,
        ids: &[ExchangeId],
        note: impl FnMut(usize, &mut Recipient),
    ) -> bool {
        self.update(|mailbox| {
            let delivers = mailbox.deliver(url, ids, note);
            if delivers {
                self.router.insert(url, self);
            }
            delivers
        })
    }

    /// URLs whose visitors have left, each once. A poll that streams announces them when it has no request.
    pub fn abandoned(&self) -> Vec<UrlId> {
        self.update(|mailbox| mailbox.abandoned())
    }

    /// Ends the registration. Polls end, and requests that wait are sent elsewhere. Requests in hand may still be
    /// answered.
    pub fn end(&self) {
        self.update(|mailbox| mailbox.end());
    }

    /// Ends the registration, the requests in hand, and the bodies that stream.
    pub fn cut(&self) {
        self.update(|mailbox| mailbox.cut());
        self.cut.raise();
    }

    /// The agent has left. Ends the registration, and the requests that the agent has in hand.
    pub fn agent_left(&self) {
        self.update(|mailbox| mailbox.agent_left());
    }

    /// `url` delivers on a connection, and `closed` is set when the agent has closed that connection.
    pub fn delivers_on(&self, url: UrlId, closed: &Arc<AtomicBool>) {
        self.update(|mailbox| mailbox.delivers_on(url, closed));
    }

    /// A poller has registered again, and `url` is its first URL.
    pub fn registered(&self, url: UrlId) {
        self.update(|mailbox| mailbox.registered(url));
    }

    /// Whether the poll of `url` is the first poll of a poller that has registered after others.
    pub fn is_newcomer(&self, url: UrlId) -> bool {
        self.update(|mailbox| mailbox.is_newcomer(url))
    }

    /// Takes over the requests of pollers that are gone. If that is too early, returns how long to wait.
    pub fn take_over(&self) -> Option<Duration> {
        self.update(|mailbox| mailbox.take_over())
    }

    /// Resolves when the bodies that stream are to break off. Cancel safe.
    pub(super) fn is_cut(&self) -> Listener {
        self.cut.listen()
    }

    /// Whether the registration has ended.
    pub fn is_ended(&self) -> bool {
        self.mailbox.lock().is_ended()
    }

    /// Whether a URL has delivered.
    pub fn is_used(&self, url: UrlId) -> bool {
        self.mailbox.lock().is_used(url)
    }

    /// Resolves when the agent has polled once, so that its kind of messages is known. Cancel safe.
    pub(super) fn first_poll(&self) -> Listener {
        self.first_poll.listen()
    }

    /// Whether the last poll wanted whole messages; `None` before the first.
    pub(super) fn wants_whole(&self) -> Option<bool> {
        self.mailbox.lock().wants_whole()
    }

    /// How long requests wait for an agent that does not poll.
    pub(super) fn absence(&self) -> Duration {
        self.absence
    }

    /// The state of the queue.
    pub fn status(&self) -> QueueStatus {
        self.update(|mailbox| mailbox.status())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let urls: Vec<_> = self.mailbox.get_mut().urls().collect();
        urls.into_iter().for_each(|url| self.router.remove(url));
    }
}

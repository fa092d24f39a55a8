//! One registration's queue: its [`Mailbox`] behind a lock, and the execution of its effects.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::UrlId;
use super::delivery::Delivery;
use super::mailbox::{Effect, Mailbox};
use super::request::{Queued, Recipient};
use crate::defaults;
use crate::message::BoxError;
use crate::message::body::{BodyEvent, Observer};
use crate::message::spool::SpoolRoom;
use crate::message::store::SpoolBudget;
use crate::net::flag::{Flag, Listener};

/// Where a poll waits for its request.
type PollPlace = oneshot::Sender<Delivery>;
type QueueMailbox = Mailbox<Queued, Recipient, PollPlace>;

/// Finds the queue of each URL that has delivered and has no answer. Outlives registrations: a delivered request may be
/// answered after the end of its registration.
#[derive(Default)]
pub struct AnswerRouter {
    /// The room for the bodies of requests and answers.
    pub(super) store: Arc<SpoolBudget>,
    pub(super) queues: Mutex<HashMap<UrlId, Weak<Queue>>>,
}

impl AnswerRouter {
    /// A router of queues whose bodies and answers stay within `store`.
    pub fn new(store: Arc<SpoolBudget>) -> Self {
        Self { store, queues: Mutex::default() }
    }
}

/// See the module.
pub struct Queue {
    pub(super) router: Arc<AnswerRouter>,
    pub(super) room: SpoolRoom,
    /// The room for answers to batches while they are being read, in bytes.
    pub(super) answers: Arc<Semaphore>,
    mailbox: Mutex<QueueMailbox>,
    /// How long requests wait for an agent that does not poll.
    pub(super) absence: Duration,
    /// The transport has a place for trailers.
    pub(super) trailers: bool,
    /// Raised by the first poll, which shows the kind of messages that the agent wants.
    pub(super) first_poll: Arc<Flag>,
    /// Raised when the bodies that stream are to break off.
    cut: Arc<Flag>,
}

impl Queue {
    /// An empty queue; requests wait for `absence` after the last poll, and their bodies take at most `most` bytes each
    /// and `room` bytes together. Without `trailers`, the transport has no place for them.
    pub fn new(
        router: Arc<AnswerRouter>,
        absence: Duration,
        (most, room): (usize, usize),
        trailers: bool,
    ) -> Arc<Self> {
        let answers = defaults::PIPELINES_ANSWERS.min(room).max(defaults::PIPELINE_ANSWERS);
        Arc::new(Self {
            // At most a quarter for one body, so that one visitor does not take all of the room.
            room: SpoolRoom::new(most.min(room / 4), room).within(router.store.clone()),
            router,
            answers: Arc::new(Semaphore::new(answers)),
            mailbox: Mutex::new(Mailbox::new(absence, Instant::now())),
            absence,
            trailers,
            first_poll: Arc::default(),
            cut: Arc::default(),
        })
    }

    /// The mailbox, at the present time. The effects of its changes are executed when the guard is dropped.
    pub fn lock(self: &Arc<Self>) -> MailboxGuard<'_> {
        let mut mailbox = self.mailbox.lock();
        mailbox.advance(Instant::now());
        MailboxGuard { queue: self, mailbox }
    }

    fn execute(self: &Arc<Self>, effect: Effect<Queued, Recipient, PollPlace>) {
        match effect {
            // If the poll has broken just now, its request is dropped, which queues the request again.
            Effect::Serve(place, id, request) => drop(place.send(Delivery::new(self, id, request))),
            Effect::Fail(recipient, kind, request) => recipient.fail(kind, request),
            Effect::Lost(requests) => tracing::info!(requests, "an agent left with requests in flight"),
            Effect::EndPoll(_) | Effect::Drop(..) | Effect::Forget(_) => {}
        }
    }

    /// Ends the registration, the requests in hand, and the bodies that stream.
    pub fn cut(self: &Arc<Self>) {
        self.lock().cut();
        self.cut.raise();
    }

    /// Resolves when the bodies that stream are to break off. Cancel safe.
    pub(super) fn is_cut(&self) -> Listener {
        self.cut.listen()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut queues = self.router.queues.lock();
        self.mailbox.get_mut().urls().for_each(|url| drop(queues.remove(&url)));
    }
}

/// See [`Queue::lock`].
pub struct MailboxGuard<'a> {
    queue: &'a Arc<Queue>,
    mailbox: MutexGuard<'a, QueueMailbox>,
}

impl Deref for MailboxGuard<'_> {
    type Target = QueueMailbox;

    fn deref(&self) -> &QueueMailbox {
        &self.mailbox
    }
}

impl DerefMut for MailboxGuard<'_> {
    fn deref_mut(&mut self) -> &mut QueueMailbox {
        &mut self.mailbox
    }
}

impl Drop for MailboxGuard<'_> {
    fn drop(&mut self) {
        let (queue, effects) = (self.queue, self.mailbox.effects());
        if effects.is_empty() {
            return;
        }
        for effect in &effects {
            // Under the lock, because the URL may deliver again at once.
            if let Effect::Forget(url) = effect {
                queue.router.queues.lock().remove(url);
            }
        }
        // Without the lock, because an effect may change the mailbox again.
        MutexGuard::unlocked(&mut self.mailbox, || {
            effects.into_iter().for_each(|effect| queue.execute(effect))
        });
    }
}

/// Breaks a body off when its registration is cut: the reader of the body must not take it for complete.
pub(super) struct BreakWhenCut(pub(super) Listener);

impl Observer for BreakWhenCut {
    fn before(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(()) => Err("the registration was cut".into()),
            Poll::Pending => Ok(()),
        }
    }

    fn event(&mut self, _: BodyEvent) {}
}

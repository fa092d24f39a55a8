//! The polls of one session, few while it is idle and more under load, and the requests that they bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::InFlightRequest;
use crate::defaults;
use crate::message::BoxError;
use crate::net::Scope;
use crate::net::flag::Flag;
use crate::session::{Ended, Handler, Load};

/// Failures in a row of one poll after which the session counts as broken.
const FAILURES: u32 = 3;

/// How a transport polls, answers and ends.
pub(in crate::transport) trait Dialect: Send + Sync + 'static {
    /// The state that one poll leaves to the next.
    type Turn: Default + Send;
    /// A request, as a poll brought it.
    type Message: Send + 'static;

    /// One poll. Dropping the future gives its turn up.
    ///
    /// # Errors
    /// A failure after which the poll may be tried again.
    fn poll(
        &self,
        turn: &mut Self::Turn,
        scope: &Scope,
    ) -> impl Future<Output = Result<PollOutcome<Self::Message>, BoxError>> + Send;

    /// Serves a request, and delivers the answer to the relay. Returns a turn if the request did not arrive as a whole:
    /// a poll with that turn brings the request again. The future is dropped when the visitor has left.
    fn serve(
        &self,
        message: Self::Message,
        handler: Arc<dyn Handler>,
        scope: &Scope,
    ) -> impl Future<Output = Option<Self::Turn>> + Send;

    /// Announces to the relay that the session ends, so that no request is lost with a poll. Returns whether the relay
    /// acknowledged.
    fn end(&self, scope: &Scope) -> impl Future<Output = bool> + Send;
}

/// The outcome of a poll.
pub(in crate::transport) enum PollOutcome<T> {
    /// A request, and its entry among the requests in flight.
    Request(T, InFlightRequest),
    Nothing,
    /// The relay allows no more polls than those that wait.
    TooMany,
    /// Something on the way cut the poll because it waited too long, or the connection broke. The turn stays valid: if
    /// the poll had a request already, another poll with the same turn may bring that request again.
    Cut(BoxError),
    /// The session has ended.
    Ended(StatusCode),
}

/// The state that the polls of one session share.
struct Polls<D> {
    dialect: D,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    scope: Scope,
    /// Raised when no poll is to begin any more.
    halt: Arc<Flag>,
    failure: Mutex<Option<String>>,
    /// How many polls there are.
    count: AtomicUsize,
    /// How many of them wait for the relay.
    waiting: AtomicUsize,
    /// One slot for each poll and each request in flight.
    slots: Arc<Semaphore>,
    /// Every task that must finish before the end of the session holds a clone.
    alive: mpsc::Sender<()>,
}

/// Polls until the session ends; the first poll begins with `first`. When `scope` stops, or `load` is retired, requests
/// in flight finish first. Dropping the future ends the polls at once.
pub(in crate::transport) async fn run<D: Dialect>(
    dialect: D,
    first: D::Turn,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    scope: Scope,
) -> Ended {
    let (alive, mut finished) = mpsc::channel(1);
    let retired = load.retired();
    let halt = Arc::new(Flag::default());
    let polls = Arc::new(Polls {
        dialect,
        handler,
        load,
        scope: scope.clone(),
        halt: halt.clone(),
        failure: Mutex::default(),
        count: AtomicUsize::new(0),
        waiting: AtomicUsize::new(0),
        // The relay sends no more than `ENVELOPES` requests. Polls wait beside them, to bring the ids of requests whose
        // visitors have left.
        slots: Arc::new(Semaphore::new(defaults::ENVELOPES + defaults::POLLS)),
        alive,
    });
    let _halt = HaltOnDrop(halt.clone());
    polls.begin(first);
    for _ in 1..defaults::POLLS {
        polls.begin(D::Turn::default());
    }
    tokio::select! {
        biased;
        () = scope.stopping() => {}
        () = retired => {}
        () = halt.listen() => {
            let reason = polls.failure.lock().take();
            return Ended::Failed(reason.unwrap_or_else(|| "the polls have ended".into()));
        }
    }
    // The relay ends the polls itself, so that no request is lost with a poll.
    if !polls.dialect.end(&scope).await {
        tracing::debug!("the relay did not acknowledge the end of the session");
        polls.halt.raise();
    }
    drop(polls);
    while finished.recv().await.is_some() {}
    Ended::Closed
}

struct HaltOnDrop(Arc<Flag>);

impl Drop for HaltOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl<D: Dialect> Polls<D> {
    /// Begins one more poll.
    fn begin(self: &Arc<Self>, turn: D::Turn) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.spawn(turn);
    }

    /// Begins one more poll, unless the maximum is reached.
    fn begin_if_few(self: &Arc<Self>) {
        let more = |count| (count < defaults::POLLS_BUSY).then_some(count + 1);
        if self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            self.spawn(D::Turn::default());
        }
    }

    /// Ends one poll that brought nothing, unless only the minimum is left. The check and the count are one step;
    /// otherwise several polls could end for the same surplus.
    fn end_if_many(&self) -> bool {
        let fewer = |count| (count > defaults::POLLS).then(|| count - 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }

    fn spawn(self: &Arc<Self>, turn: D::Turn) {
        let polls = self.clone();
        self.scope.spawn(async move {
            let halted = polls.halt.listen();
            let is_counted = tokio::select! {
                biased;
                () = halted => true,
                is_counted = polls.poll_until_end(turn) => is_counted,
            };
            let last = is_counted && polls.count.fetch_sub(1, Ordering::AcqRel) == 1;
            if last && !polls.is_over() {
                polls.fail("no poll is left".into());
            }
        });
    }

    /// Polls again and again, until this poll is to end. Returns whether `count` still includes this poll.
    async fn poll_until_end(self: &Arc<Self>, mut turn: D::Turn) -> bool {
        let mut failures = 0;
        while !self.is_over() {
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return true };
            let waiting = WaitingPolls::enter(&self.waiting);
            let outcome = self.dialect.poll(&mut turn, &self.scope).await;
            drop(waiting);
            match outcome {
                Ok(PollOutcome::Request(message, in_flight)) => {
                    failures = 0;
                    if self.waiting.load(Ordering::Acquire) == 0 {
                        self.begin_if_few();
                    }
                    self.serve(message, in_flight, slot);
                }
                Ok(PollOutcome::Nothing) => {
                    failures = 0;
                    if self.end_if_many() {
                        return false;
                    }
                }
                Ok(PollOutcome::TooMany) => return true,
                Ok(PollOutcome::Cut(error)) => {
                    failures = 0;
                    tracing::debug!(%error, "a poll was cut");
                }
                Ok(PollOutcome::Ended(_)) | Err(_) if self.is_over() => return true,
                Ok(PollOutcome::Ended(status)) => {
                    self.fail(format!("the relay ended the session ({status})"));
                    return true;
                }
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES {
                        self.fail(error.to_string());
                        return true;
                    }
                    tracing::debug!(%error, "a poll failed");
                    tokio::time::sleep(defaults::BACKOFF_FIRST * failures).await;
                }
            }
        }
        true
    }

    fn is_over(&self) -> bool {
        self.scope.is_stopping() || self.load.is_leaving()
    }

    fn serve(
        self: &Arc<Self>,
        message: D::Message,
        mut in_flight: InFlightRequest,
        slot: OwnedSemaphorePermit,
    ) {
        let (polls, busy) = (self.clone(), (slot, self.load.enter(), self.alive.clone()));
        self.scope.spawn(async move {
            let _busy = busy;
            let turn = tokio::select! {
                biased;
                () = in_flight.visitor_left() => {
                    tracing::debug!("a visitor left before its answer");
                    None
                }
                turn = polls.dialect.serve(message, polls.handler.clone(), &polls.scope) => turn,
            };
            // The same request may be in flight again as soon as its turn is polled.
            drop(in_flight);
            if let Some(turn) = turn {
                polls.begin(turn);
            }
        });
    }

    fn fail(&self, reason: String) {
        self.failure.lock().get_or_insert(reason);
        self.halt.raise();
    }
}

struct WaitingPolls<'a>(&'a AtomicUsize);

impl<'a> WaitingPolls<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for WaitingPolls<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

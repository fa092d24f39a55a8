//! A request that waits for a poll, and the place where its visitor waits for the answer.

use std::sync::Arc;

use http::header::UPGRADE;
use tokio::sync::oneshot;

use super::answer::Flight;
use super::deliver::take_in;
use super::queue::Queue;
use super::spool::Spooled;
use crate::message::interim::{Head, Heads};
use crate::message::{Request, Response};
use crate::session::carrier::{SendError, SendErrorKind};

/// Where the answer to one request goes, and what comes before it.
pub(super) struct Done {
    answer: oneshot::Sender<Result<Response, SendError>>,
    heads: Arc<Heads>,
}

impl Done {
    /// The place, and where it is waited for.
    pub(super) fn new(heads: Arc<Heads>) -> (Self, oneshot::Receiver<Result<Response, SendError>>) {
        let (answer, told) = oneshot::channel();
        (Self { answer, heads }, told)
    }

    /// Hands the answer over. Whether somebody waited for it.
    pub(super) fn send(self, answer: Result<Response, SendError>) -> bool {
        self.answer.send(answer).is_ok()
    }

    /// Passes an interim response on.
    pub(super) fn hear(&self, head: Head) {
        self.heads.hear(head);
    }

    /// Whether nobody waits for it.
    pub(super) fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }

    /// Resolves when nobody waits for it. Cancel safe.
    pub(super) async fn closed(&mut self) {
        self.answer.closed().await;
    }
}

/// A request on its way to a poll.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) request: Request,
    pub(super) done: Done,
    /// The body, once it has been taken in; that of the request is empty then.
    pub(super) taken: Option<Spooled>,
}

/// A request with all of its body.
pub(super) struct Whole {
    pub(super) flight: Flight,
    pub(super) request: Request,
    pub(super) taken: Spooled,
}

impl Whole {
    /// `None` when its visitor has gone, its body could not be had, or it asks for an Upgrade, which a whole message
    /// cannot be; a visitor that is there is told.
    pub(super) async fn of(queue: &Arc<Queue>, job: Job) -> Option<Self> {
        if job.done.is_closed() {
            return None;
        }
        let Job { number, mut request, done, taken } = job;
        if request.headers().contains_key(UPGRADE) {
            done.send(Err(SendErrorKind::NoUpgrade.error()));
            return None;
        }
        let (taken, done) = match taken {
            Some(taken) => (taken, done),
            None => take_in(queue, &mut request, done).await?,
        };
        let flight = Flight::whole(queue, number, request.method().clone(), done);
        Some(Self { flight, request, taken })
    }

    /// The same, to wait for another poll.
    pub(super) fn into_job(self) -> Job {
        let Self { flight: Flight { number, done, .. }, request, taken } = self;
        Job { number, request, done, taken: Some(taken) }
    }
}

impl Job {
    /// The request with its body, for another carrier.
    pub(super) fn unsent(self) -> (Request, Done) {
        let Self { mut request, done, taken, .. } = self;
        if let Some(taken) = taken {
            *request.body_mut() = taken.body();
        }
        (request, done)
    }

    /// Gives the request back.
    pub(super) fn give_back(self, kind: SendErrorKind) {
        let (request, done) = self.unsent();
        done.send(Err(kind.unsent(request)));
    }
}

//! A request that waits for a poll, and the place where its visitor waits for the answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;
use http::header::{EXPECT, UPGRADE};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::answer::Flight;
use super::queue::Queue;
use super::send;
use super::spool::{SpoolError, Spooled};
use crate::defaults;
use crate::message::interim::{self, Head};
use crate::message::{Request, Response};
use crate::session::carrier::{SendError, SendErrorKind};

/// Where the answer to one request goes, and what comes before it.
pub(super) struct Done {
    answer: oneshot::Sender<Result<Response, SendError>>,
    interim: interim::Sender,
    /// How often its request may be repeated.
    repeats: usize,
}

impl Done {
    /// The place, and where it is waited for.
    pub(super) fn new(interim: interim::Sender) -> (Self, oneshot::Receiver<Result<Response, SendError>>) {
        let (answer, told) = oneshot::channel();
        (Self { answer, interim, repeats: defaults::REPEATS }, told)
    }

    /// Whether its request may be repeated, which is counted: one that ends each agent that takes it must not go on.
    pub(super) fn may_repeat(&mut self) -> bool {
        let more = self.repeats.checked_sub(1);
        self.repeats = more.unwrap_or(0);
        more.is_some()
    }

    /// Hands the answer over. Whether somebody waited for it.
    pub(super) fn send(self, answer: Result<Response, SendError>) -> bool {
        self.answer.send(answer).is_ok()
    }

    /// Passes an interim response on.
    pub(super) fn interim(&self, head: Head) {
        self.interim.send(head);
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
    /// The body, while it is taken in: the poll that began with it broke, and the next one goes on.
    pub(super) taking: Option<Taking>,
}

/// Resolves when a body has been taken in. It owns the body, so it must be kept for the body not to be lost.
type Taking = BoxFuture<'static, Result<Spooled, SpoolError>>;

/// A job of which a poll makes a message. Dropped before that is done, it goes back to the queue: its poll broke.
pub(super) struct Making<'a> {
    queue: &'a Queue,
    job: Option<Job>,
}

impl<'a> Making<'a> {
    pub(super) fn of(queue: &'a Queue, job: Job) -> Self {
        Self { queue, job: Some(job) }
    }

    /// It does not go back any more.
    pub(super) fn done(mut self) -> Option<Job> {
        self.job.take()
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.queue.put_back(job, None);
        }
    }
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
        if job.request.headers().contains_key(UPGRADE) {
            job.done.send(Err(SendErrorKind::NoUpgrade.error()));
            return None;
        }
        let Job { number, request, done, taken, .. } = job.take_in(queue).await?;
        let taken = taken.unwrap_or_default();
        let flight = Flight::whole(queue, number, request.method().clone(), done);
        Some(Self { flight, request, taken })
    }

    /// The same, to wait for another poll.
    pub(super) fn into_job(self) -> Job {
        let Self { flight: Flight { number, done, .. }, request, taken } = self;
        Job { number, request, done, taken: Some(taken), taking: None }
    }
}

impl Job {
    /// With all of its body. `None` when that cannot be had; its visitor is told. Dropping the future gives the job
    /// back to the queue, with what has come of the body.
    pub(super) async fn take_in(mut self, queue: &Arc<Queue>) -> Option<Self> {
        if self.taken.is_some() {
            return Some(self);
        }
        if self.taking.is_none() {
            let body = std::mem::take(self.request.body_mut());
            // Reading it says 100 to the visitor.
            self.request.headers_mut().remove(EXPECT);
            let queue = queue.clone();
            self.taking = Some(Box::pin(async move { queue.room.take_in(body).await }));
        }
        let mut making = Making::of(queue, self);
        let taken = poll_fn(|cx| match making.job.as_mut().and_then(|job| job.taking.as_mut()) {
            Some(taking) => taking.as_mut().poll(cx),
            None => Poll::Ready(Ok(Spooled::default())),
        });
        let taken = taken.await;
        let mut job = making.done()?;
        job.taking = None;
        match taken {
            Ok(taken) => {
                job.taken = Some(taken);
                Some(job)
            }
            Err(error) => {
                job.done.send(Err(send::of_spool(&error).error()));
                None
            }
        }
    }

    /// Whether it can go at once: without a body, or with one in memory.
    pub(super) fn is_ready(&self) -> bool {
        match &self.taken {
            Some(taken) => taken.in_memory().is_some(),
            None => self.taking.is_none() && self.request.body().is_end_stream(),
        }
    }

    /// The request with its body, for another carrier. Without the request where a part of the body has been read.
    pub(super) fn unsent(self) -> (Option<Request>, Done) {
        let Self { mut request, done, taken, taking, .. } = self;
        if let Some(taken) = taken {
            *request.body_mut() = taken.body();
        }
        (taking.is_none().then_some(request), done)
    }

    /// Gives the request back.
    pub(super) fn give_back(self, kind: SendErrorKind) {
        let (request, done) = self.unsent();
        done.send(Err(request.map_or_else(|| kind.error(), |request| kind.unsent(request))));
    }
}

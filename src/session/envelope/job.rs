//! A request that waits for a poll, and the place where its visitor waits for the answer.

use std::sync::Arc;

use tokio::sync::oneshot;

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

//! A request that waits for a poll, and the place where its visitor waits for the answer.

use tokio::sync::oneshot;

use super::spool::Spooled;
use crate::message::{Request, Response};
use crate::session::carrier::{SendError, SendErrorKind};

/// Where the answer to one request goes.
pub(super) type Done = oneshot::Sender<Result<Response, SendError>>;

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
        let _ = done.send(Err(kind.unsent(request)));
    }
}

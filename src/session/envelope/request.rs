//! A visitor's request on its way to a poll, and the place where its visitor waits for the answer.

use futures_util::future::BoxFuture;
use http::Method;
use http::header::UPGRADE;
use http_body::Body as _;
use tokio::sync::oneshot;

use super::PollMode;
use super::continue_gate::ContinueGate;
use crate::message::spool::{SpoolError, Spooled};
use crate::message::{Request, Response, interim};
use crate::session::carrier::{SendError, SendErrorKind};

/// A request that waits.
pub(super) struct Queued {
    pub(super) request: Request,
    pub(super) upload: Upload,
}

/// The body of a request that waits.
pub(super) enum Upload {
    /// The body is in the request, and no part of it was read.
    Unread,
    /// The body is being read. If the poll that began to read it breaks, the next poll continues. The future owns
    /// the body.
    Spooling(BoxFuture<'static, Result<Spooled, SpoolError>>),
    /// All of the body was read.
    Spooled(Spooled),
}

impl Queued {
    /// Whether the request can be sent at once: it has no body, or its body is in memory.
    pub(super) fn is_ready(&self) -> bool {
        match &self.upload {
            Upload::Unread => self.request.body().is_end_stream(),
            Upload::Spooling(_) => false,
            Upload::Spooled(spooled) => spooled.in_memory().is_some(),
        }
    }

    /// The request with its body, for another carrier; `None` where a part of the body was read.
    pub(super) fn into_request(self) -> Option<Request> {
        let Self { mut request, upload } = self;
        match upload {
            Upload::Unread => {}
            Upload::Spooling(_) => return None,
            Upload::Spooled(spooled) => *request.body_mut() = spooled.body(),
        }
        Some(request)
    }
}

/// The receiver of the answer to one request, and how the answer is to be read.
pub(super) struct Recipient {
    answer: oneshot::Sender<Result<Response, SendError>>,
    pub(super) interim: interim::Sender,
    pub(super) method: Method,
    /// The request is for an Upgrade, so its answer may be a 101.
    pub(super) upgrades: bool,
    /// The mode of the poll that took the request.
    pub(super) mode: PollMode,
    /// The gate of a body that waits for a 100.
    pub(super) gate: Option<ContinueGate>,
}

impl Recipient {
    /// The place for the answer to this request, and the receiver on which its visitor waits.
    pub(super) fn of(
        request: &Request,
        interim: interim::Sender,
    ) -> (Self, oneshot::Receiver<Result<Response, SendError>>) {
        let (answer, receiver) = oneshot::channel();
        let (method, upgrades) = (request.method().clone(), request.headers().contains_key(UPGRADE));
        (Self { answer, interim, method, upgrades, mode: PollMode::WHOLE, gate: None }, receiver)
    }

    /// Sends the answer to the visitor. Returns whether the visitor still waited.
    pub(super) fn respond(self, answer: Result<Response, SendErrorKind>) -> bool {
        self.answer.send(answer.map_err(SendErrorKind::error)).is_ok()
    }

    /// Sends an error to the visitor, with the request if the request can be sent elsewhere.
    pub(super) fn fail(self, kind: SendErrorKind, queued: Option<Queued>) {
        let request = queued.and_then(Queued::into_request);
        let _ = self.answer.send(Err(request.map_or_else(|| kind.error(), |request| kind.unsent(request))));
    }

    /// Resolves when the visitor no longer waits for the answer. Cancel safe.
    pub(super) async fn closed(&mut self) {
        self.answer.closed().await;
    }
}

/// The error of a request whose body could not be read as a whole.
pub(super) fn of_spool(error: &SpoolError) -> SendErrorKind {
    match error {
        SpoolError::TooLarge(_) => SendErrorKind::TooLarge,
        SpoolError::Full => SendErrorKind::Busy,
        SpoolError::Late => SendErrorKind::Slow,
        SpoolError::Broken(_) => SendErrorKind::Closed,
        SpoolError::Disk(error) => {
            tracing::warn!(%error, "an upload cannot be written to a temporary file");
            SendErrorKind::Busy
        }
    }
}

//! A visitor's request on its way to a poll, and the place where its visitor waits for the answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use http::header::UPGRADE;
use http_body::Body as _;
use tokio::sync::oneshot;

use super::{PollMode, Queue};
use crate::message::expect::{self, Gate};
use crate::message::spool::{SpoolError, Spooled};
use crate::message::{Request, Response, hop, interim};
use crate::session::carrier::{SendError, SendErrorKind};

/// A request that waits.
pub struct Queued {
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
    /// Reads all of the body, unless a poll of this mode can stream it. Cancel safe: the next call continues.
    ///
    /// # Errors
    /// The body could not be read, or a complete message cannot carry the request because it is for an Upgrade.
    pub(super) async fn complete(&mut self, queue: &Arc<Queue>, mode: PollMode) -> Result<(), SendErrorKind> {
        let body = self.request.body();
        match self.upload {
            _ if !mode.streams && self.upgrades() => return Err(SendErrorKind::NoUpgrade),
            Upload::Unread if body.is_end_stream() => self.upload = Upload::Spooled(Spooled::default()),
            Upload::Unread if mode.streams => return Ok(()),
            Upload::Unread => {
                if body.size_hint().exact().is_some_and(|length| length > queue.room.most() as u64) {
                    return Err(SendErrorKind::TooLarge);
                }
                let (body, queue) = (std::mem::take(self.request.body_mut()), queue.clone());
                // Reading the body makes the server send 100 to the visitor.
                expect::remove_continue(self.request.headers_mut());
                self.upload = Upload::Spooling(Box::pin(async move { queue.room.take_in(body).await }));
            }
            _ => {}
        }
        if let Upload::Spooling(spooling) = &mut self.upload {
            self.upload = Upload::Spooled(spooling.await.map_err(|error| of_spool(&error))?);
        }
        if let Upload::Spooled(spooled) = &mut self.upload
            && mode.in_memory
        {
            spooled.load().await.map_err(|error| {
                tracing::warn!(%error, "an upload cannot be read from its temporary file");
                SendErrorKind::Busy
            })?;
        }
        Ok(())
    }

    /// Whether the request is for an Upgrade.
    pub(super) fn upgrades(&self) -> bool {
        self.request.headers().contains_key(UPGRADE)
    }

    /// Whether the request can be sent at once: it has no body, or its body is in memory.
    pub(super) fn is_ready(&self) -> bool {
        let unread = matches!(self.upload, Upload::Unread);
        unread && self.request.body().is_end_stream() || self.in_memory().is_some()
    }

    /// The body, if it is in memory.
    pub(super) fn in_memory(&self) -> Option<&Bytes> {
        self.spooled().and_then(Spooled::in_memory)
    }

    /// The body, if all of it was read.
    pub(super) fn spooled(&self) -> Option<&Spooled> {
        if let Upload::Spooled(spooled) = &self.upload { Some(spooled) } else { None }
    }

    /// The request with its body, for another carrier; `None` where a part of the body was read.
    fn into_request(self) -> Option<Request> {
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
pub struct Recipient {
    pub(super) answer: oneshot::Sender<Result<Response, SendError>>,
    pub(super) interim: interim::Sender,
    pub(super) method: Method,
    /// The request is for an Upgrade, so its answer may be a 101.
    pub(super) upgrades: bool,
    /// The visitor takes trailers (`TE: trailers`).
    pub(super) takes_trailers: bool,
    /// The mode of the poll that took the request.
    pub(super) mode: PollMode,
    /// The gate of a body that waits for a 100.
    pub(super) gate: Option<Gate>,
}

impl Recipient {
    /// The place for the answer to this request, and the receiver on which its visitor waits.
    pub(super) fn of(
        request: &Request,
        interim: interim::Sender,
    ) -> (Self, oneshot::Receiver<Result<Response, SendError>>) {
        let (answer, receiver) = oneshot::channel();
        let (method, headers) = (request.method().clone(), request.headers());
        let (upgrades, takes_trailers) = (headers.contains_key(UPGRADE), hop::takes_trailers(headers));
        let (mode, gate) = (PollMode::WHOLE, None);
        (Self { answer, interim, method, upgrades, takes_trailers, mode, gate }, receiver)
    }

    /// Sends the answer to the visitor. Returns whether the visitor still waited.
    pub(super) fn respond(self, answer: Response) -> bool {
        self.answer.send(Ok(answer)).is_ok()
    }

    /// Sends an error to the visitor, with the request if the request can be sent elsewhere.
    pub(super) fn fail(self, kind: SendErrorKind, queued: Option<Queued>) {
        let request = queued.and_then(Queued::into_request);
        let _ = self.answer.send(Err(request.map_or_else(|| kind.error(), |request| kind.unsent(request))));
    }
}

/// The error of a request whose body could not be read as a whole.
fn of_spool(error: &SpoolError) -> SendErrorKind {
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

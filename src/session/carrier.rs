//! How a request crosses one open link. Each flipped connection is one carrier at the relay's end.

use std::fmt;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;

use super::answer_fault::AnswerFault;
use super::in_flight::InFlight;
use crate::domain::SessionId;
use crate::message::{Request, Response, interim};
use crate::net::Core;
use crate::net::flag::{Flag, Listener};
use crate::observe::exchange::Via;

/// The protocols that can run on a flipped connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP/1.1: one request at a time.
    H1,
    /// HTTP/2: many at once.
    H2,
    /// Each request in the answer to a poll, each answer in a POST. Not offered by `ALPN`.
    Envelope,
}

impl Kind {
    /// The kinds that `ALPN` offers, the preferred one first.
    pub const PREFERRED: [Self; 2] = [Self::H2, Self::H1];

    /// The name of the kind in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::Envelope => "envelope",
        }
    }

    /// The protocol id in an `ALPN` field, percent-encoded (RFC 7639 §2.2); empty for a kind without an id.
    pub const fn alpn_field(self) -> &'static str {
        match self {
            Self::H1 => "http%2F1.1",
            Self::H2 => "h2",
            Self::Envelope => "",
        }
    }

    /// The kind that an element of an `ALPN` field names.
    pub fn from_alpn_field(id: &str) -> Option<Self> {
        Self::PREFERRED.into_iter().find(|kind| {
            id == kind.alpn_field() || id.eq_ignore_ascii_case("http%2f1.1") && *kind == Self::H1
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SendError {
    /// Why the request failed.
    pub kind: SendErrorKind,
    /// The request, if the agent has not processed it: it may be sent elsewhere.
    pub unsent: Option<Box<Request>>,
    /// The request, if it was sent, its answer was lost, and a repeat does no harm.
    pub repeatable: Option<Box<Request>>,
}

/// Why a request on a carrier failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// Every connection of the agent is busy, and the queue is full or the wait was too long.
    #[error("every connection of the agent is busy")]
    Busy,
    /// The agent has as many requests in flight as it can have over links of this kind, and the wait was too long.
    #[error("the agent has as many requests in flight as its {0} connections carry")]
    Full(Kind),
    /// The connection had ended, or ended while the request was on it.
    #[error("the agent's connection closed before it answered")]
    Closed,
    /// The answer is not valid HTTP.
    #[error("the agent's answer is not valid HTTP: {0}")]
    Invalid(AnswerFault),
    /// The agent has not polled for a while.
    #[error("the agent does not poll")]
    Absent,
    /// The body is larger than this agent can take.
    #[error("the body is too large for this agent")]
    TooLarge,
    /// The visitor was too slow. It did not complete a body in time that this agent takes only as a whole, or it held
    /// up a connection while other requests waited.
    #[error("the body did not arrive in time")]
    Slow,
    /// This agent cannot carry trailers, without which the answer to the request is useless.
    #[error("the agent's connection cannot carry trailers")]
    NoTrailers,
    /// This agent takes bodies only as a whole, and the request must be forwarded while it arrives (RFC 10036).
    #[error("the agent's connection cannot carry a body while it arrives")]
    NotIncremental,
    /// This agent cannot carry an Upgrade.
    #[error("the agent's connection cannot carry this Upgrade")]
    NoUpgrade,
}

impl SendErrorKind {
    /// Whether the agent cannot take this request, although its session stands.
    pub fn is_declined(self) -> bool {
        matches!(self, Self::Busy | Self::Full(_) | Self::Absent | Self::NoTrailers | Self::NotIncremental)
    }

    pub(super) fn error(self) -> SendError {
        SendError { kind: self, unsent: None, repeatable: None }
    }

    pub(super) fn unsent(self, request: Request) -> SendError {
        SendError { kind: self, unsent: Some(Box::new(request)), repeatable: None }
    }

    pub(super) fn repeatable(self, request: Request) -> SendError {
        SendError { kind: self, unsent: None, repeatable: Some(Box::new(request)) }
    }
}

/// Sends requests down one flipped connection.
pub trait Carrier: Send + Sync {
    /// Sends one request. The request has an absolute target, no `Host`, and no hop-by-hop fields but those of an
    /// Upgrade. The slot is held until the answer's body has ended and the carrier can take the next request. Interim
    /// responses go to `interim`. Dropping the future cancels the request at the agent.
    ///
    /// # Errors
    /// [`SendError`]; it holds the request if the request may be sent again.
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>>;

    /// The transport of the carrier, where it is known.
    fn transport(&self) -> &'static str {
        ""
    }

    /// How many requests the carrier takes at once.
    fn capacity(&self) -> usize;

    /// Announces to the agent that no more requests come. Requests in flight finish.
    fn drain(&self);

    /// Whether the far end has sent nothing for too long.
    fn is_late(&self) -> bool;

    /// Whether the carrier takes no more requests.
    fn is_closed(&self) -> bool;

    /// Whether a slow visitor holds up the connection. A request on it that fails from then on fails as
    /// [`SendErrorKind::Slow`].
    fn is_held_up(&self) -> bool {
        false
    }

    /// Whether answers are pending that the agent sends on connections that it has not opened yet.
    fn needs_listener(&self) -> bool {
        false
    }
}

/// A carrier with the name of its transport.
struct Named {
    carrier: Box<dyn Carrier>,
    transport: &'static str,
}

/// The same carrier, with the name of its transport.
pub fn named(carrier: Box<dyn Carrier>, transport: &'static str) -> Box<dyn Carrier> {
    Box::new(Named { carrier, transport })
}

impl Carrier for Named {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        self.carrier.send(request, slot, interim)
    }

    fn transport(&self) -> &'static str {
        self.transport
    }

    fn capacity(&self) -> usize {
        self.carrier.capacity()
    }

    fn drain(&self) {
        self.carrier.drain();
    }

    fn is_late(&self) -> bool {
        self.carrier.is_late()
    }

    fn is_closed(&self) -> bool {
        self.carrier.is_closed()
    }

    fn is_held_up(&self) -> bool {
        self.carrier.is_held_up()
    }

    fn needs_listener(&self) -> bool {
        self.carrier.needs_listener()
    }
}

/// A carrier with its load. Shared by the session, the slots and the task that drives the connection.
pub struct Link {
    carrier: Box<dyn Carrier>,
    kind: Kind,
    core: Core,
    in_flight: InFlight,
    cut: Arc<Flag>,
    emptied: Arc<Flag>,
    freed: Arc<tokio::sync::Notify>,
    session: OnceLock<SessionId>,
}

impl Link {
    /// A link for a connection that is driven on `core`.
    pub fn new(
        carrier: Box<dyn Carrier>,
        kind: Kind,
        core: Core,
        freed: Arc<tokio::sync::Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            kind,
            core,
            in_flight: InFlight::new(),
            cut: Arc::default(),
            emptied: Arc::default(),
            freed,
            session: OnceLock::new(),
        })
    }

    /// Sets the session of the link.
    pub(super) fn set_session(&self, session: SessionId) {
        let _ = self.session.set(session);
    }

    /// The session of the link; 0 before the link has joined a session.
    pub fn session(&self) -> SessionId {
        self.session.get().copied().unwrap_or(SessionId(0))
    }

    /// Whether this end cut the link.
    pub fn was_cut(&self) -> bool {
        self.cut.is_raised()
    }

    /// The protocol on the link.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The transport and the carrier, for the record of a request.
    pub fn via(&self) -> Via {
        Via { transport: self.carrier.transport(), carrier: self.kind.label() }
    }

    /// The core that drives the link.
    pub fn core(&self) -> Core {
        self.core
    }

    /// Requests in flight on the link.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.carrier.capacity()
    }

    /// Takes a slot if one is free and the link is in use.
    pub fn reserve(self: &Arc<Self>) -> Option<Slot> {
        if self.is_out() {
            return None;
        }
        self.in_flight.enter(self.carrier.capacity()).then(|| Slot(self.clone()))
    }

    /// Sends on a reserved slot of this link.
    ///
    /// # Errors
    /// As [`Carrier::send`].
    pub async fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> Result<Response, SendError> {
        self.carrier.send(request, slot, interim).await
    }

    /// As [`Link::send`], for tests that want no interim responses.
    #[cfg(test)]
    pub(crate) async fn send_plain(&self, request: Request, slot: Slot) -> Result<Response, SendError> {
        self.send(request, slot, interim::Sender::default()).await
    }

    /// Takes the link out of use and announces that to the agent. Requests in flight finish. Idempotent.
    pub fn drain(&self) {
        if self.in_flight.retire() {
            self.carrier.drain();
        }
    }

    /// Cuts the link at once, with the requests on it.
    pub fn cut(&self) {
        self.in_flight.retire();
        self.cut.raise();
    }

    /// Cuts the link if it is in use and a slow visitor holds it up, because other requests wait for it. Returns
    /// whether the link was cut.
    pub(super) fn cut_if_held_up(&self) -> bool {
        let held_up = !self.is_out() && self.in_flight() > 0 && self.carrier.is_held_up();
        if held_up {
            self.cut();
        }
        held_up
    }

    /// Resolves when the link is cut, for the task that drives the connection.
    pub fn is_cut(&self) -> Listener {
        self.cut.listen()
    }

    /// Takes the link out of use after its HTTP connection has ended, and waits for the end of the upgraded streams
    /// that live on. Cancel safe.
    pub async fn emptied(&self) {
        self.in_flight.retire();
        if self.in_flight() > 0 {
            self.emptied.listen().await;
        }
    }

    /// Whether the link takes no new requests.
    pub fn is_out(&self) -> bool {
        self.in_flight.is_retired() || self.carrier.is_closed()
    }

    /// See [`Carrier::needs_listener`].
    pub fn needs_listener(&self) -> bool {
        self.carrier.needs_listener()
    }

    /// See [`Carrier::is_late`].
    pub fn is_late(&self) -> bool {
        self.carrier.is_late()
    }
}

/// The permit for one request on a link. Dropping it frees the place.
#[must_use = "dropping it frees the place on the link"]
pub struct Slot(Arc<Link>);

impl Slot {
    /// The link of the slot.
    pub fn link(&self) -> &Arc<Link> {
        &self.0
    }

    /// Attaches the slot to an answer. The slot is held as long as the stream behind a 101, otherwise until the body
    /// has ended.
    pub(super) fn attach_to(self, response: &mut Response) {
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            response.extensions_mut().insert(HeldSlot(Arc::new(self)));
        } else {
            response.body_mut().hold(self);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0.in_flight.leave() {
            self.0.emptied.raise();
        }
        self.0.freed.notify_one();
    }
}

/// Holds a slot with an upgraded stream. The forwarder takes it out of the answer's extensions.
#[derive(Clone)]
pub struct HeldSlot(pub Arc<Slot>);

/// A carrier in memory, for tests of the code that uses carriers.
#[cfg(test)]
pub(crate) struct Fake {
    capacity: usize,
    answer: Box<dyn Fn(Request, Slot) -> Result<Response, SendError> + Send + Sync>,
}

#[cfg(test)]
impl Fake {
    /// A carrier that gets the result of each request from `answer`.
    pub(crate) fn carrier(
        capacity: usize,
        answer: impl Fn(Request, Slot) -> Result<Response, SendError> + Send + Sync + 'static,
    ) -> Box<dyn Carrier> {
        Box::new(Self { capacity, answer: Box::new(answer) })
    }
}

#[cfg(test)]
impl Carrier for Fake {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        _: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(std::future::ready((self.answer)(request, slot)))
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn drain(&self) {}

    fn is_late(&self) -> bool {
        false
    }

    fn is_closed(&self) -> bool {
        false
    }
}

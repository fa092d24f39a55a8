//! Transports: the protocols that open sessions. A transport decides only how a session opens; the carrier decides how
//! requests cross the session. A new transport needs a folder and a row in [`ALL`]. A program that embeds a relay can
//! add transports by its configuration.

pub mod comet;
mod credentials;
mod flip;
mod polled;
pub mod ptth;
pub mod ptth10;
mod query;
pub mod reversehttp;
mod warnings;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderMap;

pub use self::flip::open_session;
use crate::defaults;
use crate::domain::{
    AgentId, AnswerLimit, AnswerTimeout, Facts, Instance, Offer, Refusal, RefusalKind, Wanted,
};
use crate::message::store::SpoolBudget;
use crate::message::{Request, Response, fields};
use crate::net::dial::{DialError, DialRoute, DialTarget};
use crate::net::flag::Listener;
use crate::net::{Core, Cores, Io, Scope};
use crate::session;
use crate::session::carrier::Carrier;
use crate::session::{Ended, Handler, Kind, Load, ReceiveBudget};

pub use self::credentials::AgentCredentials;

/// Every transport, the preferred first.
pub const ALL: &[&dyn Transport] = &[&ptth10::Ptth10, &ptth::Ptth, &reversehttp::ReverseHttp, &comet::Comet];

/// A protocol that opens sessions.
pub trait Transport: Send + Sync {
    /// The name in `--transport NAME`, and the label in metrics.
    fn name(&self) -> &'static str;

    /// The carriers that its sessions can have. If there are several, the relay chooses among those that an agent
    /// offers.
    fn carriers(&self) -> &'static [Kind];

    /// The name in `--transport NAME` and in logs when only the plain carrier is offered.
    fn plain_name(&self) -> &'static str {
        self.name()
    }

    /// Whether `auto` tries this transport. A transport that works only where a preferred one works need not be tried.
    fn is_automatic(&self) -> bool {
        true
    }

    /// The specification.
    fn spec(&self) -> &'static str;

    /// The ALPN ids (RFC 7301 §3.2) of its streams, the preferred first. On every listener, a TLS connection that
    /// negotiates one of them goes to [`RelaySide::accept_stream`]. Without ids, its sessions begin with requests, or
    /// on listeners of its own.
    fn alpns(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether this transport takes streams that begin without a request. Without an ALPN id, such streams arrive on
    /// listeners of the transport's own.
    fn takes_streams(&self) -> bool {
        !self.alpns().is_empty()
    }

    /// Whether a stream needs a client certificate. The relay offers the ALPN ids of this transport only where the
    /// relay accepts client certificates, and refuses a stream without a certificate.
    fn needs_certificate(&self) -> bool {
        false
    }

    /// Builds the relay's half.
    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide>;

    /// Builds the agent's half.
    fn agent(&self) -> Box<dyn AgentSide>;
}

/// The relay's half of a transport.
pub trait RelaySide: Send + Sync {
    /// Whether a request on the relay's own authority belongs to this transport.
    fn wants(&self, request: &Request) -> bool;

    /// Answers such a request. Work that outlives the answer runs in the scope of the admissions.
    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>>;

    /// Takes a stream that belongs to this transport from its first byte: the connection negotiated one of the ids
    /// of [`Transport::alpns`], which [`Io::alpn`] returns, or arrived on a listener of the transport's own.
    /// Nothing has been read from the stream or written to it. `facts` describe the connection alone; a credential must
    /// arrive on the stream.
    ///
    /// Resolves once the stream is admitted or refused. Work that outlives the future runs in the scope of the
    /// admissions, as with [`open_session`]. The relay drops the future after [`defaults::STREAM`], and when the relay
    /// stops. The stream is closed then, and no route may stay claimed.
    ///
    /// # Errors
    /// [`Refusal`] for the relay's log and metrics. The stream is closed. A refusal in the transport's own form is
    /// written before the future resolves.
    fn accept_stream(&self, _io: Io, _facts: Facts) -> BoxFuture<'_, Result<(), Refusal>> {
        let message = "this transport accepts no streams: its sessions begin with an HTTP request";
        Box::pin(std::future::ready(Err(Refusal::new(RefusalKind::NothingInCommon, message))))
    }

    /// Adds the fields that every response on this transport's resources carries, refusals included.
    fn dress(&self, _request_headers: &HeaderMap, _response: &mut Response) {}
}

/// The agent's half of a transport.
pub trait AgentSide: Send + Sync {
    /// Opens one connection, up to the point where the relay may send requests. Dropping the future
    /// abandons the attempt.
    ///
    /// # Errors
    /// [`OpenError`], which distinguishes a refusal from the absence of this transport.
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>>;
}

/// How a relay treats polls.
#[derive(Clone)]
pub struct Polling {
    /// The key that seals the URLs that agents poll. The URLs stay valid over a restart only if the key is kept; the
    /// default is random.
    pub seal_key: [u8; 32],
    /// How long a poll is held open.
    pub hold: Duration,
    /// How long requests wait for an agent that polled a moment ago.
    pub absence: Duration,
    /// The store for the bodies and answers of all registrations.
    pub store: Arc<SpoolBudget>,
}

impl Default for Polling {
    fn default() -> Self {
        let (hold, absence) = (defaults::POLL_HOLD, defaults::POLL_ABSENCE);
        Self { seal_key: rand::random(), hold, absence, store: Arc::default() }
    }
}

impl Polling {
    /// Long bodies go to files in `folder`, which must exist.
    pub fn keep_in(&mut self, folder: PathBuf) {
        let (memory, disk) = (defaults::ENVELOPES_MEMORY, defaults::ENVELOPES_DISK);
        self.store = Arc::new(SpoolBudget::new(memory, disk, Some(folder)));
    }
}

/// Admits agents: no other code does. Each transport has a value of its own, because a session may outlive all requests
/// of its transport.
pub trait Admissions: Send + Sync {
    /// Authenticates the agent, applies policy, and claims the routes. Dropping the future claims nothing.
    ///
    /// # Errors
    /// [`Refusal`], with a message for the agent's owner.
    fn check<'a>(
        &'a self,
        offer: Offer,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<Box<dyn Admission>, Refusal>>;

    /// As [`Admissions::check`], for an agent that holds proof of an earlier admission instead of its token. All checks
    /// are repeated: the token may have been revoked, and the names may belong to others.
    ///
    /// # Errors
    /// [`Refusal`]
    fn check_again(
        &self,
        agent: &AgentId,
        offer: Offer,
        facts: &Facts,
    ) -> Result<Box<dyn Admission>, Refusal>;

    /// The agent that the credential belongs to.
    ///
    /// # Errors
    /// [`Refusal`] when there is no credential, or the credential is not valid.
    fn who(&self, facts: &Facts) -> Result<AgentId, Refusal>;

    /// As [`Admissions::who`]. Where registration is open, `instance` identifies an agent without a credential.
    ///
    /// # Errors
    /// [`Refusal`]
    fn who_comes<'a>(
        &'a self,
        facts: &'a Facts,
        instance: Option<&'a Instance>,
    ) -> BoxFuture<'a, Result<AgentId, Refusal>>;

    /// Whether an agent that holds proof of an earlier admission may continue, on the connection that `facts` describe.
    fn may_go_on(&self, agent: &AgentId, facts: &Facts) -> bool;

    /// The limit in force for the answers of an agent that requests this limit.
    fn answer_timeout(&self, _agent: &AgentId, _requested: Option<AnswerLimit>) -> AnswerTimeout {
        AnswerTimeout::default()
    }

    /// Warnings for the owner of an agent whose offer was granted with these public URLs, such as a host that no
    /// certificate of the relay covers. The agent is served all the same.
    fn warnings(&self, _agent: &AgentId, _offer: &Offer, _urls: &[String]) -> Vec<String> {
        Vec::new()
    }

    /// Counts an invalid proof, such as a URL that this relay did not make. Returns `refusal`, or the refusal of
    /// too many attempts.
    fn guessed(&self, facts: &Facts, refusal: Refusal) -> Refusal;

    /// How polls are treated.
    fn polling(&self) -> &Polling;

    /// The scope that owns the tasks of sessions.
    fn scope(&self) -> &Scope;

    /// The cores that drive sessions.
    fn cores(&self) -> &Cores;
}

/// The grant of one offer, for one use. Dropping the grant frees the routes.
pub trait Admission: Send {
    /// The agent that was admitted.
    fn agent(&self) -> &AgentId;

    /// The names and hosts granted.
    fn granted(&self) -> &[Wanted];

    /// The public URLs of the names and hosts granted.
    fn urls(&self) -> &[String];

    /// Whether the offer has rules for visitors. The relay enforces these rules.
    fn is_ruled(&self) -> bool;

    /// How many connections of this agent the relay can use with this carrier.
    fn connections(&self, kind: Kind) -> usize;

    /// How many bytes the bodies of requests that wait for a poll may take.
    fn memory(&self) -> usize;

    /// The budget of bytes that this agent may send before its visitors read them.
    fn budget(&self) -> &Arc<ReceiveBudget>;

    /// Puts a fresh link into its session. From now on the relay may send requests on the link.
    fn attach(self: Box<Self>, carrier: Box<dyn Carrier>, kind: Kind, core: Core) -> Attached;
}

/// A link in its session. Dropping this value removes the link, and frees the routes if no other link is left.
#[must_use = "dropping it takes the link out of its session"]
pub struct Attached {
    /// Resolves when the link is to be cut at once: the link was fenced, or its token was revoked.
    pub cut: Listener,
    link: Option<Arc<session::Link>>,
    #[expect(dead_code, reason = "kept for its drop")]
    guard: Box<dyn Any + Send>,
}

impl Attached {
    /// Holds a guard, and the listener that resolves when the guarded link is to be cut.
    pub fn new(cut: Listener, guard: impl Any + Send) -> Self {
        Self { cut, link: None, guard: Box::new(guard) }
    }

    /// Sets the link.
    pub fn on(mut self, link: Arc<session::Link>) -> Self {
        self.link = Some(link);
        self
    }

    /// Whether the link has no free slot. The agent of a full link cannot take another request, and does not poll.
    fn is_full(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_full())
    }

    /// Resolves when nothing is in flight on the link any more, after its HTTP connection has ended. Cancel safe.
    pub fn emptied(&self) -> impl Future<Output = ()> + Send + use<> {
        let link = self.link.clone();
        async move {
            if let Some(link) = link {
                link.emptied().await;
            }
        }
    }
}

/// The rules for visitors in an offer: all `PTTH-Visitors` fields, joined into one text.
fn visitors(headers: &HeaderMap) -> Result<Option<Box<str>>, Refusal> {
    let mut all = Vec::new();
    for value in headers.get_all(fields::PTTH_VISITORS) {
        let text =
            value.to_str().map_err(|_| Refusal::new(RefusalKind::Malformed, "PTTH-Visitors is not ASCII"))?;
        all.push(text);
    }
    Ok((!all.is_empty()).then(|| all.join(", ").into()))
}

/// Checks that the answer to an offer announces that the offer's rules are in force. An offer without rules passes.
///
/// # Errors
/// A message, when the answer does not announce the rules.
fn check_rules_in_force(offer: &Offer, headers: &HeaderMap) -> Result<(), String> {
    let is_announced = headers.get(fields::PTTH_VISITORS).is_some_and(|value| value == "?1");
    if offer.visitors.is_none() || is_announced {
        return Ok(());
    }
    Err("this relay does not support rules for visitors, and would admit every visitor".into())
}

/// What an agent needs to open a connection.
#[derive(Clone)]
pub struct Call {
    /// The relay: scheme, host, perhaps port and path.
    pub relay: http::Uri,
    /// The roots to trust, the client certificate, and the token.
    pub credentials: AgentCredentials,
    /// How to dial the relay.
    pub via: DialRoute,
    /// The offer.
    pub offer: Offer,
    /// The carriers to offer, where the transport lets the relay choose.
    pub carriers: Vec<Kind>,
}

/// The target of a request to a relay. A malformed target is an error: a default target in its place would send the
/// token to another resource.
fn target(text: &str) -> Result<http::Uri, OpenError> {
    text.parse().map_err(|error| {
        OpenError::Broken(format!(
            "the path of the relay's URL and the requested names and hosts are too long together: {error}"
        ))
    })
}

/// The host and port to dial for a relay's URL.
pub fn place(relay: &http::Uri) -> DialTarget {
    let tls = relay.scheme() != Some(&http::uri::Scheme::HTTP);
    let host = relay.host().unwrap_or("localhost").trim_start_matches('[').trim_end_matches(']');
    DialTarget { host: host.into(), port: relay.port_u16().unwrap_or(if tls { 443 } else { 80 }), tls }
}

/// An open connection, ready to be served.
pub struct Opened {
    /// The public URLs.
    pub urls: Vec<String>,
    /// The relay's warnings about these URLs.
    pub warnings: Vec<String>,
    /// How many connections like this the relay can use.
    pub connections: usize,
    /// The agent's end of the session.
    pub link: AgentLink,
}

/// The agent's end of an open session.
pub enum AgentLink {
    /// A connection on which the relay is the client now.
    Flipped {
        /// The carrier on the connection.
        kind: Kind,
        /// The connection.
        io: Io,
    },
    /// The transport fetches requests itself.
    Polled(Box<dyn ServeLink>),
}

impl AgentLink {
    /// The carrier of its requests.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Flipped { kind, .. } => *kind,
            Self::Polled(_) => Kind::Envelope,
        }
    }
}

/// Which bodies get through while they are still being sent. A box on the way may hold bodies back until
/// they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamingSupport {
    /// From the relay to the agent: the answers to polls.
    pub down: bool,
    /// From the agent to the relay.
    pub up: bool,
}

impl StreamingSupport {
    /// Bodies stream in both directions.
    pub const STREAMING: Self = Self { down: true, up: true };
    /// In both directions, a body gets through only when it is complete.
    pub const BUFFERED: Self = Self { down: false, up: false };
}

impl std::fmt::Display for StreamingSupport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.down, self.up) {
            (true, true) => "bodies stream both ways",
            (false, true) => "something on the way holds bodies from the relay back until they are complete",
            (true, false) => "something on the way holds bodies to the relay back until they are complete",
            (false, false) => {
                "something on the way holds bodies back in both directions until they are complete"
            }
        })
    }
}

/// A session without a connection of its own.
pub trait ServeLink: Send {
    /// Which bodies stream, as probed when the session was opened. `None` if every message is sent whole.
    fn flow(&self) -> Option<StreamingSupport> {
        None
    }

    /// Serves until the session ends. When `scope` stops, or `load` is retired, requests in flight finish first.
    /// Dropping the future ends the session at once.
    fn serve(
        self: Box<Self>,
        handler: Arc<dyn Handler>,
        load: Arc<Load>,
        scope: Scope,
    ) -> BoxFuture<'static, Ended>;
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No connection to the relay could be opened.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The relay refused the offer.
    #[error("{message}")]
    Refused {
        /// The status.
        status: http::StatusCode,
        /// The detail in the relay's answer, or else a message with the status.
        message: String,
        /// How long to wait before another attempt.
        retry_after: Option<Duration>,
    },
    /// The answer came from something that does not implement this transport.
    #[error(
        "the answer to the Upgrade was {status}, not 101: something on the way removes Upgrade, or no relay is there"
    )]
    Absent {
        /// The status of that answer.
        status: http::StatusCode,
    },
    /// The answer on a connection without TLS is not HTTP.
    #[error(
        "the answer is not HTTP; if this is the port for TLS, write https:// in --relay, or else check the port"
    )]
    NotHttp,
    /// The answer was not what the transport allows, or the connection broke.
    #[error("the Upgrade failed: {0}")]
    Broken(String),
}

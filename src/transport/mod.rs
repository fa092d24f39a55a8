//! Ways to open a session. A transport answers only how a session comes into being; how requests cross it is the
//! carrier's matter. To add one: a folder, and a row in [`ALL`]. A program that embeds a relay gives it others by its
//! configuration.

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
use crate::domain::{AgentId, Facts, Instance, Offer, Refusal, RefusalKind, Wanted};
use crate::message::store::SpoolBudget;
use crate::message::{Request, Response, fields};
use crate::net::dial::{DialError, DialRoute, DialTarget};
use crate::net::flag::Listener;
use crate::net::{Core, Cores, Io, Scope};
use crate::session;
use crate::session::carrier::Carrier;
use crate::session::{Ended, Handler, Kind, Load, Windows};

pub use self::credentials::AgentCredentials;

/// Every transport, the preferred first.
pub const ALL: &[&dyn Transport] = &[&ptth10::Ptth10, &ptth::Ptth, &reversehttp::ReverseHttp, &comet::Comet];

/// One dialect.
pub trait Transport: Send + Sync {
    /// What people call it: `--transport NAME`, the label in metrics.
    fn name(&self) -> &'static str;

    /// The carriers that its sessions can have. With several, the relay chooses among those that an agent offers.
    fn carriers(&self) -> &'static [Kind];

    /// What people and logs call it when only the plain carrier is offered.
    fn plain_name(&self) -> &'static str {
        self.name()
    }

    /// Whether `auto` tries it; what does nothing that one above it does not, need not be tried.
    fn is_automatic(&self) -> bool {
        true
    }

    /// Where it is written down.
    fn spec(&self) -> &'static str;

    /// The ALPN ids (RFC 7301 §3.2) of its streams, the preferred first: a TLS connection that agrees on one of them
    /// goes to [`RelaySide::accept_stream`], on every listener. With none, its sessions begin with requests, or on
    /// listeners of its own.
    fn alpns(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Whether it takes streams that begin without a request. Without an ALPN id they come on listeners of its own.
    fn takes_streams(&self) -> bool {
        !self.alpns().is_empty()
    }

    /// Whether a stream must come with a client certificate. The relay offers its ALPN ids only where it takes such
    /// certificates, and refuses a stream that comes without one.
    fn needs_certificate(&self) -> bool {
        false
    }

    /// What accepts it at the relay.
    fn relay(&self, door: Arc<dyn Door>) -> Box<dyn RelaySide>;

    /// What opens it at the agent.
    fn agent(&self) -> Box<dyn AgentSide>;
}

/// The relay's half of a transport.
pub trait RelaySide: Send + Sync {
    /// Whether a request on the relay's own authority is this transport's.
    fn wants(&self, request: &Request) -> bool;

    /// Answers such a request; what lives longer than the answer runs in the door's scope.
    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>>;

    /// Takes a stream that is this transport's from its first byte: it came with one of the ids of
    /// [`Transport::alpns`], which [`Io::alpn`] tells, or on a listener of the transport's own. Nothing has been read
    /// from it and nothing written to it. What `facts` knows comes from the connection alone; a credential must come
    /// on the stream.
    ///
    /// Resolves once the stream is admitted or refused. What lives longer runs in the door's scope, as
    /// [`open_session`] does. The relay drops the future after [`defaults::STREAM`] and when it stops; the stream is
    /// closed then, and nothing may stay claimed.
    ///
    /// # Errors
    /// [`Refusal`] for the relay's log and metrics. The stream is closed; a refusal in the transport's own form is
    /// written before.
    fn accept_stream(&self, _io: Io, _facts: Facts) -> BoxFuture<'_, Result<(), Refusal>> {
        let message = "this transport takes no streams: its sessions begin with an HTTP request";
        Box::pin(std::future::ready(Err(Refusal::new(RefusalKind::NothingInCommon, message))))
    }

    /// Adds what every response on this transport's resources carries, refusals too.
    fn dress(&self, _asker: &HeaderMap, _response: &mut Response) {}
}

/// The agent's half of a transport.
pub trait AgentSide: Send + Sync {
    /// Opens one connection and takes it to the point where the relay may send requests. Dropping the future gives
    /// up.
    ///
    /// # Errors
    /// [`OpenError`], which tells a refusal from an absence.
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>>;
}

/// How a relay treats polls.
#[derive(Clone)]
pub struct Polling {
    /// Seals the URLs that agents poll. Kept over restarts, so that the URLs are; else random.
    pub seal_key: [u8; 32],
    /// How long a poll is held open.
    pub hold: Duration,
    /// How long requests wait for an agent that polled a moment ago.
    pub absence: Duration,
    /// For the bodies and answers of all registrations.
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

/// The way in for agents: nobody else admits one. Built once for each transport, because a session may outlive
/// every request of it.
pub trait Door: Send + Sync {
    /// Authenticates, asks policy, claims the routes. Dropping the future claims nothing.
    ///
    /// # Errors
    /// [`Refusal`], with words for the agent's owner.
    fn check<'a>(
        &'a self,
        offer: Offer,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<Box<dyn Admission>, Refusal>>;

    /// As [`Door::check`], for an agent that holds proof of an earlier admission instead of its token. Everything is
    /// judged anew: the token may have been revoked, and the names may belong to others.
    ///
    /// # Errors
    /// [`Refusal`]
    fn check_again(
        &self,
        agent: &AgentId,
        offer: Offer,
        facts: &Facts,
    ) -> Result<Box<dyn Admission>, Refusal>;

    /// Whose credential it is.
    ///
    /// # Errors
    /// [`Refusal`] when there is none, or none that is valid.
    fn who(&self, facts: &Facts) -> Result<AgentId, Refusal>;

    /// As [`Door::who`]; where registration is open, whoever has no credential is who `instance` says.
    ///
    /// # Errors
    /// [`Refusal`]
    fn who_comes<'a>(
        &'a self,
        facts: &'a Facts,
        instance: Option<&'a Instance>,
    ) -> BoxFuture<'a, Result<AgentId, Refusal>>;

    /// Whether an agent that holds proof of an earlier admission may still be here, on a connection of which this is
    /// known.
    fn may_go_on(&self, agent: &AgentId, facts: &Facts) -> bool;

    /// What the owner of an agent should know that was granted these public URLs, such as a host that no certificate of
    /// the relay covers. The agent is served all the same.
    fn warnings(&self, _urls: &[String]) -> Vec<String> {
        Vec::new()
    }

    /// Counts a proof that was none, such as a URL that was not made here. Returns the refusal, or that of one try too
    /// many.
    fn guessed(&self, facts: &Facts, refusal: Refusal) -> Refusal;

    /// How polls are treated.
    fn polling(&self) -> &Polling;

    /// Owns the tasks of sessions.
    fn scope(&self) -> &Scope;

    /// Where sessions are driven.
    fn cores(&self) -> &Cores;
}

/// A one-use "yes" to an offer. Dropping it gives the routes back.
pub trait Admission: Send {
    /// Who was admitted.
    fn agent(&self) -> &AgentId;

    /// What was granted.
    fn granted(&self) -> &[Wanted];

    /// The public URLs of what was granted.
    fn urls(&self) -> &[String];

    /// Whether rules for visitors came with the offer, and will be in force.
    fn is_ruled(&self) -> bool;

    /// How many connections of this agent the relay can use with this carrier.
    fn connections(&self, kind: Kind) -> usize;

    /// What the bodies of requests that wait for a poll may take, in bytes.
    fn memory(&self) -> usize;

    /// How far this agent may send ahead of its visitors.
    fn windows(&self) -> &Arc<Windows>;

    /// Puts a fresh link into its session; requests may come on it from now on.
    fn attach(self: Box<Self>, carrier: Box<dyn Carrier>, kind: Kind, core: Core) -> Attached;
}

/// A link in its session. Dropping this takes it out, and frees the routes if it was the last.
pub struct Attached {
    /// Resolves when the link is to be cut at once: fenced, or its token revoked.
    pub cut: Listener,
    link: Option<Arc<session::Link>>,
    #[expect(dead_code, reason = "kept for its drop")]
    guard: Box<dyn Any + Send>,
}

impl Attached {
    /// A guard, and what says that its link is to be cut.
    pub fn new(cut: Listener, guard: impl Any + Send) -> Self {
        Self { cut, link: None, guard: Box::new(guard) }
    }

    /// Says which link it is.
    #[must_use]
    pub fn on(mut self, link: Arc<session::Link>) -> Self {
        self.link = Some(link);
        self
    }

    /// Whether as many requests are on the link as it takes: its agent has no place for another, and does not poll.
    fn is_full(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_full())
    }

    /// Resolves when nothing is on the link any more, once its HTTP connection has ended. Cancel safe.
    pub fn emptied(&self) -> impl Future<Output = ()> + Send + use<> {
        let link = self.link.clone();
        async move {
            if let Some(link) = link {
                link.emptied().await;
            }
        }
    }
}

/// The rules for visitors that came with an offer, as one text however many fields they came in.
fn visitors(headers: &HeaderMap) -> Result<Option<Box<str>>, Refusal> {
    let mut all = Vec::new();
    for value in headers.get_all(fields::PTTH_VISITORS) {
        let text =
            value.to_str().map_err(|_| Refusal::new(RefusalKind::Malformed, "PTTH-Visitors is no ASCII"))?;
        all.push(text);
    }
    Ok((!all.is_empty()).then(|| all.join(", ").into()))
}

/// Whether the answer to an offer says that the rules are in force, if there are any.
///
/// # Errors
/// In words, when it does not.
fn is_ruled(offer: &Offer, headers: &HeaderMap) -> Result<(), String> {
    let told = headers.get(fields::PTTH_VISITORS).is_some_and(|value| value == "?1");
    if offer.visitors.is_none() || told {
        return Ok(());
    }
    Err("this relay does not know rules for visitors, and would let everybody in".into())
}

/// What an agent needs to open a connection.
#[derive(Clone)]
pub struct Call {
    /// The relay: scheme, host, perhaps port and path.
    pub relay: http::Uri,
    /// Whom to trust, what to show, and the token.
    pub credentials: AgentCredentials,
    /// The way to it.
    pub via: DialRoute,
    /// What is asked for.
    pub offer: Offer,
    /// The carriers offered, where the transport lets the relay choose.
    pub carriers: Vec<Kind>,
}

/// The target of a request to a relay. Anything else in its place would offer the token to another resource.
fn target(text: &str) -> Result<http::Uri, OpenError> {
    text.parse().map_err(|error| {
        OpenError::Broken(format!(
            "the path of the relay's URL and the names and hosts asked for are too long together: {error}"
        ))
    })
}

/// Where a relay's URL points.
pub fn place(relay: &http::Uri) -> DialTarget {
    let tls = relay.scheme() != Some(&http::uri::Scheme::HTTP);
    let host = relay.host().unwrap_or("localhost").trim_start_matches('[').trim_end_matches(']');
    DialTarget { host: host.into(), port: relay.port_u16().unwrap_or(if tls { 443 } else { 80 }), tls }
}

/// An open connection, ready to be served.
pub struct Opened {
    /// The public URLs.
    pub urls: Vec<String>,
    /// What the relay warned of when it granted them.
    pub warnings: Vec<String>,
    /// How many connections like this the relay can use.
    pub connections: usize,
    /// What to do with it.
    pub link: AgentLink,
}

/// The agent's end of an open session.
pub enum AgentLink {
    /// A connection on which the relay is the client now.
    Flipped {
        /// What runs on it.
        kind: Kind,
        /// The connection.
        io: Io,
    },
    /// The transport fetches requests itself.
    Polled(Box<dyn ServeLink>),
}

impl AgentLink {
    /// What carries requests on it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Flipped { kind, .. } => *kind,
            Self::Polled(_) => Kind::Envelope,
        }
    }
}

/// Which bodies come through while they are still being sent. A box on the way may hold them back until they are
/// complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamingSupport {
    /// From the relay to the agent: the answers to polls.
    pub down: bool,
    /// From the agent to the relay.
    pub up: bool,
}

impl StreamingSupport {
    /// Nothing holds them back.
    pub const FREE: Self = Self { down: true, up: true };
    /// Each gets through once it is complete.
    pub const HELD: Self = Self { down: false, up: false };
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
    /// What was found out about the way when the session was opened; `None` if its messages cross whole anyway.
    fn flow(&self) -> Option<StreamingSupport> {
        None
    }

    /// Serves until the session ends. When `scope` stops, or `load` is retired, what is in flight finishes first.
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
pub enum OpenError {
    /// There is no way to the relay.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The relay answered with a "no".
    #[error("{message}")]
    Refused {
        /// The status.
        status: http::StatusCode,
        /// What the relay said, or what the status means.
        message: String,
        /// When another try makes sense.
        retry_after: Option<Duration>,
    },
    /// Something answered that does not speak this transport.
    #[error(
        "the answer to the Upgrade was {status}, not 101: something on the way removes Upgrade, or no relay is there"
    )]
    Absent {
        /// What it said instead.
        status: http::StatusCode,
    },
    /// The answer was not what the transport allows, or the connection broke.
    #[error("the Upgrade failed: {0}")]
    Broken(String),
}

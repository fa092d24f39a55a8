//! The configuration of a relay. Every field has a value from the start; none has to be set later.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::defaults;
use crate::domain::HostName;
use crate::net::nets::Nets;
use crate::observe::Sink;
use crate::policy::Tokens;
use crate::registry::{Directory, directory};
use crate::tls::ServerTls;
use crate::transport::{Polling, Transport};

pub use super::relayhttp::{BadDestination, Destination};

/// How public addresses are made from names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Routing {
    /// `https://NAME.DOMAIN/`: each name has its own browser origin.
    #[default]
    Host,
    /// `https://DOMAIN/NAME/`: one browser origin shared by all, for names that trust each other.
    Path,
}

/// How the relay uses client certificates of agents. Each credential that an agent presents must be valid and must
/// allow the offer: a certificate does not make up for a bad token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCerts {
    /// Certificates are not used: a token is required, and suffices.
    #[default]
    Unused,
    /// A certificate suffices, as a token does.
    Accepted,
    /// Both are required. Open registration makes only the token optional.
    Required,
}
/// Why there is no demo page with [`Routing::Path`].
pub const DEMO_BY_PATH: &str = "the demo page is not available with path routing: in browsers, the pages of \
                                agents would share its origin; use --routing host";

/// One listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 takes any free port.
    pub address: SocketAddr,
    /// TLS, or plain TCP (behind another proxy, and in tests).
    pub tls: bool,
    /// The name of the transport of every stream on this listener, whatever its ALPN id and its first bytes are. With
    /// `None` the listener serves HTTP, and the ALPN ids of every transport.
    pub transport: Option<&'static str>,
}

impl Listen {
    /// A listener for HTTP over TLS.
    pub const fn tls(address: SocketAddr) -> Self {
        Self { address, tls: true, transport: None }
    }

    /// A listener for plain HTTP.
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: false, transport: None }
    }

    /// The same listener for the streams of one transport.
    #[must_use]
    pub const fn of(self, transport: &'static str) -> Self {
        Self { transport: Some(transport), ..self }
    }
}

/// Displayed in the form of the option `--listen`: `https://ADDR:PORT`, `http://ADDR:PORT`, `TRANSPORT://ADDR:PORT`
/// with TLS, and `TRANSPORT+plain://ADDR:PORT` without.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transport, self.tls) {
            (None, true) => write!(f, "https://{}", self.address),
            (None, false) => write!(f, "http://{}", self.address),
            (Some(transport), true) => write!(f, "{transport}://{}", self.address),
            (Some(transport), false) => write!(f, "{transport}+plain://{}", self.address),
        }
    }
}

/// The configuration of a relay.
#[derive(Clone)]
#[non_exhaustive]
pub struct RelayConfig {
    /// The listening addresses for visitors and agents.
    pub listen: Vec<Listen>,
    /// The domain below which names are served.
    pub domain: HostName,
    /// Further authorities of the relay itself.
    pub authorities: Vec<HostName>,
    /// Replaces scheme, host and port of the public URLs that agents get, such as `https://example.org:443`. With
    /// [`Routing::Host`] the name is put in front of its host.
    pub public_url: Option<http::Uri>,
    /// How public addresses are made from names.
    pub routing: Routing,
    /// Proxies in front of the relay. `Forwarded` and `X-Forwarded-*` are trusted from them alone.
    pub trusted_proxies: Nets,
    /// Load balancers that begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: Nets,
    /// TLS for the listeners that use it. ALPN is set by the relay itself.
    pub tls: Option<ServerTls>,
    /// The directory of the routes of each relay, shared by all relays of one domain.
    pub directory: Arc<dyn Directory>,
    /// The tokens of agents.
    pub tokens: Tokens,
    /// How client certificates are used; `tls` sets the CAs that are trusted.
    pub client_certs: ClientCerts,
    /// Whether agents on other machines may connect without TLS.
    pub allow_plain: bool,
    /// Whether visitors of the plain listeners are redirected to the listener with TLS (308). Requests of agents, those
    /// of trusted proxies, and those below `/.well-known/acme-challenge/` are not redirected.
    pub redirect_http: bool,
    /// The age in `Strict-Transport-Security` (RFC 6797), in whole seconds. Over TLS, the answers on the hosts of the
    /// relay have the field, unless the origin has sent one: those on its domain, on the names below it, and on
    /// `authorities`. The hosts of agents' own do not.
    pub hsts: Option<Duration>,
    /// Whether agents without a token may claim names that are free.
    pub open_registration: bool,
    /// Whether a page on the relay's own authority lets browser tabs act as agents. Not with [`Routing::Path`].
    pub demo: bool,
    /// The destinations of RelayHttp. Without destinations RelayHttp is off.
    pub relay_http: Vec<Destination>,
    /// The admin listener: liveness, readiness, metrics and sessions. `None` is off.
    pub admin: Option<Admin>,
    /// The access log: it gets the record of each visitor's request when the request ends.
    pub access_log: Option<Arc<dyn Sink>>,
    /// Threads of the data plane; one per core by default.
    pub cores: usize,
    /// The timeout for the head of an answer. [`Duration::ZERO`] and [`Duration::MAX`] are no timeout. The token of an
    /// agent may allow the agent another timeout: see [`Limits::answer_timeout`](crate::Limits::answer_timeout).
    pub answer: Duration,
    /// How long the routes of an agent stay held after its last connection has closed.
    pub lease: Duration,
    /// How long requests in flight may take to finish when the relay stops.
    pub grace: Duration,
    /// Transports of the program that embeds the relay, beside those of [`crate::transport::ALL`].
    pub transports: Vec<Arc<dyn Transport>>,
    /// The settings for agents that poll.
    pub polling: Polling,
    /// The memory for data that waits for slow visitors and slow agents, in bytes, beside one frame for each body.
    pub buffers: usize,
    /// The most public connections at once. A connection of an agent counts until its roles are swapped.
    pub connections: usize,
    /// The most public connections from one address (one /64 with IPv6). Trusted proxies may have more.
    pub connections_per_address: usize,
    /// The most connections of one agent at once, registrations included.
    pub connections_per_agent: usize,
}

/// The admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// The address.
    pub address: SocketAddr,
    /// Whether a failure to bind ends the start (a configured address) or is only logged (the default address).
    pub required: bool,
}

impl RelayConfig {
    /// A relay with defaults: no listeners, no TLS, no admin.
    pub fn new(domain: HostName, tokens: Tokens) -> Self {
        Self {
            listen: Vec::new(),
            domain,
            authorities: Vec::new(),
            public_url: None,
            routing: Routing::default(),
            trusted_proxies: Nets::default(),
            proxy_protocol: Nets::default(),
            tls: None,
            directory: Arc::new(directory::Memory::default()),
            tokens,
            client_certs: ClientCerts::default(),
            allow_plain: false,
            redirect_http: false,
            hsts: None,
            open_registration: false,
            demo: false,
            relay_http: Vec::new(),
            admin: None,
            access_log: None,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            answer: defaults::ANSWER,
            lease: defaults::LEASE,
            grace: defaults::GRACE,
            transports: Vec::new(),
            polling: Polling::default(),
            buffers: defaults::BUFFERS,
            connections: defaults::CONNECTIONS,
            connections_per_address: defaults::CONNECTIONS_PER_ADDRESS,
            connections_per_agent: defaults::CONNECTIONS_PER_AGENT,
        }
    }

    /// Whether a listener for HTTP has a loopback address.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.listen.iter().any(|listen| listen.transport.is_none() && listen.address.ip().is_loopback())
    }
}

//! What a relay does. Everything is decided here; nothing "must be set by now".

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
pub enum Routing {
    /// `https://NAME.DOMAIN/`: an origin of its own in the browser's sense.
    #[default]
    Host,
    /// `https://DOMAIN/NAME/`: one browser origin shared by all, for names that trust each other.
    Path,
}

/// What an agent's client certificate is good for. Whatever an agent presents must be valid and must allow what it asks
/// for: a bad token is not made good by a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCerts {
    /// Nothing: a token is needed, and is enough.
    #[default]
    Unused,
    /// A certificate does as well as a token.
    Accepted,
    /// Both are needed. Open registration spares the token alone.
    Required,
}
/// Why there is no demo page with [`Routing::Path`].
pub const DEMO_BY_PATH: &str = "the demo page cannot be had with path routing: the pages of agents would share its origin in browsers; use --routing host";

/// One listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// TLS, or plain TCP (behind another proxy, and in tests).
    pub tls: bool,
    /// The name of the transport to which every stream on this listener belongs, whatever its ALPN id and its first
    /// bytes are. Without one the listener is for HTTP, and for the ALPN ids of every transport.
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

    /// The same for the streams of one transport.
    #[must_use]
    pub const fn of(self, transport: &'static str) -> Self {
        Self { transport: Some(transport), ..self }
    }
}

/// As it is written after `--listen`: `https://ADDR:PORT`, `http://ADDR:PORT`, `TRANSPORT://ADDR:PORT` with TLS, and
/// `TRANSPORT+plain://ADDR:PORT` without.
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

/// What a relay does.
#[derive(Clone)]
pub struct RelayConfig {
    /// Where visitors and agents come in.
    pub listen: Vec<Listen>,
    /// The domain below which names are served.
    pub domain: HostName,
    /// Further hosts that are the relay's own.
    pub authorities: Vec<HostName>,
    /// Replaces scheme, host and port of the public URLs that agents are told, such as `https://example.org:443`.
    /// With [`Routing::Host`] the name is put in front of its host.
    pub public_url: Option<http::Uri>,
    /// How public addresses are made from names.
    pub routing: Routing,
    /// Proxies in front of the relay: from them `Forwarded` and `X-Forwarded-*` are believed, and from nobody else.
    pub trusted_proxies: Nets,
    /// Load balancers whose every connection begins with a header of the PROXY protocol.
    pub proxy_protocol: Nets,
    /// TLS for the listeners that use it. ALPN is set by the relay itself.
    pub tls: Option<ServerTls>,
    /// Which relay serves which route, shared by all relays of one domain.
    pub directory: Arc<dyn Directory>,
    /// Who may offer.
    pub tokens: Tokens,
    /// What client certificates are good for; `tls` says whose are believed.
    pub client_certs: ClientCerts,
    /// Agents are let in by plain HTTP from other machines too.
    pub allow_plain: bool,
    /// Whether agents without a token may claim names that are free.
    pub open_registration: bool,
    /// Whether a page on the relay's own authority lets browser tabs be agents. Not with [`Routing::Path`].
    pub demo: bool,
    /// Where requests may be relayed to (RelayHttp); without any, nothing is.
    pub relay_http: Vec<Destination>,
    /// Live, ready, metrics and sessions; `None` is off.
    pub admin: Option<Admin>,
    /// Who gets the record of each request of a visitor at its end: an access log.
    pub access_log: Option<Arc<dyn Sink>>,
    /// Threads of the data plane; one per core by default.
    pub cores: usize,
    /// Until the head of an answer.
    pub answer: Duration,
    /// How long routes stay held for their token after its last connection went.
    pub lease: Duration,
    /// What is in flight gets this long when the relay stops.
    pub grace: Duration,
    /// Transports of the program that embeds the relay, beside those of [`crate::transport::ALL`].
    pub transports: Vec<Arc<dyn Transport>>,
    /// How agents that poll are treated.
    pub polling: Polling,
    /// What may wait here for slow visitors and slow agents, in bytes, beside one frame for each body.
    pub buffers: usize,
    /// Public connections at once. An agent's count until they are flipped.
    pub connections: usize,
    /// And from one address (one /64 with IPv6). Trusted proxies may have more.
    pub connections_per_address: usize,
    /// Connections of one agent at once, flipped ones and registrations.
    pub connections_per_agent: usize,
}

/// The admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// Whether a port in use ends the start (asked for) or is only said (the default address).
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

    /// Whether requests come in on a loopback address.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.listen.iter().any(|listen| listen.transport.is_none() && listen.address.ip().is_loopback())
    }
}

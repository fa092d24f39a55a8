//! The relay: the public side of a tunnel.

mod accept;
mod admin;
mod admit;
mod announce;
mod certificates;
pub mod config;
mod connection_limit;
mod cookies;
mod credentials;
mod demo;
mod describe;
mod entry;
mod forward;
mod handshake;
mod heads;
mod https;
mod login;
mod lookup;
mod max_forwards;
mod names;
mod newcomers;
mod open;
mod presence;
mod public;
mod record;
mod relayhttp;
mod respond;
mod response_timeout;
mod shares;
mod streams;
mod transports;
mod trusted_proxy;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::admit::RelayAdmissions;
use self::announce::Announcer;
use self::config::{ClientCerts, Listen, RelayConfig, Routing};
use self::connection_limit::{ConnectionLimit, LingerLimit};
use self::credentials::Credentials;
use self::entry::ListenerSettings;
use self::heads::HeadBudget;
pub use self::https::BadHttps;
use self::https::Https;
use self::names::Names;
use self::newcomers::Newcomers;
use self::relayhttp::RelayHttp;
use self::shares::Shares;
pub use self::transports::BadTransport;
use self::transports::Transports;
use crate::defaults;
use crate::net::descriptors::Descriptors;
use crate::net::{Cores, Scope, listener};
use crate::observe::Metrics;
use crate::policy::Checks;
use crate::registry::Registry;
use crate::session::{Link, ReceiveBudget};
use crate::tls::Acceptor;
use crate::transport::Admissions;

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A TLS listener without a certificate.
    #[error("the listener {0} uses TLS, and no certificate is configured")]
    NoCertificate(SocketAddr),
    /// Client certificates are configured, and no listener uses TLS.
    #[error("client certificates are configured, and no listener uses TLS")]
    NoClientCertificates,
    /// The demo page would share its browser origin with the pages of agents.
    #[error("{}", config::DEMO_BY_PATH)]
    DemoByPath,
    /// A transport, or a listener for a transport, that the relay cannot serve.
    #[error(transparent)]
    Transport(#[from] BadTransport),
    /// A redirect to `https`, or `Strict-Transport-Security`, without the listeners for it.
    #[error(transparent)]
    Https(#[from] BadHttps),
    /// The threads or the event queues could not be started.
    #[error("cannot start the data plane: {0}")]
    Cores(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program uses the port: stop that program, or choose another port with --listen"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege: choose a higher port, or grant CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// The state that all connections of a relay share.
struct Shared {
    config: Arc<RelayConfig>,
    names: Arc<Names>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    credentials: Arc<Credentials>,
    checks: Checks,
    /// The receive budget for the uploads of visitors.
    uploads: Arc<ReceiveBudget>,
    heads: HeadBudget,
    transports: Transports,
    relay_http: RelayHttp,
    connection_limit: Arc<ConnectionLimit>,
    lingering: Arc<LingerLimit>,
    descriptors: Descriptors,
    newcomers: Arc<Newcomers>,
    /// The listening addresses, with the ports that were bound.
    addresses: Vec<Listen>,
    https: Https,
    /// The URL below which each error code has a page.
    error_pages: Arc<str>,
    listeners: Scope,
    visitors: Scope,
}

impl Shared {
    /// The port of a listener for visitors. A listener with this setting of TLS is preferred.
    fn visitors_port(&self, tls: bool) -> Option<u16> {
        visitors_listener(&self.addresses, tls).map(|listen| listen.address.port())
    }
}

fn visitors_listener(addresses: &[Listen], tls: bool) -> Option<&Listen> {
    let of_visitors = || addresses.iter().filter(|listen| listen.transport.is_none());
    of_visitors().find(|listen| listen.tls == tls).or(of_visitors().next())
}

fn error_pages(names: &Names, addresses: &[Listen]) -> String {
    let listener = visitors_listener(addresses, true);
    names.error_pages(listener.is_none_or(|listen| listen.tls), listener.map(|listen| listen.address.port()))
}

/// A running relay. A drop cuts all connections at once; [`Relay::stop`] lets requests in flight finish.
#[must_use = "dropping it cuts every connection of the relay"]
pub struct Relay {
    shared: Arc<Shared>,
    room: usize,
    admin_address: Option<SocketAddr>,
    admin: Scope,
    sessions: Scope,
    draining: CancellationToken,
    // The last field, so that the threads end after the tasks that run on them.
    _cores: Cores,
}

impl Relay {
    /// Binds every listener, then accepts on each core. Needs a runtime; the data plane runs on threads of its own.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub fn start(config: RelayConfig) -> Result<Self, StartError> {
        let cores = Cores::start(config.cores).map_err(StartError::Cores)?;
        Self::start_on(config, cores)
    }

    /// As [`Relay::start`], on these cores; their number replaces the one in the configuration. With [`Cores::ambient`]
    /// the whole relay runs on the runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub fn start_on(mut config: RelayConfig, cores: Cores) -> Result<Self, StartError> {
        config.cores = cores.count();
        let config = Arc::new(config);
        check(&config)?;
        let names = Arc::new(Names::new(config.clone(), config.is_on_loopback()));
        let registry = Registry::new(config.lease);
        let dropped = config.access_log.as_ref().and_then(|log| log.dropped());
        let metrics = Arc::new(Metrics::with_dropped(dropped));
        let (sessions, visitors, draining) = (Scope::new(), Scope::new(), CancellationToken::new());
        let credentials = Arc::new(Credentials::new(config.clone()));
        let budget = ReceiveBudget::observed(config.buffers, metrics.clone());
        let connection_limit = ConnectionLimit::new(config.connections, config.connections_per_address);
        let uploads = budget.share(defaults::BUFFERS_OF_UPLOADS);
        let admissions: Arc<dyn Admissions> = Arc::new(RelayAdmissions {
            config: config.clone(),
            credentials: credentials.clone(),
            names: names.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
            scope: sessions.clone(),
            cores: cores.clone(),
            shares: Shares::new(budget),
            announcer: Announcer::new(config.directory.clone(), sessions.clone(), cores.clone()),
            presence: Arc::default(),
            draining: draining.clone(),
        });
        let transports = Transports::new(&config, &admissions);
        let bound = bind(&config, &transports)?;
        let admin_bound = admin::bind(config.admin)?;
        let addresses: Vec<_> = bound.iter().map(|b| b.listen).collect();
        let shared = Arc::new(Shared {
            heads: HeadBudget::new(config.buffers / defaults::BUFFERS_OF_HEADS),
            lingering: LingerLimit::new(config.connections, metrics.clone()),
            relay_http: RelayHttp::new(config.clone(), credentials.clone(), visitors.clone()),
            transports,
            https: Https::new(&config, &addresses),
            error_pages: error_pages(&names, &addresses).into(),
            addresses,
            config,
            names,
            registry: registry.clone(),
            metrics: metrics.clone(),
            credentials,
            checks: Checks::default(),
            uploads,
            connection_limit,
            descriptors: Descriptors::of_this_process(),
            newcomers: Newcomers::new(newcomer_places()),
            listeners: Scope::new(),
            visitors,
        });
        let room = room(&bound);
        bound.into_iter().for_each(|bound| bound.accept_on(&shared, &cores));
        start_maintenance(&shared, &cores);
        let (admin, admin_address) = (Scope::new(), admin_bound.as_ref().map(|(address, _)| *address));
        if let Some((address, listener)) = admin_bound {
            let view = admin::RelayView { registry, metrics, draining: draining.clone() };
            admin.spawn_on(cores.handle(0), admin::run(view, listener, address, admin.clone()));
        }
        Ok(Self { shared, room, admin_address, admin, sessions, draining, _cores: cores })
    }

    /// The listening addresses, with the ports that were bound, in the order of the configuration.
    pub fn addresses(&self) -> &[Listen] {
        &self.shared.addresses
    }

    /// The number of public connections for which this process has file descriptors, beside the descriptors that are
    /// reserved for agents, the admin listener and files.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The address of the admin listener, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Reads the files of certificates and client CAs again and logs the changes. Tokens need no such call: the relay
    /// reads them again by itself. A file that cannot be loaded changes nothing, and open connections are not affected.
    /// Dropping the future does not stop the reading.
    pub async fn reload(&self) {
        certificates::reload(&self.shared).await;
    }

    /// Stops the relay in a fixed order; returns the number of connections that were cut.
    ///
    /// The relay drains the agents' sessions first, so that agents connect elsewhere before their last answer has been
    /// sent, and from then on it refuses agents. Then it stops accepting visitors, and requests in flight get the grace
    /// period. The agents' links close after that, because requests in flight need them. The admin listener stops last,
    /// so that it can report until then.
    pub async fn stop(self) -> usize {
        self.draining.cancel();
        self.shared.registry.close();
        let deadline = tokio::time::Instant::now() + self.shared.config.grace;
        self.drain();
        // Agents that poll send their answers in requests to the listeners, so the listeners stay open until each
        // answer has begun.
        while self.links().iter().any(|link| link.needs_listener()) && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(defaults::ANSWERS_CHECK).await;
        }
        self.shared.listeners.stop(defaults::FLIP).await;
        let remaining = deadline.saturating_duration_since(tokio::time::Instant::now());
        let mut cut = self.shared.visitors.stop_with(remaining, || self.log_cut_requests()).await;
        // An agent that was admitted just before the stop may have joined its session after the first drain.
        self.drain();
        cut += self.sessions.stop(std::time::Duration::from_secs(1)).await;
        self.admin.stop(std::time::Duration::from_secs(1)).await;
        cut
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.shared.registry.sessions().iter().flat_map(|session| session.links().to_vec()).collect()
    }

    /// Logs the requests that outlast the grace, by agent.
    fn log_cut_requests(&self) {
        let sessions = self.shared.registry.sessions();
        let busy: Vec<_> = sessions.iter().filter(|session| session.load() > 0).collect();
        for session in busy.iter().take(defaults::CUT_NAMED) {
            let routes: Vec<_> = session.routes.iter().map(ToString::to_string).collect();
            let (agent, routes, requests) = (&session.agent, routes.join(" "), session.load());
            tracing::warn!(%agent, %routes, requests, "requests were cut at the end of the grace period");
        }
        if let Some(agents @ 1..) = busy.len().checked_sub(defaults::CUT_NAMED) {
            tracing::warn!(agents, "requests of further agents were cut at the end of the grace period");
        }
    }

    fn drain(&self) {
        for session in self.shared.registry.sessions() {
            session.drain();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.listeners.abort();
        self.shared.visitors.abort();
        self.sessions.abort();
        self.admin.abort();
    }
}

struct BoundListeners {
    listen: Listen,
    per_core: Vec<StdListener>,
    tls: Option<Arc<Acceptor>>,
}

/// Refuses a configuration that no relay can serve.
fn check(config: &RelayConfig) -> Result<(), StartError> {
    if config.demo && config.routing == Routing::Path {
        return Err(StartError::DemoByPath);
    }
    if config.client_certs != ClientCerts::Unused && !config.listen.iter().any(|listen| listen.tls) {
        return Err(StartError::NoClientCertificates);
    }
    config.check_https()?;
    Ok(config.check_transports()?)
}

fn bind(config: &RelayConfig, transports: &Transports) -> Result<Vec<BoundListeners>, StartError> {
    let bind = |listen: &Listen| {
        let tls = match (listen.tls, &config.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(Arc::new(tls.acceptor(transports.alpn(listen)))),
            (true, None) => return Err(StartError::NoCertificate(listen.address)),
        };
        let (address, per_core) = listener::bind(listen.address, config.cores)
            .map_err(|source| StartError::Listen { address: listen.address, source })?;
        Ok(BoundListeners { listen: Listen { address, ..*listen }, per_core, tls })
    };
    config.listen.iter().map(bind).collect()
}

/// The number of connections for which descriptors are left, beside these listeners and all descriptors opened before
/// them.
fn room(bound: &[BoundListeners]) -> usize {
    let last = bound.iter().flat_map(|b| &b.per_core).max_by_key(|listener| listener.as_raw_fd());
    last.map_or(0, |last| Descriptors::of_this_process().fit_beside(last))
}

fn newcomer_places() -> usize {
    (Descriptors::of_this_process().reserved() / defaults::NEWCOMERS_SHARE).min(defaults::NEWCOMERS)
}

impl BoundListeners {
    fn accept_on(self, shared: &Arc<Shared>, cores: &Cores) {
        for (core, listener) in self.per_core.into_iter().enumerate() {
            let local = self.listen.address;
            let transport = self.listen.transport.and_then(|name| shared.transports.by_name(name)).cloned();
            let (shared, owner) = (shared.clone(), shared.listeners.clone());
            let settings = Arc::new(ListenerSettings { local, tls: self.tls.clone(), transport });
            owner.spawn_on(cores.handle(core), async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept::run(shared, listener, settings).await,
                    Err(error) => tracing::error!(%local, %error, "a core cannot listen"),
                }
            });
        }
    }
}

/// Starts the tasks that maintain tokens, routes and certificates while the relay listens.
fn start_maintenance(shared: &Arc<Shared>, cores: &Cores) {
    let control = cores.handle(0);
    shared.listeners.spawn_on(control, maintain(shared.clone()));
    shared.listeners.spawn_on(control, certificates::watch(shared.clone()));
}

/// Reads tokens that changed on disk, cuts agents that have lost their rights, and removes routes whose lease has
/// ended.
async fn maintain(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(defaults::TOKENS_CHECK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.listeners.stopping() => return,
            _ = tick.tick() => {}
        }
        let tokens = shared.config.tokens.clone();
        match tokio::task::spawn_blocking(move || tokens.refresh_if_changed()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot read the tokens again; the known tokens remain valid")
            }
            Err(error) => tracing::warn!(%error, "the task that reads the tokens failed"),
        }
        // This visits every route, which would delay the requests on a core of the data plane.
        let relay = shared.clone();
        let tidied = tokio::task::spawn_blocking(move || {
            let may_keep = |agent: &_, route: &_| relay.credentials.may_keep(&relay.names, agent, route);
            relay.registry.tidy(may_keep);
        });
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "the task that removes expired routes failed");
        }
    }
}

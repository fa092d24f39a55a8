//! The public side.

mod accept;
mod admin;
mod admit;
mod announce;
mod certificates;
pub mod config;
mod cookies;
mod credentials;
mod demo;
mod entry;
mod forward;
mod front;
mod handshake;
mod lookup;
mod measure;
mod names;
mod newcomers;
mod open;
mod patience;
mod presence;
mod public;
mod record;
mod relayhttp;
mod respond;
mod seats;
mod shares;
mod streams;
mod transports;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::admit::Doorkeeper;
use self::announce::Announcer;
use self::config::{ClientCerts, Listen, RelayConfig, Routing};
use self::credentials::Credentials;
use self::entry::Entrance;
use self::names::Names;
use self::newcomers::Newcomers;
use self::relayhttp::RelayHttp;
use self::seats::Seats;
use self::shares::Shares;
pub use self::transports::BadTransport;
use self::transports::Transports;
use crate::defaults;
use crate::net::descriptors::Descriptors;
use crate::net::{Cores, Scope, listener};
use crate::observe::Metrics;
use crate::policy::Checks;
use crate::registry::Registry;
use crate::session::{Link, Windows};
use crate::tls::Acceptor;
use crate::transport::Door;

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be had.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A TLS listener without a certificate.
    #[error("the listener {0} wants TLS, and there is no certificate")]
    NoCertificate(SocketAddr),
    /// Client certificates are asked for, and no listener can.
    #[error("client certificates are asked for, and there is no listener with TLS")]
    NoClientCertificates,
    /// The demo page would share its browser origin with the pages of agents.
    #[error("{}", config::DEMO_BY_PATH)]
    DemoByPath,
    /// A transport that cannot be served, or a listener for it.
    #[error(transparent)]
    Transport(#[from] BadTransport),
    /// No threads or event queues.
    #[error("cannot start the data plane: {0}")]
    Cores(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has the port: stop it, or choose another with --listen"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege: try one above, or grant CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// What every connection of a relay shares.
struct Shared {
    config: Arc<RelayConfig>,
    names: Arc<Names>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    credentials: Arc<Credentials>,
    checks: Checks,
    /// What the uploads of visitors may have.
    uploads: Arc<Windows>,
    transports: Transports,
    relay_http: RelayHttp,
    seats: Arc<Seats>,
    descriptors: Descriptors,
    newcomers: Arc<Newcomers>,
    /// Where it listens, with the ports that it got.
    addresses: Vec<Listen>,
    listeners: Scope,
    visitors: Scope,
}

impl Shared {
    /// A port where visitors come in, with or without TLS.
    fn visitors_port(&self, tls: bool) -> Option<u16> {
        let of_visitors = || self.addresses.iter().filter(|listen| listen.transport.is_none());
        let alike = of_visitors().find(|listen| listen.tls == tls);
        alike.or(of_visitors().next()).map(|listen| listen.address.port())
    }
}

/// A running relay. Dropping it cuts everything at once; [`Relay::stop`] lets what is in flight finish.
pub struct Relay {
    shared: Arc<Shared>,
    room: usize,
    admin_address: Option<SocketAddr>,
    admin: Scope,
    sessions: Scope,
    draining: CancellationToken,
    // Last, so that the threads end after what runs on them.
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

    /// As [`Relay::start`], on these cores, whatever the configuration says of their number: with [`Cores::ambient`] all
    /// of a relay runs on the runtime of the caller.
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
        let windows = Windows::watched(config.buffers, metrics.clone());
        let seats = Seats::new(config.connections, config.connections_per_address);
        let uploads = windows.share(defaults::BUFFERS_OF_UPLOADS);
        let door: Arc<dyn Door> = Arc::new(Doorkeeper {
            config: config.clone(),
            credentials: credentials.clone(),
            names: names.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
            scope: sessions.clone(),
            cores: cores.clone(),
            shares: Shares::new(windows),
            announcer: Announcer::new(config.directory.clone(), sessions.clone(), cores.clone()),
            presence: Arc::default(),
            draining: draining.clone(),
        });
        let transports = Transports::new(&config, &door);
        let bound = bind(&config, &transports)?;
        let admin_bound = admin::bind(config.admin)?;
        let shared = Arc::new(Shared {
            relay_http: RelayHttp::new(config.clone(), credentials.clone(), visitors.clone()),
            transports,
            addresses: bound.iter().map(|b| b.listen).collect(),
            config,
            names,
            registry: registry.clone(),
            metrics: metrics.clone(),
            credentials,
            checks: Checks::default(),
            uploads,
            seats,
            descriptors: Descriptors::of_this_process(),
            newcomers: Newcomers::new(newcomers()),
            listeners: Scope::new(),
            visitors,
        });
        let room = room(&bound);
        for bound in bound {
            bound.accept_on(&shared, &cores);
        }
        look_after(&shared, &cores);
        let admin_address = admin_bound.as_ref().map(|(address, _)| *address);
        let admin = Scope::new();
        if let Some((address, listener)) = admin_bound {
            let view = admin::RelayView { registry, metrics, draining: draining.clone() };
            admin.spawn_on(cores.handle(0), admin::run(view, listener, address, admin.clone()));
        }
        Ok(Self { shared, room, admin_address, admin, sessions, draining, _cores: cores })
    }

    /// Where it listens, with the ports that it got, in the order of the configuration.
    pub fn addresses(&self) -> &[Listen] {
        &self.shared.addresses
    }

    /// How many public connections this process has file descriptors for, beside those that are reserved for agents, the
    /// admin listener and files.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Where the admin listener is, if there is one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Reads the files of certificates and client CAs again and logs what changed; tokens are read again without being
    /// asked to. What cannot be loaded changes nothing, and connections that stand are untouched. Dropping the future
    /// does not stop the reading.
    pub async fn reload(&self) {
        certificates::reload(&self.shared).await;
    }

    /// Stops in order, each step with its reason; returns how many connections had to be cut.
    ///
    /// Agents are told first, so that they stand elsewhere before the last answer is out, and are sent away when
    /// they come back here. Then no visitor is accepted any more, and what is in flight gets the grace. The agents'
    /// links go after that, because what is in flight needs them, and the admin listener last, so that it can tell.
    pub async fn stop(self) -> usize {
        self.draining.cancel();
        self.shared.registry.close();
        let until = tokio::time::Instant::now() + self.shared.config.grace;
        self.drain();
        // The answers of agents that poll come in by the listeners, until they have begun.
        while self.links().iter().any(|link| link.awaits_calls()) && tokio::time::Instant::now() < until {
            tokio::time::sleep(defaults::ANSWERS_CHECK).await;
        }
        self.shared.listeners.stop(defaults::FLIP).await;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let mut cut = self.shared.visitors.stop_and_name(left, || self.name_what_is_cut()).await;
        // An agent that was let in a moment before the stop may have joined its session after it.
        self.drain();
        cut += self.sessions.stop(std::time::Duration::from_secs(1)).await;
        self.admin.stop(std::time::Duration::from_secs(1)).await;
        cut
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.shared.registry.sessions().iter().flat_map(|session| session.links().to_vec()).collect()
    }

    /// Logs the requests that outlast the grace, by agent.
    fn name_what_is_cut(&self) {
        let sessions = self.shared.registry.sessions();
        let busy: Vec<_> = sessions.iter().filter(|session| session.load() > 0).collect();
        for session in busy.iter().take(defaults::CUT_NAMED) {
            let routes: Vec<_> = session.routes.iter().map(ToString::to_string).collect();
            let (agent, routes, requests) = (&session.agent, routes.join(" "), session.load());
            tracing::warn!(%agent, %routes, requests, "requests were cut when the grace ended");
        }
        if let Some(agents @ 1..) = busy.len().checked_sub(defaults::CUT_NAMED) {
            tracing::warn!(agents, "requests of further agents were cut when the grace ended");
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

/// What no relay can do.
fn check(config: &RelayConfig) -> Result<(), StartError> {
    if config.demo && config.routing == Routing::Path {
        return Err(StartError::DemoByPath);
    }
    if config.client_certs != ClientCerts::Unused && !config.listen.iter().any(|listen| listen.tls) {
        return Err(StartError::NoClientCertificates);
    }
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

/// How many connections have descriptors, beside these listeners and all that was opened before them.
fn room(bound: &[BoundListeners]) -> usize {
    let last = bound.iter().flat_map(|b| &b.per_core).max_by_key(|listener| listener.as_raw_fd());
    last.map_or(0, |last| Descriptors::of_this_process().fit_beside(last))
}

fn newcomers() -> usize {
    (Descriptors::of_this_process().reserved() / defaults::NEWCOMERS_SHARE).min(defaults::NEWCOMERS)
}

impl BoundListeners {
    fn accept_on(self, shared: &Arc<Shared>, cores: &Cores) {
        for (core, listener) in self.per_core.into_iter().enumerate() {
            let local = self.listen.address;
            let transport = self.listen.transport.and_then(|name| shared.transports.named(name)).cloned();
            let (shared, owner) = (shared.clone(), shared.listeners.clone());
            let entrance = Arc::new(Entrance { local, tls: self.tls.clone(), transport });
            owner.spawn_on(cores.handle(core), async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept::run(shared, listener, entrance).await,
                    Err(error) => tracing::error!(%local, %error, "a core cannot listen"),
                }
            });
        }
    }
}

/// Starts what looks after tokens, routes and certificates for as long as the relay listens.
fn look_after(shared: &Arc<Shared>, cores: &Cores) {
    let control = cores.handle(0);
    shared.listeners.spawn_on(control, keep(shared.clone()));
    shared.listeners.spawn_on(control, certificates::keep(shared.clone()));
}

/// Notices tokens that changed on disk, cuts whom they no longer let in, forgets routes that nobody holds.
async fn keep(shared: Arc<Shared>) {
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
                tracing::warn!(%error, "cannot read the tokens again; those known stay in force")
            }
            Err(error) => tracing::warn!(%error, "cannot look after the tokens"),
        }
        // Looks at every route, which no core of the data plane has the time for.
        let inside = shared.clone();
        let tidied = tokio::task::spawn_blocking(move || {
            let may_stay = |agent: &_, route: &_| inside.credentials.may_stay(&inside.names, agent, route);
            inside.registry.tidy(may_stay);
        });
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "cannot look after the routes");
        }
    }
}

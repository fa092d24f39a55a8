//! Opens connections to the origin, and probes whether the origin answers.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::UnixStream;
use tokio::time::Instant;

use super::OriginTarget;
use super::trust::OriginTrust;
use crate::defaults;
use crate::net::Io;
use crate::net::dial::{self, DialError, DialTarget};
use crate::net::exhausted::is_exhausted;
use crate::net::public_address::is_private;
use crate::tls::pin::refused_pin;

/// Why there is no connection to the origin.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("cannot connect to the socket: {0}")]
    Unix(io::Error),
    #[error("no connection to the socket within {} s", defaults::ORIGIN_CONNECT.as_secs())]
    UnixTimeout,
    #[error("{0} has no private address, and --origin-insecure applies to private addresses only")]
    NotPrivate(DialTarget),
}

impl ConnectError {
    /// Whether the agent has no file descriptor for the connection.
    pub(super) fn is_exhausted(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_exhausted(),
            Self::Unix(error) => is_exhausted(error),
            Self::UnixTimeout | Self::NotPrivate(_) => false,
        }
    }
}

/// Opens connections to one target.
pub(super) struct Connector {
    target: OriginTarget,
    trust: OriginTrust,
    /// The loopback address that answered the probe.
    found: OnceLock<DialTarget>,
}

impl Connector {
    /// The ALPN protocols of `trust` are replaced by the HTTP version of the target.
    pub(super) fn new(target: OriginTarget, mut trust: OriginTrust) -> Self {
        let version = if matches!(target, OriginTarget::Http2(_)) { &b"h2"[..] } else { b"http/1.1" };
        Arc::make_mut(&mut trust.tls).alpn_protocols = vec![version.to_vec()];
        Self { target, trust, found: OnceLock::new() }
    }

    pub(super) fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// As [`Connector::connect`], for a request. If the agent has no file descriptor left, the request waits for one, up
    /// to [`defaults::DESCRIPTOR`]: the end of another request frees one. `close_idle` closes an idle connection, and
    /// returns whether there was one.
    pub(super) async fn connect_for_request(
        &self,
        close_idle: impl Fn() -> bool,
    ) -> Result<Io, ConnectError> {
        let deadline = Instant::now() + defaults::DESCRIPTOR;
        loop {
            match self.connect().await {
                Err(error) if error.is_exhausted() && Instant::now() < deadline => {
                    tracing::debug!(%error, "waiting for a file descriptor for a connection to the origin");
                    if !close_idle() {
                        tokio::time::sleep(defaults::DESCRIPTOR_CHECK).await;
                    }
                }
                connected => return connected,
            }
        }
    }

    /// Connects, within [`defaults::ORIGIN_CONNECT`]. Dropping the future cancels the attempt.
    pub(super) async fn connect(&self) -> Result<Io, ConnectError> {
        match &self.target {
            OriginTarget::Web(place) | OriginTarget::Http2(place) => {
                // A restarted service may listen on the other loopback address.
                match self.found.get() {
                    Some(found) if let Ok(io) = self.web(found).await => Ok(io),
                    _ => self.web(place).await,
                }
            }
            OriginTarget::Unix(path) => {
                let stream = tokio::time::timeout(defaults::ORIGIN_CONNECT, UnixStream::connect(path));
                let stream = stream.await.map_err(|_| ConnectError::UnixTimeout)?;
                stream.map(Io::other).map_err(ConnectError::Unix)
            }
            #[cfg(feature = "cli")]
            // Never called: a directory needs no connection.
            OriginTarget::Directory(_) => Err(ConnectError::Unix(io::ErrorKind::NotConnected.into())),
        }
    }

    async fn web(&self, place: &DialTarget) -> Result<Io, ConnectError> {
        let within = defaults::ORIGIN_CONNECT;
        let connect = async {
            let mut addresses = dial::addresses(place).await?;
            if self.trust.private_only && place.tls {
                addresses.retain(|address| is_private(address.ip()));
                if addresses.is_empty() {
                    return Err(ConnectError::NotPrivate(place.clone()));
                }
            }
            let stream = dial::connect_any(addresses, place).await?;
            let name = self.trust.server_name.as_ref();
            Ok(dial::secure_as(stream, place, name, &self.trust.tls).await?)
        };
        let connected = tokio::time::timeout(within, connect).await;
        connected.unwrap_or_else(|_| Err(DialError::Timeout { target: place.clone(), within }.into()))
    }

    /// Checks whether the target answers, and remembers which of the two loopback addresses answered first.
    pub(super) async fn probe(&self) -> Probe {
        let answered = match (&self.target, self.target.local_port()) {
            (OriginTarget::Web(place) | OriginTarget::Http2(place), Some(_)) if !place.tls => {
                self.probe_loopback(place).await
            }
            _ => self.connect().await.map(|_| None),
        };
        let (answers, text) = match answered {
            Ok(None) => (true, format!("{} answers", self.target)),
            Ok(Some(place)) => (true, format!("{} answers", self.target.at(&place))),
            Err(error) => (false, self.failure_text(&error)),
        };
        Probe::new(answers, text)
    }

    /// Connects to both loopback addresses, and returns the address that connected first.
    async fn probe_loopback(&self, place: &DialTarget) -> Result<Option<DialTarget>, ConnectError> {
        let at = |host: &str| DialTarget { host: host.into(), ..place.clone() };
        let (v4, v6) = (at("127.0.0.1"), at("::1"));
        let connect = |place| async move { self.web(&place).await.map(|_| place) };
        let (first, last) = (Box::pin(connect(v4)), Box::pin(connect(v6)));
        let found = match futures_util::future::select_ok([first, last]).await {
            Ok((place, _)) => place,
            Err(error) => return Err(error),
        };
        Ok(Some(self.found.get_or_init(|| found).clone()))
    }

    fn failure_text(&self, error: &ConnectError) -> String {
        let advice = "start your service; until then, requests will be answered 502";
        match (self.target.local_port(), error) {
            (Some(port), ConnectError::Dial(DialError::Connect { .. })) => {
                format!("nothing listens on port {port} (tried 127.0.0.1 and [::1]): {advice}")
            }
            (_, ConnectError::Dial(error @ DialError::Tls { source, .. })) => {
                let check = match refused_pin(source) {
                    Some(_) => "if the key has changed, give its pin with --origin-pin",
                    None => "for a private CA pass --origin-ca, for a self-signed certificate --origin-pin",
                };
                format!("{} cannot be used: {error}; {check}; requests will be answered 502", self.target)
            }
            (_, ConnectError::NotPrivate(_)) => {
                format!("{} cannot be used: {error}; requests will be answered 502", self.target)
            }
            _ => format!("{} does not answer ({error}): {advice}", self.target),
        }
    }
}

/// The result of [`super::Origin::probe`], displayed as one sentence for a person.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Whether the target answers.
    pub answers: bool,
    text: String,
}

impl Probe {
    pub(super) fn new(answers: bool, text: String) -> Self {
        Self { answers, text }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

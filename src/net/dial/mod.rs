//! Outbound TCP and TLS connections, directly or through a proxy, under one deadline.

mod choice;
mod connect;
mod fault;
mod protocol;
mod proxy;
mod socks;
mod tcp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::choice::Proxies;
pub use self::fault::{ProxyError, ProxyFault};
pub use self::protocol::ProxyKind;
pub use self::proxy::{BadProxy, DialRoute, Proxy};
pub use self::tcp::{addresses, connect_any, resolve};
use super::io::{Io, Tcp};

/// The destination of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    /// A DNS name or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

impl std::fmt::Display for DialTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error("cannot resolve the name {host:?}: {source}")]
    Resolve {
        /// The name.
        host: Box<str>,
        /// The error of the resolver.
        source: io::Error,
    },
    /// No address accepts a connection.
    #[error("cannot connect to {place}: {source}")]
    Connect {
        /// Host and port.
        place: DialTarget,
        /// The system's error for the last address that was tried.
        source: io::Error,
    },
    /// The proxy on the way did not open the connection.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// TCP is connected, but the TLS handshake failed.
    #[error("TLS with {place} failed: {source}")]
    Tls {
        /// Host and port.
        place: DialTarget,
        /// The handshake's error; it contains a `rustls::Error` if it was about certificates.
        source: io::Error,
    },
    /// The deadline passed.
    #[error("no connection to {place} within {} s", within.as_secs())]
    Timeout {
        /// Host and port.
        place: DialTarget,
        /// The deadline.
        within: Duration,
    },
}

/// Connects directly, with TLS if the place requires it, within `within`. Dropping the future gives up.
///
/// # Errors
/// [`DialError`], by the step that failed.
pub async fn dial(
    place: &DialTarget,
    tls: &Arc<rustls::ClientConfig>,
    within: Duration,
) -> Result<Io, DialError> {
    dial_via(&DialRoute::Direct, place, tls, within).await
}

/// As [`dial`], by the route `via`.
///
/// # Errors
/// [`DialError`], by the step that failed.
pub async fn dial_via(
    via: &DialRoute,
    place: &DialTarget,
    tls: &Arc<rustls::ClientConfig>,
    within: Duration,
) -> Result<Io, DialError> {
    // The proxy to blame if the deadline passes.
    let mut at_proxy = None;
    let connect = async {
        let stream = match via {
            DialRoute::Direct => tcp::connect(place).await?,
            DialRoute::Proxy(proxy) => {
                at_proxy = Some(proxy);
                let stream = proxy.connect(place).await?;
                at_proxy = None;
                stream
            }
        };
        secure(stream, place, tls).await
    };
    let done = tokio::time::timeout(within, connect).await;
    done.unwrap_or_else(|_| {
        Err(match at_proxy {
            Some(proxy) => proxy.failed(place, ProxyFault::Timeout),
            None => DialError::Timeout { place: place.clone(), within },
        })
    })
}

/// The handshake, if the place requires TLS, on a connection to the place. Dropping the future gives up.
///
/// # Errors
/// [`DialError::Tls`]
pub async fn secure(
    stream: TcpStream,
    place: &DialTarget,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Io, DialError> {
    if !place.tls {
        return Ok(Io::plain(Tcp::new(stream)));
    }
    let failed = |source| DialError::Tls { place: place.clone(), source };
    let name = ServerName::try_from(place.host.to_string()).map_err(|e| failed(io::Error::other(e)))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, Tcp::new(stream)).await.map_err(failed)?;
    Ok(Io::tls_client(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;

    #[tokio::test]
    async fn the_error_names_a_silent_proxy() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let place = DialTarget { host: "relay.test".into(), port: 443, tls: true };
        let tls = tls::client_config_for_none().unwrap();
        for scheme in ["http", "socks5h"] {
            let via = Proxies::parse(&format!("{scheme}://{address}"), "--proxy").unwrap().via("relay.test");
            let error = dial_via(&via, &place, &tls, Duration::from_millis(50)).await.err().unwrap();
            let text = error.to_string();
            assert!(text.starts_with(&format!("the proxy {address} gave no answer in time; ")), "{text}");
        }
        drop(silent);
        let via = Proxies::parse(&format!("http://{address}"), "--proxy").unwrap().via("relay.test");
        let text = dial_via(&via, &place, &tls, Duration::from_secs(5)).await.err().unwrap().to_string();
        assert!(text.starts_with(&format!("cannot connect to the proxy {address}: ")), "{text}");
    }
}

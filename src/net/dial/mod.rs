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
use super::exhausted::is_exhausted;
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
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// Host and port.
        target: DialTarget,
        /// The system's error for the last address that was tried.
        source: io::Error,
    },
    /// The proxy on the route did not open the connection.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// TCP is connected, but the TLS handshake failed.
    #[error("TLS with {target} failed: {source}")]
    Tls {
        /// Host and port.
        target: DialTarget,
        /// The handshake's error; it contains a `rustls::Error` if it was about certificates.
        source: io::Error,
    },
    /// The deadline passed.
    #[error("no connection to {target} within {} s", within.as_secs())]
    Timeout {
        /// Host and port.
        target: DialTarget,
        /// The deadline.
        within: Duration,
    },
}

impl DialError {
    /// Whether another attempt fails in the same way: the host does not exist, the certificate is not accepted, or the
    /// port does not use TLS. A resolver that does not answer is no such cause.
    pub fn is_lasting(&self) -> bool {
        match self {
            // The resolver's error has no code in the standard library. These are the texts of glibc and macOS, of musl,
            // and of Windows.
            Self::Resolve { source, .. } => {
                let text = source.to_string();
                ["not known", "does not resolve", "No such host"].iter().any(|lasting| text.contains(lasting))
            }
            Self::Tls { source, .. } => {
                let error = source.get_ref().and_then(|inner| inner.downcast_ref());
                matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidMessage(_)))
            }
            _ => false,
        }
    }

    /// Whether this process or this machine has no file descriptor for the connection.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Resolve { source, .. } | Self::Connect { source, .. } if is_exhausted(source))
    }
}

/// Connects by the route `via`, with TLS if the target requires it, within `within`. Dropping the future gives up.
///
/// # Errors
/// [`DialError`], by the step that failed.
pub async fn dial_via(
    via: &DialRoute,
    target: &DialTarget,
    tls: &Arc<rustls::ClientConfig>,
    within: Duration,
) -> Result<Io, DialError> {
    // The proxy to blame if the deadline passes.
    let mut at_proxy = None;
    let connect = async {
        let stream = match via {
            DialRoute::Direct => tcp::connect(target).await?,
            DialRoute::Proxy(proxy) => {
                at_proxy = Some(proxy);
                let stream = proxy.connect(target).await?;
                at_proxy = None;
                stream
            }
        };
        secure(stream, target, tls).await
    };
    let connected = tokio::time::timeout(within, connect).await;
    connected.unwrap_or_else(|_| {
        Err(match at_proxy {
            Some(proxy) => proxy.failed(target, ProxyFault::Timeout),
            None => DialError::Timeout { target: target.clone(), within },
        })
    })
}

/// The handshake, if the target requires TLS, on a connection to the target. Dropping the future gives up.
///
/// # Errors
/// [`DialError::Tls`]
pub async fn secure(
    stream: TcpStream,
    target: &DialTarget,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Io, DialError> {
    secure_as(stream, target, None, tls).await
}

/// As [`secure`], for a server with this name instead of the target's host.
///
/// # Errors
/// [`DialError::Tls`]
pub async fn secure_as(
    stream: TcpStream,
    target: &DialTarget,
    name: Option<&ServerName<'static>>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Io, DialError> {
    if !target.tls {
        return Ok(Io::plain(Tcp::new(stream)));
    }
    let failed = |source| DialError::Tls { target: target.clone(), source };
    let name = match name {
        Some(name) => name.clone(),
        None => ServerName::try_from(target.host.to_string()).map_err(|e| failed(io::Error::other(e)))?,
    };
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
        let target = DialTarget { host: "relay.test".into(), port: 443, tls: true };
        let tls = tls::client_config_for_none().unwrap();
        for scheme in ["http", "socks5h"] {
            let via = Proxies::parse(&format!("{scheme}://{address}"), "--proxy").unwrap().via("relay.test");
            let error = dial_via(&via, &target, &tls, Duration::from_millis(50)).await.err().unwrap();
            let text = error.to_string();
            assert!(text.starts_with(&format!("the proxy {address} gave no answer in time; ")), "{text}");
        }
        drop(silent);
        let via = Proxies::parse(&format!("http://{address}"), "--proxy").unwrap().via("relay.test");
        let text = dial_via(&via, &target, &tls, Duration::from_secs(5)).await.err().unwrap().to_string();
        assert!(text.starts_with(&format!("cannot connect to the proxy {address}: ")), "{text}");
    }
}

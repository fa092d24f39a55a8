//! TCP and TLS out, under one deadline.

mod tcp;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

pub use self::tcp::resolve;
use super::io::{Io, Tcp};

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A DNS name or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// With TLS.
    pub tls: bool,
}

impl std::fmt::Display for Place {
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
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot connect to {place}: {source}")]
    Connect {
        /// Host and port.
        place: Place,
        /// What the system said of the last address tried.
        source: io::Error,
    },
    /// TCP stands, TLS does not.
    #[error("TLS with {place} failed: {source}")]
    Tls {
        /// Host and port.
        place: Place,
        /// The handshake's error; a `rustls::Error` inside if it was about certificates.
        source: io::Error,
    },
    /// The deadline passed.
    #[error("no connection to {place} within {} s", within.as_secs())]
    Timeout {
        /// Host and port.
        place: Place,
        /// The deadline.
        within: Duration,
    },
}

/// Connects, with TLS if the place wants it, within `within`. Dropping the future gives up.
///
/// # Errors
/// [`DialError`], by the step that failed.
pub async fn dial(place: &Place, tls: &Arc<rustls::ClientConfig>, within: Duration) -> Result<Io, DialError> {
    let connect = async {
        let tcp = tcp::connect(place).await?;
        if !place.tls {
            return Ok(Io::plain(Tcp::new(tcp)));
        }
        let failed = |source| DialError::Tls { place: place.clone(), source };
        let name = ServerName::try_from(place.host.to_string()).map_err(|e| failed(io::Error::other(e)))?;
        let stream = TlsConnector::from(tls.clone()).connect(name, Tcp::new(tcp)).await.map_err(failed)?;
        Ok(Io::tls_client(stream))
    };
    tokio::time::timeout(within, connect)
        .await
        .unwrap_or_else(|_| Err(DialError::Timeout { place: place.clone(), within }))
}

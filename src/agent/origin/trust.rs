//! How an agent verifies the certificate of a target with TLS, and identifies itself there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{BadOrigin, OriginTarget};
use crate::domain::HostName;
use crate::net::dial::{self, DialError};
use crate::net::public_address::is_private;
use crate::tls;
use crate::tls::pin::{self, Pin};

/// The TLS settings of one target. By default its certificate must be valid for its host, from a CA of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OriginTls {
    /// Trusts the roots of this PEM file instead of those of the system.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must be valid for, and that the agent sends (SNI, RFC 6066 §3), instead of the host
    /// of the target.
    pub server_name: Option<HostName>,
    /// The client certificate that the agent presents: the chain, leaf first, and its key, both as PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Trusts a certificate with one of these keys, whatever its issuer, names and dates, and no other certificate.
    /// Replaces `ca`.
    pub pins: Vec<Pin>,
    /// Trusts every certificate, on loopback, private and link-local addresses only. Replaces `ca` and `pins`.
    pub insecure: bool,
}

impl OriginTls {
    /// Reads the files. With [`OriginTls::insecure`] logs a warning.
    pub(super) fn trust(&self, target: &OriginTarget) -> Result<OriginTrust, BadOrigin> {
        let Some(place) = target.tls_place() else { return Ok(tls::client_config_for_none()?.into()) };
        if self.insecure {
            if place.host.parse::<IpAddr>().is_ok_and(|address| !is_private(address)) {
                return Err(BadOrigin::NotPrivate(target.clone()));
            }
            tracing::warn!(
                %target, "--origin-insecure: the certificate of the target is not verified; --origin-pin would verify it"
            );
        }
        let mut tls = match (self.insecure, &self.pins[..]) {
            (true, _) => pin::unverified()?,
            (false, []) => tls::client_config(self.ca.as_deref(), &[])?,
            (false, pins) => pin::pinned(pins)?,
        };
        if let Some((cert, key)) = &self.identity {
            tls = tls::with_identity(&tls, cert, key)?;
        }
        let name = self.server_name.as_ref();
        let name = name.map(|name| server_name(name).ok_or_else(|| BadOrigin::ServerName(name.clone())));
        Ok(OriginTrust { tls, server_name: name.transpose()?, private_only: self.insecure })
    }
}

fn server_name(host: &HostName) -> Option<ServerName<'static>> {
    ServerName::try_from(host.as_str().trim_matches(['[', ']']).to_owned()).ok()
}

/// The TLS configuration for one target.
pub struct OriginTrust {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
    /// Whether only private addresses may be connected to.
    pub(super) private_only: bool,
}

impl From<Arc<ClientConfig>> for OriginTrust {
    fn from(tls: Arc<ClientConfig>) -> Self {
        Self { tls, server_name: None, private_only: false }
    }
}

/// The pin of the certificate that a target with TLS presents. Sends nothing but the handshake, within
/// [`crate::defaults::ORIGIN_CONNECT`]. `None` for a target without TLS, and if there is no certificate to be had.
pub async fn presented_pin(target: &OriginTarget, settings: &OriginTls) -> Option<Pin> {
    let place = target.tls_place()?;
    // A configuration without pins refuses every certificate, and the refusal names the pin.
    let tls = pin::pinned(&[]).ok()?;
    let name = settings.server_name.as_ref().and_then(server_name);
    let handshake = async {
        let stream = dial::connect_any(dial::addresses(place).await?, place).await?;
        dial::secure_as(stream, place, name.as_ref(), &tls).await
    };
    match tokio::time::timeout(crate::defaults::ORIGIN_CONNECT, handshake).await {
        Ok(Err(DialError::Tls { source, .. })) => pin::refused_pin(&source),
        _ => None,
    }
}

//! The hosts of development certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::string::Ia5String;
use rcgen::{GeneralSubtree, SanType};
use rustls::pki_types::ServerName;

use crate::domain::HostName;

use super::DevError;

/// A host that a certificate can be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertHost {
    /// This host.
    Name(HostName),
    /// Every host one label below this one.
    Wildcard(HostName),
    /// This address.
    Address(IpAddr),
}

impl std::str::FromStr for CertHost {
    type Err = DevError;

    fn from_str(text: &str) -> Result<Self, DevError> {
        let bad = |reason: String| DevError::Host { text: text.into(), reason };
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        let Some(below) = text.strip_prefix("*.") else {
            return HostName::parse(text).map(Self::Name).map_err(|e| bad(e.to_string()));
        };
        let below = HostName::parse(below).map_err(|e| bad(e.to_string()))?;
        match below.as_str().contains('.') {
            true => Ok(Self::Wildcard(below)),
            false => Err(bad(format!("TLS stacks refuse *.{below}; try *.ptth.{below}"))),
        }
    }
}

impl CertHost {
    pub(super) fn san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Name(host) => SanType::DnsName(Ia5String::try_from(host.as_str())?),
            Self::Wildcard(below) => SanType::DnsName(Ia5String::try_from(format!("*.{below}"))?),
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }

    /// The name constraint that limits a CA to this host; `None` for addresses (see [`super`]).
    pub(super) fn subtree(&self) -> Option<GeneralSubtree> {
        match self {
            Self::Name(host) | Self::Wildcard(host) => Some(GeneralSubtree::DnsName(host.as_str().into())),
            Self::Address(_) => None,
        }
    }

    /// A host for which a certificate with this entry must be valid.
    pub(super) fn sample(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Name(host) => ServerName::try_from(host.as_str().to_owned()).ok(),
            Self::Wildcard(below) => ServerName::try_from(format!("name.{below}")).ok(),
            Self::Address(address) => Some(ServerName::from(*address)),
        }
    }
}

/// The requested hosts, and those of this machine, each once.
pub(super) fn with_local(hosts: &[CertHost]) -> Vec<CertHost> {
    let local = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(CertHost::Address);
    let localhost = HostName::parse("localhost").into_iter().map(CertHost::Name);
    let mut all: Vec<CertHost> = Vec::new();
    for host in hosts.iter().cloned().chain(localhost).chain(local) {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    all
}

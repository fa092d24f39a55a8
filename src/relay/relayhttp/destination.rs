//! The destinations of RelayHttp: those that the operator allows, the destination of a request, and its addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::domain::HostName;
use crate::net::{dial, public_address};

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not HOST or HOST:PORT: {reason}")]
pub struct BadDestination {
    text: String,
    reason: String,
}

/// A host and a port, displayed in the form of a `Host` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAndPort {
    pub(super) host: HostName,
    pub(super) port: u16,
}

impl HostAndPort {
    /// Parses `HOST[:PORT]`; the default port is 80.
    ///
    /// # Errors
    /// [`BadDestination`], also for the other notations of an IPv4 address that a resolver would accept.
    pub(super) fn parse(text: &str) -> Result<Self, BadDestination> {
        let bad = |reason: &str| BadDestination { text: text.into(), reason: reason.into() };
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']').ok_or_else(|| bad("a bracket is missing"))? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => 80,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad("the port is not valid"))?
            }
            _ => return Err(bad("the port is not valid")),
        };
        let host = HostName::parse(host).map_err(|error| bad(&error.to_string()))?;
        match literal(&host).is_none() && ends_in_a_number(&host) {
            true => Err(bad("an IPv4 address must be four decimal numbers")),
            false => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for HostAndPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            80 => write!(f, "{}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

/// Whether a host is an IPv4 address in any notation, by the rule of the URL Standard.
fn ends_in_a_number(host: &HostName) -> bool {
    let last = host.as_str().rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || last.bytes().all(|b| b.is_ascii_digit())
}

fn literal(host: &HostName) -> Option<IpAddr> {
    host.as_str().trim_matches(['[', ']']).parse().ok()
}

/// A destination to which requests may be relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host_and_port: HostAndPort,
    /// The fixed address of the host, used instead of a resolver's answer.
    pinned: Option<IpAddr>,
}

impl Destination {
    /// Parses `HOST[:PORT]` or `HOST[:PORT]=ADDRESS`; the default port is 80. A host that is an IP address or has an
    /// address after `=` may be inside a private network; any other host must resolve to public addresses when it is
    /// used.
    ///
    /// # Errors
    /// [`BadDestination`]
    pub fn parse(text: &str) -> Result<Self, BadDestination> {
        let (target, pin) = text.split_once('=').map_or((text, None), |(target, pin)| (target, Some(pin)));
        let host_and_port = HostAndPort::parse(target)?;
        let bad = |_| BadDestination { text: text.into(), reason: "no IP address follows the =".into() };
        let pin = pin.map(|pin| pin.trim_matches(['[', ']']).parse().map_err(bad)).transpose()?;
        Ok(Self { pinned: pin.or_else(|| literal(&host_and_port.host)), host_and_port })
    }

    /// Whether this is the requested destination.
    pub(super) fn matches(&self, requested: &HostAndPort) -> bool {
        self.host_and_port == *requested
    }

    /// The addresses to connect to: resolved once, and checked before use. `None` when one of them is not public: a
    /// name with public and private addresses is not trusted at all.
    pub(super) async fn addresses(&self) -> std::io::Result<Option<Vec<SocketAddr>>> {
        let port = self.host_and_port.port;
        match self.pinned {
            Some(address) => Ok(Some(vec![SocketAddr::new(address, port)])),
            None => Ok(all_public(dial::resolve(self.host_and_port.host.as_str(), port).await?)),
        }
    }
}

/// The addresses, if all of them are public.
fn all_public(found: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    found.iter().all(|address| public_address::is_public(address.ip())).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        let parsed = |text: &str| HostAndPort::parse(text).map(|a| (a.host.to_string(), a.port));
        for (text, host, port) in [
            ("www.example.com", "www.example.com", 80),
            ("WWW.example.com.:8080", "www.example.com", 8080),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:DB8::1]", "[2001:db8::1]", 80),
            ("[::1]:65535", "[::1]", 65535),
            ("0x.example", "0x.example", 80),
        ] {
            assert_eq!(parsed(text), Ok((host.to_owned(), port)), "{text}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:1:2",
            "a:x",
            "[::1",
            "[::1]x",
            "[::1]:",
            "::1",
            "[a]",
            "a/b",
            "a b",
            "u@a",
            "a%00",
            "[fe80::1%25eth0]",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.01",
            "1.2.3.256",
            "1.2.3.4.5",
            "a.1",
            "0x",
        ] {
            assert!(HostAndPort::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn only_a_configured_address_may_be_private() {
        let addresses = async |text: &str| {
            let found = Destination::parse(text).unwrap().addresses().await.unwrap()?;
            Some(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(addresses("127.0.0.1:81").await.as_deref(), Some("127.0.0.1:81"));
        assert_eq!(addresses("[::1]").await.as_deref(), Some("[::1]:80"));
        assert_eq!(addresses("intranet.test:81=10.0.0.5").await.as_deref(), Some("10.0.0.5:81"));
        assert_eq!(addresses("intranet.test=[fd00::1]").await.as_deref(), Some("[fd00::1]:80"));
        assert_eq!(addresses("localhost").await, None);
        assert_eq!(addresses("a.b.localhost:81").await, None);
        assert!(Destination::parse("a.test=b.test").is_err() && Destination::parse("a.test=").is_err());
    }

    #[test]
    fn a_name_with_public_and_private_addresses_is_refused() {
        let all = |texts: &[&str]| all_public(texts.iter().map(|t| t.parse().unwrap()).collect());
        assert!(all(&["1.1.1.1:80", "[2606:4700::1111]:80"]).is_some());
        assert!(all(&["1.1.1.1:80", "10.0.0.1:80"]).is_none());
        assert!(all(&["[::ffff:127.0.0.1]:80"]).is_none());
    }
}

//! The route of one connection: direct, or through a proxy.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::fault::{ProxyError, ProxyFault};
use super::protocol::{Login, ProxyKind};
use super::{DialError, DialTarget, connect, socks, tcp};
use crate::domain::HostName;

/// The route of one connection to its target.
#[derive(Debug, Clone, Default)]
pub enum DialRoute {
    /// Directly.
    #[default]
    Direct,
    /// Through a proxy.
    Proxy(Arc<Proxy>),
}

/// A proxy. Shown without user and password.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The protocol of the proxy.
    pub kind: ProxyKind,
    /// The host and port of the proxy.
    pub address: DialTarget,
    login: Option<Login>,
}

/// Why a text is no proxy. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin} names no proxy: {reason}")]
pub struct BadProxy {
    pub(super) origin: &'static str,
    pub(super) reason: &'static str,
}

const FORM: &str = "write http://HOST:PORT, socks5://HOST:PORT, or socks5h://HOST:PORT when the proxy is to resolve \
                    names";

impl Proxy {
    /// Parses `http://`, `socks5://` or `socks5h://`, with or without `USER:PASSWORD@`; without a scheme it is `http`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Connect, 80),
            "socks5" => (ProxyKind::Socks5 { names: false }, 1080),
            "socks5h" => (ProxyKind::Socks5 { names: true }, 1080),
            "https" => {
                return Err("TLS to the proxy is not supported; most proxies accept http:// as well");
            }
            _ => return Err(FORM),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err("the URL of a proxy has no path; write / in a password as %2F");
        }
        let (login, authority) = match authority.rsplit_once('@') {
            Some((login, authority)) => (Some(Login::parse(login, kind)?), authority),
            None => (None, authority),
        };
        let split = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
        let (host, port) = match split {
            Some(colon) => (&authority[..colon], authority[colon + 1..].parse().map_err(|_| FORM)?),
            None => (authority, port),
        };
        let host = HostName::parse(host).map_err(|_| FORM)?;
        let host = host.as_str().trim_matches(['[', ']']).into();
        Ok(Self { kind, address: DialTarget { host, port, tls: false }, login })
    }

    /// Whether the proxy resolves the names of targets, rather than this side.
    pub fn resolves(&self) -> bool {
        self.kind != ProxyKind::Socks5 { names: false }
    }

    /// Whether a password for the proxy is known.
    pub fn has_password(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.password.expose().is_empty())
    }

    /// Turns a connection to the proxy into a connection to `target`. Dropping the future leaves the stream unusable.
    ///
    /// # Errors
    /// [`DialError::Proxy`], and [`DialError::Resolve`] where names are resolved here.
    pub async fn tunnel(&self, stream: &mut TcpStream, target: &DialTarget) -> Result<(), DialError> {
        let login = self.login.as_ref();
        let opened = match self.kind {
            ProxyKind::Connect => connect::open(stream, target, login).await,
            ProxyKind::Socks5 { names: true } => socks::open(stream, &target.host, target.port, login).await,
            ProxyKind::Socks5 { names: false } => {
                let found = tcp::addresses(target).await?;
                // Only one address can be requested. IPv4 comes first, because every network has it.
                let best = found.iter().find(|a| a.is_ipv4()).or(found.first()).map(|a| a.ip().to_string());
                socks::open(stream, best.as_deref().unwrap_or(&target.host), target.port, login).await
            }
        };
        opened.map_err(|fault| self.failed(target, fault))
    }

    /// Connects to the proxy, and through it to `target`.
    pub(super) async fn connect(&self, target: &DialTarget) -> Result<TcpStream, DialError> {
        let stream = tcp::connect(&self.address).await;
        let mut stream =
            stream.map_err(|error| self.failed(target, ProxyFault::Unreachable(Box::new(error))))?;
        self.tunnel(&mut stream, target).await?;
        Ok(stream)
    }

    /// The error for a fault on the route to `target`.
    pub fn failed(&self, target: &DialTarget, fault: ProxyFault) -> DialError {
        let (proxy, kind, target) = (self.address.clone(), self.kind, target.clone());
        DialError::Proxy(Box::new(ProxyError { proxy, kind, target, fault }))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url() {
        let shown = |text: &str| Proxy::parse(text).map(|p| p.to_string());
        for (text, wanted) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128"),
            ("proxy.corp:3128", "http://proxy.corp:3128"),
            (" HTTP://Proxy.Corp/ ", "http://proxy.corp:80"),
            ("socks5://[::1]", "socks5://[::1]:1080"),
            ("socks5h://127.0.0.1:9050", "socks5h://127.0.0.1:9050"),
            ("http://ann:p%40ss:w@proxy.corp:3128", "http://proxy.corp:3128"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(wanted), "{text}");
        }
        for bad in [
            "",
            "http://",
            "https://p:1",
            "socks4://p:1",
            "ftp://p",
            "http://p:x",
            "http://p:99999",
            "http://a b:1",
            "http://p:1/path",
            "http://u:a/b@p:1",
            "http://u%3Av:w@p:1",
            "http://%ff:x@p:1",
        ] {
            assert!(shown(bad).is_err(), "{bad}");
        }
        assert!(shown(&format!("socks5://{}:b@p:1", "x".repeat(256))).is_err());
    }

    #[test]
    fn a_password_is_decoded_and_never_shown() {
        let proxy = Proxy::parse("http://ann:p%40ss%3aw%2F@proxy.corp:3128").unwrap();
        let login = proxy.login.as_ref().unwrap();
        assert_eq!((&*login.user, login.password.expose()), ("ann", "p@ss:w/"));
        let all = format!("{proxy} {proxy:?} {:?}", DialRoute::Proxy(Arc::new(proxy.clone())));
        assert!(!all.contains("p@ss") && !all.contains("p%40ss"), "{all}");
    }
}

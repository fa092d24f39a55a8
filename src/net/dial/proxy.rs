//! Which way out: directly, or through a proxy, as somebody said or as the environment says.

use std::fmt;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

use super::fault::{Fault, ProxyError};
use super::{DialError, Place, connect, socks, tcp};
use crate::domain::{HostName, Secret};

/// Where the address of a proxy is looked for, the first over the others; the lower case is what curl reads.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Where the hosts are that need none.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// How one connection gets to its place.
#[derive(Debug, Clone, Default)]
pub enum Via {
    /// Straight there.
    #[default]
    Direct,
    /// Through a proxy.
    Proxy(Arc<Proxy>),
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP CONNECT.
    Connect,
    /// SOCKS 5.
    Socks5 {
        /// Names are resolved by the proxy (`socks5h`), not here.
        names: bool,
    },
}

impl Kind {
    /// The scheme of its URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Connect => "http",
            Self::Socks5 { names: false } => "socks5",
            Self::Socks5 { names: true } => "socks5h",
        }
    }
}

/// A proxy. Shown without user and password.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// What it speaks.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    login: Option<Login>,
}

/// Whoever a proxy lets through.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: Box<str>,
    pub(super) password: Secret,
}

/// Why a text is no proxy. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin} names no proxy: {why}")]
pub struct BadProxy {
    origin: &'static str,
    why: &'static str,
}

const FORM: &str = "write http://HOST:PORT, socks5://HOST:PORT, or socks5h://HOST:PORT when the proxy is to resolve \
                    names";

impl Proxy {
    /// Parses `http://`, `socks5://` or `socks5h://`, with or without `USER:PASSWORD@`; without a scheme it is `http`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Connect, 80),
            "socks5" => (Kind::Socks5 { names: false }, 1080),
            "socks5h" => (Kind::Socks5 { names: true }, 1080),
            "https" => {
                return Err("a proxy that itself wants TLS is not supported; most take http:// as well");
            }
            _ => return Err(FORM),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err("a path is no part of it, and a / in a password is written %2F");
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
        Ok(Self { kind, place: Place { host, port, tls: false }, login })
    }

    /// Whether it resolves the names of those who are called, rather than us.
    pub fn resolves(&self) -> bool {
        self.kind != Kind::Socks5 { names: false }
    }

    /// Whether a password is known for it.
    pub fn has_password(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.password.expose().is_empty())
    }

    /// Makes of a connection to the proxy one to `to`. Dropping the future leaves the stream unusable.
    ///
    /// # Errors
    /// [`DialError::Proxy`], and [`DialError::Resolve`] where names are resolved here.
    pub async fn tunnel(&self, stream: &mut TcpStream, to: &Place) -> Result<(), DialError> {
        let login = self.login.as_ref();
        let asked = match self.kind {
            Kind::Connect => connect::open(stream, to, login).await,
            Kind::Socks5 { names: true } => socks::open(stream, &to.host, to.port, login).await,
            Kind::Socks5 { names: false } => {
                let found = tcp::addresses(to).await?;
                // One address can be asked for. The old kind is the one that every network has.
                let best = found.iter().find(|a| a.is_ipv4()).or(found.first()).map(|a| a.ip().to_string());
                socks::open(stream, best.as_deref().unwrap_or(&to.host), to.port, login).await
            }
        };
        asked.map_err(|fault| self.failed(to, fault))
    }

    /// Connects to the proxy, and through it to `to`.
    pub(super) async fn connect(&self, to: &Place) -> Result<TcpStream, DialError> {
        let stream = tcp::connect(&self.place).await;
        let mut stream = stream.map_err(|error| self.failed(to, Fault::Unreachable(Box::new(error))))?;
        self.tunnel(&mut stream, to).await?;
        Ok(stream)
    }

    /// The error for what happened on the way to `to`.
    pub fn failed(&self, to: &Place, fault: Fault) -> DialError {
        let (proxy, kind, to) = (self.place.clone(), self.kind, to.clone());
        DialError::Proxy(Box::new(ProxyError { proxy, kind, to, fault }))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.place)
    }
}

impl Login {
    fn parse(text: &str, kind: Kind) -> Result<Self, &'static str> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decoded =
            |text| percent_decode_str(text).decode_utf8().map_err(|_| "its user or password is not UTF-8");
        let (user, password) = (decoded(user)?, decoded(password)?);
        if kind == Kind::Connect && user.contains(':') {
            return Err("a user with a colon cannot be sent to an HTTP proxy (RFC 7617)");
        }
        if kind != Kind::Connect && (user.len() > 255 || password.len() > 255) {
            return Err("SOCKS takes at most 255 bytes of a user and of a password (RFC 1929)");
        }
        Ok(Self { user: user.into(), password: Secret::new(password) })
    }
}

/// Which way each host is reached.
#[derive(Debug, Clone, Default)]
pub enum Proxies {
    /// Straight.
    #[default]
    None,
    /// All of them by this proxy: somebody said so.
    Always(Arc<Proxy>),
    /// By this proxy of the environment, but for the exceptions there, and for hosts that are this machine.
    But(Arc<Proxy>, Arc<Matcher>),
}

impl Proxies {
    /// What a person says: the URL of a proxy for every host, or `off`. `origin` is where it was said.
    ///
    /// # Errors
    /// [`BadProxy`], which does not repeat the text.
    pub fn said(text: &str, origin: &'static str) -> Result<Self, BadProxy> {
        if text == "off" {
            return Ok(Self::None);
        }
        let proxy = Proxy::parse(text).map_err(|why| BadProxy { origin, why })?;
        Ok(Self::Always(Arc::new(proxy)))
    }

    /// What the environment says in `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; the latter has hosts with all below
    /// them, addresses, networks such as `10.0.0.0/8`, or `*`.
    ///
    /// # Errors
    /// [`BadProxy`], which does not repeat the text.
    pub fn environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadProxy> {
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| Some((*name, variable(name).filter(|v| !v.trim().is_empty())?));
            names.iter().find_map(set)
        };
        let Some((origin, text)) = first(&VARIABLES) else { return Ok(Self::None) };
        let proxy = Proxy::parse(&text).map_err(|why| BadProxy { origin, why })?;
        let list = first(&EXCEPTIONS).map_or(String::new(), |(_, list)| list);
        // Many write *.example.org for what everybody reads as .example.org.
        let entries = list.split([',', ' ']).map(|entry| match entry.strip_prefix("*.") {
            Some(_) => &entry[1..],
            None => entry,
        });
        let exceptions = entries.collect::<Vec<_>>().join(",");
        let matcher = Matcher::builder().all("http://proxy.invalid").no(exceptions).build();
        Ok(Self::But(Arc::new(proxy), Arc::new(matcher)))
    }

    /// The way to a host, written as in a URL.
    pub fn via(&self, host: &str) -> Via {
        match self {
            Self::None => Via::Direct,
            Self::Always(proxy) => Via::Proxy(proxy.clone()),
            Self::But(proxy, matcher) => {
                let here = HostName::parse(host).is_ok_and(|host| host.is_this_machine());
                let host = host.trim_end_matches('.');
                let uri: Option<http::Uri> = format!("https://{host}/").parse().ok();
                match uri.is_some_and(|uri| !here && matcher.intercept(&uri).is_some()) {
                    true => Via::Proxy(proxy.clone()),
                    false => Via::Direct,
                }
            }
        }
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
        let all = format!("{proxy} {proxy:?} {:?}", Proxies::said("http://ann:p%40ss@a:1", "--proxy"));
        assert!(!all.contains("p@ss") && !all.contains("p%40ss"), "{all}");
        let error = Proxies::said("http://ann:hush@a:1/x", "--proxy").unwrap_err().to_string();
        assert!(error.starts_with("--proxy names no proxy") && !error.contains("hush"), "{error}");
    }

    /// Whether each host goes through the proxy of this environment.
    fn through(environment: &[(&str, &str)], host: &str) -> Option<String> {
        let get = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        match Proxies::environment(get).unwrap().via(host) {
            Via::Direct => None,
            Via::Proxy(proxy) => Some(proxy.place.to_string()),
        }
    }

    #[test]
    fn the_environment_is_read_as_everybody_reads_it() {
        let both = [("ALL_PROXY", "http://all:1"), ("https_proxy", "http://low:1")];
        assert_eq!(through(&both, "relay.test").as_deref(), Some("low:1"));
        assert_eq!(through(&both[..1], "relay.test").as_deref(), Some("all:1"));
        assert_eq!(through(&[("HTTPS_PROXY", "up:1"), both[1]], "relay.test").as_deref(), Some("up:1"));
        assert_eq!(through(&[("HTTPS_PROXY", " "), both[0]], "relay.test").as_deref(), Some("all:1"));
        assert_eq!(through(&[("HTTP_PROXY", "http://x:1")], "relay.test"), None);
        for here in ["localhost", "ptth.localhost", "127.0.0.1", "[::1]", "LOCALHOST."] {
            assert_eq!(through(&both, here), None, "{here}");
        }
        let bad = Proxies::environment(|name| (name == "ALL_PROXY").then(|| "ann:hush@x:y".into()));
        let error = bad.unwrap_err().to_string();
        assert!(error.starts_with("ALL_PROXY names no proxy") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn exceptions_are_hosts_domains_networks_or_all() {
        let without = |list: &str, host: &str| {
            through(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)], host).is_none()
        };
        for (list, host) in [
            ("relay.test", "relay.test"),
            ("relay.test", "a.relay.test"),
            (".test", "relay.test"),
            ("*.test", "relay.test"),
            ("x, RELAY.test", "relay.test"),
            ("x relay.test", "relay.test."),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "[fd00::1]"),
            ("*", "relay.test"),
        ] {
            assert!(without(list, host), "{list} {host}");
        }
        for (list, host) in [
            ("", "relay.test"),
            ("relay.test", "xrelay.test"),
            ("relay.test", "test"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "10.test"),
        ] {
            assert!(!without(list, host), "{list} {host}");
        }
    }

    #[test]
    fn what_is_said_goes_for_every_host() {
        let said = Proxies::said("socks5h://p:1", "--proxy").unwrap();
        assert!(matches!(said.via("localhost"), Via::Proxy(p) if p.resolves()));
        assert!(matches!(Proxies::said("off", "--proxy").unwrap().via("relay.test"), Via::Direct));
    }
}

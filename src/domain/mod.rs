//! The types that all modules share. Nothing here does I/O, and nothing here imports another module.

mod answer;
mod error_code;
mod wanted;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq as _;

pub use self::answer::{AnswerLimit, AnswerTimeout, LimitSource};
pub use self::error_code::{ERROR_PAGES, ErrorCode};
pub use self::wanted::{Below, Wanted};

/// Why a text is not a [`Name`] or a [`HostName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {reason}")]
#[non_exhaustive]
pub struct Malformed {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

fn label(text: &str) -> Result<Box<str>, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 63 {
        return Err("it is longer than 63 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("only letters, digits and hyphens are allowed");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it begins or ends with a hyphen");
    }
    Ok(text.to_ascii_lowercase().into())
}

/// The name of an agent: one DNS label, in lower case (RFC 1123 §2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Parses a label; upper case is folded.
    ///
    /// # Errors
    /// [`Malformed`] when the text is not a DNS label.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        label(text).map(Self).map_err(|reason| Malformed { kind: "name", text: text.into(), reason })
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::parse(text)
    }
}

/// A host without its port: lower case, no trailing dot. An IPv6 address keeps its brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

impl HostName {
    /// Parses a DNS name or an IP address; upper case is folded and one trailing dot dropped.
    ///
    /// # Errors
    /// [`Malformed`] when the text is neither.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |reason| Malformed { kind: "host", text: text.into(), reason };
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let address: std::net::Ipv6Addr =
                inner.parse().map_err(|_| bad("the brackets hold no IPv6 address"))?;
            return Ok(Self(format!("[{address}]").into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > 253 {
            return Err(bad("it is longer than 253 characters"));
        }
        for part in text.split('.') {
            // Real host names contain underscores, though RFC 1123 does not allow them.
            label(&part.replace('_', "x")).map_err(bad)?;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The host.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label that stands directly in front of `domain`, if this host is exactly one label below it.
    pub fn label_below(&self, domain: &Self) -> Option<&str> {
        let rest = self.0.strip_suffix(domain.as_str())?.strip_suffix('.')?;
        (!rest.is_empty() && !rest.contains('.')).then_some(rest)
    }

    /// The host without its first label; `None` for a host of a single label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, parent)| Self(parent.into()))
    }

    /// Whether this host is certain to be this machine: a loopback address, or a name under `localhost`
    /// (RFC 6761 §6.3).
    pub fn is_this_machine(&self) -> bool {
        match self.0.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => &*self.0 == "localhost" || self.0.ends_with(".localhost"),
        }
    }

    /// Whether this host is `domain` or lies anywhere below it.
    pub fn is_within(&self, domain: &Self) -> bool {
        self == domain || self.0.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HostName {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::parse(text)
    }
}

/// Where public requests for one agent arrive: a host of its own, or a first path segment on a shared one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Route {
    /// Everything under this host.
    Host(HostName),
    /// Everything under the hosts exactly one label below this host, unless a host has a route of its own.
    Below(HostName),
    /// Everything under `/NAME/` on the relay's own domain.
    Path(Name),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{host}"),
            Self::Below(host) => write!(f, "*.{host}"),
            Self::Path(name) => write!(f, "/{name}/"),
        }
    }
}

/// Which process an agent connection belongs to (`PTTH-Instance: ID;boot=N`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Random for each process, or stored in the agent's state directory.
    pub id: Box<str>,
    /// Counts the starts of one id; a higher boot fences the lower.
    pub boot: u64,
}

impl Instance {
    /// A random identity, which no other process has.
    pub fn random() -> Self {
        Self { id: format!("{:016x}", rand::random::<u64>()).into(), boot: 1 }
    }

    /// Parses the value of `PTTH-Instance`. A missing boot is 0; other parameters are ignored.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let id = parts.next().filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        })?;
        let boot = match parts.find_map(|p| p.strip_prefix("boot=")) {
            Some(number) => number.parse().ok()?,
            None => 0,
        };
        Some(Self { id: id.into(), boot })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};boot={}", self.id, self.boot)
    }
}

/// The request of an agent that opens a session.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The requested routes. An empty list requests the only name of the token, or else the suggested name.
    pub wanted: Vec<Wanted>,
    /// The name to grant when no route is requested and the token does not determine the name
    /// (`PTTH-Suggested-Name`).
    pub suggested: Option<Name>,
    /// The process that makes the offer, if the offer names it.
    pub instance: Option<Instance>,
    /// Whether this process fences every other process of its token and routes.
    pub exclusive: bool,
    /// Whether the offer is only a check of whether the relay would accept it: nothing is served on it, and no running
    /// agent is disturbed.
    pub probe: bool,
    /// The transport of the offer.
    pub transport: &'static str,
    /// The rules for visitors, as the agent sent them (`PTTH-Visitors`). Without rules every visitor is admitted.
    pub visitors: Option<Box<str>>,
    /// The requested limit of a visitor's wait for the head of an answer (`PTTH-Answer-Timeout`).
    pub answer_timeout: Option<AnswerLimit>,
}

/// A secret that one side presents to the other. It is never printed, and the time of a comparison does not reveal
/// where two secrets differ.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for comparisons and for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Facts about the far end of a connection.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The address of the far end.
    pub remote: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The authority (host and port) at which the far end reached the relay. For a stream that began without
    /// a request, the host is the TLS server name, or else the address of the listener; the port is that of
    /// the visitors' listener.
    pub authority: Arc<str>,
    /// The server name of its TLS handshake (SNI, RFC 6066 §3).
    pub server_name: Option<HostName>,
    /// The token that the far end presented.
    pub credential: Option<Secret>,
    /// The client certificate that the far end presented, if the relay has a CA for client certificates.
    pub certificate: Option<Arc<Certificate>>,
    /// Set when the far end has closed the connection; `None` where a close shows nothing about the agent.
    pub closed: Option<Arc<AtomicBool>>,
}

/// The contents of a client certificate that TLS has verified against a CA of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its DNS names (RFC 5280 §4.2.1.6), in lower case; some may begin with `*.`.
    pub hosts: Vec<Box<str>>,
    /// When the certificate expires. TLS has checked this too, but a connection may live longer.
    pub expires: SystemTime,
}

/// The sender of a public request.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// The visitor's address, as the relay saw it.
    pub remote: SocketAddr,
    /// The address of the relay's listener.
    pub local: SocketAddr,
    /// Whether the visitor's connection is encrypted.
    pub tls: bool,
}

/// The owner of a credential. Two connections with one `AgentId` belong to the same party.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub Arc<str>);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts the changes of a route's rules for visitors, so that a visitor that earlier rules admitted is recognised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(u64);

impl Epoch {
    /// The next epoch.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Numbers the sessions of one relay process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// The kinds of refusal. Each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The request does not make sense (400).
    Malformed,
    /// No credential, or one that is not valid (401).
    Unauthenticated,
    /// A valid credential that may not do this (403).
    Forbidden,
    /// There is no such resource (404).
    NotFound,
    /// A method that this resource does not support (405).
    Method,
    /// Another process of the same agent has taken the place of this one (409).
    Fenced,
    /// Another agent serves the route with other rules (409); a later attempt may succeed.
    OtherRules,
    /// The request was answered before (409).
    Answered,
    /// The resource existed, and was ended for good (410).
    Gone,
    /// The message is larger than the limit (413).
    TooLarge,
    /// A media type that is not accepted (415).
    MediaType,
    /// This endpoint requires an Upgrade (426).
    UpgradeRequired,
    /// An Upgrade over HTTP/2: a stream cannot change the roles of its connection (501).
    NoUpgrade,
    /// No protocol in common (406).
    NothingInCommon,
    /// A limit is reached; a later attempt may succeed (429).
    TooMany,
    /// No capacity is left (503).
    Full,
    /// The relay is stopping (503).
    Draining,
}

impl RefusalKind {
    /// The HTTP status of this refusal (RFC 9110 §15).
    pub const fn status(self) -> u16 {
        self.code().status()
    }

    /// The stable code of this refusal.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Malformed => ErrorCode::MalformedOffer,
            Self::Unauthenticated => ErrorCode::BadCredential,
            Self::Forbidden => ErrorCode::NotYours,
            Self::NotFound => ErrorCode::NotFound,
            Self::Method => ErrorCode::MethodNotAllowed,
            Self::Answered => ErrorCode::Answered,
            Self::Gone => ErrorCode::Gone,
            Self::MediaType => ErrorCode::MediaType,
            Self::TooLarge => ErrorCode::TooLarge,
            Self::NothingInCommon => ErrorCode::NothingInCommon,
            Self::Fenced => ErrorCode::Fenced,
            Self::OtherRules => ErrorCode::OtherRules,
            Self::UpgradeRequired => ErrorCode::UpgradeRequired,
            Self::NoUpgrade => ErrorCode::NoUpgrade,
            Self::TooMany => ErrorCode::TooMany,
            Self::Full => ErrorCode::Full,
            Self::Draining => ErrorCode::Draining,
        }
    }
}

/// A refusal by policy, with a message for the person on the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Refusal {
    /// The kind of the refusal.
    pub kind: RefusalKind,
    /// The cause and the remedy. The message is shown to the agent and holds no secret.
    pub message: String,
    /// When another attempt makes sense.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without a time for another attempt.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_dns_label_in_lower_case() {
        assert_eq!(Name::parse("Shop-1").unwrap().as_str(), "shop-1");
        for bad in ["", "-a", "a-", "a.b", "a_b", "ü", "a b", &"x".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_lowercased_without_its_trailing_dot() {
        let host = HostName::parse("Shop.Example.COM.").unwrap();
        assert_eq!(host.as_str(), "shop.example.com");
        assert_eq!(HostName::parse("[0:0::1]").unwrap().as_str(), "[::1]");
        for bad in ["", ".", "a..b", "a/b", "a b", "a:1", "[x]", "%00", "a@b", "a,b"] {
            assert!(HostName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_one_label_stands_below_a_domain() {
        let domain = HostName::parse("relay.test").unwrap();
        let below = |h: &str| HostName::parse(h).unwrap().label_below(&domain).map(str::to_owned);
        assert_eq!(below("a.relay.test").as_deref(), Some("a"));
        assert_eq!(below("relay.test"), None);
        assert_eq!(below("a.b.relay.test"), None);
        assert_eq!(below("xrelay.test"), None);
        assert!(!HostName::parse("xrelay.test").unwrap().is_within(&domain));
    }

    #[test]
    fn an_instance_survives_a_round_trip() {
        let instance = Instance { id: "a1_-".into(), boot: 7 };
        assert_eq!(Instance::parse(&instance.to_string()), Some(instance));
        assert_eq!(Instance::parse("abc").map(|i| i.boot), Some(0));
        assert_eq!(Instance::parse("a b;boot=1"), None);
        assert_eq!(Instance::parse("a;boot=x"), None);
    }

    #[test]
    fn a_secret_does_not_print() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}

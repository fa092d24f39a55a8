//! Failures at a proxy, in words for a person. The words never contain a user or a password.

use std::io;

use super::protocol::ProxyKind;
use super::{DialError, DialTarget};

/// A proxy did not open the requested connection.
#[derive(Debug, thiserror::Error)]
#[error("{}; {}", self.failure(), self.remedy())]
pub struct ProxyError {
    /// The proxy.
    pub proxy: DialTarget,
    /// The protocol of the proxy.
    pub kind: ProxyKind,
    /// The target of the requested connection.
    pub target: DialTarget,
    /// The failure.
    pub fault: ProxyFault,
}

/// A failure at a proxy.
#[derive(Debug)]
pub enum ProxyFault {
    /// There is no connection to the proxy itself.
    Unreachable(Box<DialError>),
    /// The proxy did not answer in time.
    Timeout,
    /// The proxy closed the connection instead of answering.
    Closed,
    /// The connection to the proxy broke.
    Broken(io::Error),
    /// The proxy requires a password, and none is set.
    PasswordRequired,
    /// The proxy does not accept the password.
    PasswordWrong,
    /// The proxy requires a login that ptth does not support; with the schemes that the proxy accepts.
    Unsupported(String),
    /// An HTTP proxy answered with this status.
    Status(u16),
    /// A SOCKS proxy answered with this code (RFC 1928 §6).
    Reply(u8),
    /// The answer is not of the proxy's protocol.
    Nonsense(&'static str),
}

impl ProxyError {
    /// The failure, without the remedy.
    pub fn failure(&self) -> String {
        let Self { proxy, target, .. } = self;
        match &self.fault {
            ProxyFault::Unreachable(error) => match &**error {
                DialError::Resolve { host, source } => {
                    format!("cannot resolve the proxy's name {host:?}: {source}")
                }
                DialError::Connect { source, .. } => format!("cannot connect to the proxy {proxy}: {source}"),
                other => format!("cannot connect to the proxy {proxy}: {other}"),
            },
            ProxyFault::Timeout => format!("the proxy {proxy} gave no answer in time"),
            ProxyFault::Closed => format!("the proxy {proxy} closed the connection without an answer"),
            ProxyFault::Broken(error) => format!("the connection to the proxy {proxy} broke: {error}"),
            ProxyFault::PasswordRequired => {
                format!("the proxy {proxy} wants a password{}", self.status_suffix(407))
            }
            ProxyFault::PasswordWrong => format!("the proxy {proxy} does not accept this user and password"),
            ProxyFault::Unsupported(schemes) => {
                format!("the proxy {proxy} wants a login by {schemes}{}", self.status_suffix(407))
            }
            ProxyFault::Status(code @ (502..=504)) => {
                format!("the proxy {proxy} did not reach {target} ({code})")
            }
            ProxyFault::Status(code) => format!("the proxy {proxy} refused CONNECT to {target} ({code})"),
            ProxyFault::Reply(code) => format!(
                "the proxy {proxy} did not connect to {target}: {} (SOCKS reply {code})",
                reply_text(*code)
            ),
            ProxyFault::Nonsense(reason) => format!("the handshake with the proxy {proxy} failed: {reason}"),
        }
    }

    /// The remedy to try.
    pub fn remedy(&self) -> String {
        let Self { proxy, target, .. } = self;
        match &self.fault {
            ProxyFault::Unreachable(_) => "check --proxy, or HTTPS_PROXY in the environment".into(),
            ProxyFault::Timeout | ProxyFault::Broken(_) => "check that the proxy runs at this address".into(),
            ProxyFault::Closed | ProxyFault::Nonsense(_) => {
                "check its port and its scheme (http:// or socks5://) in --proxy or HTTPS_PROXY".into()
            }
            ProxyFault::PasswordRequired => format!(
                "put it into the environment variable HTTPS_PROXY, as {}://USER:PASSWORD@{proxy}",
                self.kind.scheme()
            ),
            ProxyFault::PasswordWrong => {
                "check both in the environment variable HTTPS_PROXY or PTTH_PROXY; a special character is \
                 percent-encoded there: @ as %40, : as %3A"
                    .into()
            }
            ProxyFault::Unsupported(_) => {
                "ptth supports only Basic: have it allowed, or run a local proxy that logs in for ptth".into()
            }
            ProxyFault::Status(502..=504) | ProxyFault::Reply(3..=6) => {
                format!("check --relay, and whether the proxy can reach {}", target.host)
            }
            ProxyFault::Status(_) | ProxyFault::Reply(2) => format!(
                "have {} and port {} allowed there; many proxies allow only port 443",
                target.host, target.port
            ),
            ProxyFault::Reply(8) => {
                "use socks5h:// for a proxy that resolves names, socks5:// for one that does not".into()
            }
            ProxyFault::Reply(_) => "see the log of the proxy".into(),
        }
    }

    /// The status in parentheses, for an HTTP proxy. Other proxies send no status.
    fn status_suffix(&self, status: u16) -> String {
        match self.kind {
            ProxyKind::Connect => format!(" ({status})"),
            ProxyKind::Socks5 { .. } => String::new(),
        }
    }
}

/// RFC 1928 §6.
fn reply_text(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "the TTL expired",
        7 => "it does not support CONNECT",
        8 => "it does not support this kind of address",
        _ => "unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ProxyKind, fault: ProxyFault) -> String {
        let at = |host: &str, port| DialTarget { host: host.into(), port, tls: false };
        let (proxy, target) = (at("proxy.corp", 3128), at("relay.test", 8443));
        ProxyError { proxy, kind, target, fault }.to_string()
    }

    #[test]
    fn each_fault_names_its_hop_and_what_to_try() {
        let http = |fault| error(ProxyKind::Connect, fault);
        let socks = |fault| error(ProxyKind::Socks5 { names: true }, fault);
        for (text, wanted) in [
            (http(ProxyFault::PasswordRequired), "proxy.corp:3128 wants a password (407); put it into"),
            (http(ProxyFault::PasswordRequired), "HTTPS_PROXY, as http://USER:PASSWORD@proxy.corp:3128"),
            (socks(ProxyFault::PasswordRequired), "wants a password; put it into"),
            (socks(ProxyFault::PasswordRequired), "socks5h://USER:PASSWORD@proxy.corp:3128"),
            (
                http(ProxyFault::Status(403)),
                "refused CONNECT to relay.test:8443 (403); have relay.test and port 8443",
            ),
            (http(ProxyFault::Status(503)), "did not reach relay.test:8443 (503); check --relay"),
            (socks(ProxyFault::Reply(2)), "its rules do not allow it (SOCKS reply 2); have relay.test"),
            (socks(ProxyFault::Reply(5)), "was refused (SOCKS reply 5); check --relay"),
            (http(ProxyFault::Unsupported("NTLM".into())), "a login by NTLM (407); ptth supports only Basic"),
            (http(ProxyFault::Closed), "proxy.corp:3128 closed the connection"),
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }
}

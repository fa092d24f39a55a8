//! What goes wrong at a proxy, in words for a person. No user and no password is ever part of them.

use std::io;

use super::protocol::Kind;
use super::{DialError, Place};

/// A proxy did not give the connection that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{}; {}", self.what(), self.remedy())]
pub struct ProxyError {
    /// The proxy.
    pub proxy: Place,
    /// What it speaks.
    pub kind: Kind,
    /// Where it was to connect to.
    pub to: Place,
    /// What happened.
    pub fault: Fault,
}

/// What happened at a proxy.
#[derive(Debug)]
pub enum Fault {
    /// There is no connection to the proxy itself.
    Unreachable(Box<DialError>),
    /// It said nothing in time.
    Timeout,
    /// It hung up instead of answering.
    Closed,
    /// The connection to it broke.
    Broken(io::Error),
    /// It wants a password, and there is none.
    PasswordWanted,
    /// It does not accept the password.
    PasswordWrong,
    /// It wants a proof of identity that is not spoken here; the schemes that it takes.
    Unspoken(String),
    /// An HTTP proxy answered with this status.
    Status(u16),
    /// A SOCKS proxy answered with this code (RFC 1928 §6).
    Reply(u8),
    /// What it said is not of its protocol.
    Nonsense(&'static str),
}

impl ProxyError {
    /// What happened, without what to try.
    pub fn what(&self) -> String {
        let Self { proxy, to, .. } = self;
        match &self.fault {
            Fault::Unreachable(error) => match &**error {
                DialError::Resolve { host, source } => {
                    format!("cannot resolve the proxy's name {host:?}: {source}")
                }
                DialError::Connect { source, .. } => format!("cannot connect to the proxy {proxy}: {source}"),
                other => format!("cannot connect to the proxy {proxy}: {other}"),
            },
            Fault::Timeout => format!("the proxy {proxy} gave no answer in time"),
            Fault::Closed => format!("the proxy {proxy} closed the connection without an answer"),
            Fault::Broken(error) => format!("the connection to the proxy {proxy} broke: {error}"),
            Fault::PasswordWanted => format!("the proxy {proxy} wants a password{}", self.number(407)),
            Fault::PasswordWrong => format!("the proxy {proxy} does not accept this user and password"),
            Fault::Unspoken(schemes) => {
                format!("the proxy {proxy} wants a login by {schemes}{}", self.number(407))
            }
            Fault::Status(code @ (502..=504)) => {
                format!("the proxy {proxy} did not reach {to} ({code})")
            }
            Fault::Status(code) => format!("the proxy {proxy} refused CONNECT to {to} ({code})"),
            Fault::Reply(code) => {
                format!("the proxy {proxy} did not connect to {to}: {} (SOCKS reply {code})", reply(*code))
            }
            Fault::Nonsense(what) => format!("what answers at {proxy} is not such a proxy: {what}"),
        }
    }

    /// The one thing to try.
    pub fn remedy(&self) -> String {
        let Self { proxy, to, .. } = self;
        match &self.fault {
            Fault::Unreachable(_) => "check --proxy, or HTTPS_PROXY in the environment".into(),
            Fault::Timeout | Fault::Broken(_) => {
                "look whether the proxy is well, and whether this is its address".into()
            }
            Fault::Closed | Fault::Nonsense(_) => {
                "check its port, and http:// against socks5:// in --proxy or HTTPS_PROXY".into()
            }
            Fault::PasswordWanted => format!(
                "put it into the environment variable HTTPS_PROXY, as {}://USER:PASSWORD@{proxy}",
                self.kind.scheme()
            ),
            Fault::PasswordWrong => {
                "check those in the environment variable HTTPS_PROXY or PTTH_PROXY; a character such as @ or : is \
                 written %40, %3A there"
                    .into()
            }
            Fault::Unspoken(_) => {
                "ptth speaks Basic: have that allowed, or put a local proxy that speaks the other in between".into()
            }
            Fault::Status(502..=504) | Fault::Reply(3..=6) => {
                format!("check --relay, and whether the proxy can reach {}", to.host)
            }
            Fault::Status(_) | Fault::Reply(2) => format!(
                "have {} and port {} allowed there; many proxies let out to port 443 alone",
                to.host, to.port
            ),
            Fault::Reply(8) => "use socks5h:// for a proxy that resolves names, socks5:// for one that does not".into(),
            Fault::Reply(_) => "the proxy's own log says more".into(),
        }
    }

    /// HTTP proxies say it by a status that people look up.
    fn number(&self, status: u16) -> String {
        match self.kind {
            Kind::Connect => format!(" ({status})"),
            Kind::Socks5 { .. } => String::new(),
        }
    }
}

/// RFC 1928 §6.
fn reply(code: u8) -> &'static str {
    match code {
        1 => "it failed",
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "the packets ran out of hops",
        7 => "it does not know CONNECT",
        8 => "it does not know this kind of address",
        _ => "for a reason of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind, fault: Fault) -> String {
        let place = |host: &str, port| Place { host: host.into(), port, tls: false };
        let (proxy, to) = (place("proxy.corp", 3128), place("relay.test", 8443));
        ProxyError { proxy, kind, to, fault }.to_string()
    }

    #[test]
    fn each_fault_names_its_hop_and_what_to_try() {
        let http = |fault| error(Kind::Connect, fault);
        let socks = |fault| error(Kind::Socks5 { names: true }, fault);
        for (said, wanted) in [
            (http(Fault::PasswordWanted), "proxy.corp:3128 wants a password (407); put it into"),
            (http(Fault::PasswordWanted), "HTTPS_PROXY, as http://USER:PASSWORD@proxy.corp:3128"),
            (socks(Fault::PasswordWanted), "wants a password; put it into"),
            (socks(Fault::PasswordWanted), "socks5h://USER:PASSWORD@proxy.corp:3128"),
            (
                http(Fault::Status(403)),
                "refused CONNECT to relay.test:8443 (403); have relay.test and port 8443",
            ),
            (http(Fault::Status(503)), "did not reach relay.test:8443 (503); check --relay"),
            (socks(Fault::Reply(2)), "its rules do not allow it (SOCKS reply 2); have relay.test"),
            (socks(Fault::Reply(5)), "was refused (SOCKS reply 5); check --relay"),
            (http(Fault::Unspoken("NTLM".into())), "a login by NTLM (407); ptth speaks Basic"),
            (http(Fault::Closed), "proxy.corp:3128 closed the connection"),
        ] {
            assert!(said.contains(wanted), "{said}");
        }
    }
}

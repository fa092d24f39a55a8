//! The transports of one relay. A transport is found by a request, by an ALPN id, or by the name in a listener.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::config::{ClientCerts, Listen, RelayConfig};
use crate::message::Request;
use crate::transport::{self, Admissions, RelaySide, Transport};

/// The ALPN ids of HTTP for visitors (RFC 9113 §3.1, RFC 7301 §6). Some clients, such as `curl --http1.0`, offer
/// `http/1.0` alone; their handshake fails without that id.
const HTTP: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// Why a relay cannot serve a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTransport {
    /// Two transports have the same name, which identifies a transport in listeners, tokens and metrics.
    #[error("there are two transports {0:?}; give one of them another name")]
    Name(&'static str),
    /// An ALPN id of a transport is not valid, or already in use: the id decides which transport a stream belongs to.
    #[error("the transport {transport:?} cannot have the ALPN id {id:?}: {why}")]
    Alpn {
        /// The transport.
        transport: &'static str,
        /// Its id, with `\x` escapes where it is not ASCII.
        id: String,
        /// Why the transport cannot have the id.
        why: &'static str,
    },
    /// A listener names a transport that the relay does not have.
    #[error("the listener {0} belongs to a transport that this relay does not have")]
    Unknown(Listen),
    /// A listener names a transport that takes no streams, because its sessions begin with requests.
    #[error(
        "the listener {0} belongs to a transport without streams: its agents connect to an HTTP listener"
    )]
    NoStreams(Listen),
    /// A listener names a transport that needs client certificates, but its streams cannot present a certificate.
    #[error(
        "the transport of the listener {0} needs client certificates: use TLS there, and set --client-ca"
    )]
    NoCertificates(Listen),
}

impl RelayConfig {
    /// Whether the relay can serve its transports on its listeners.
    ///
    /// # Errors
    /// [`BadTransport`], which names the transport or the listener.
    pub fn check_transports(&self) -> Result<(), BadTransport> {
        check(self)
    }
}

fn check(config: &RelayConfig) -> Result<(), BadTransport> {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for transport in all(config) {
        let name = transport.name();
        if !names.insert(name) {
            return Err(BadTransport::Name(name));
        }
        for id in transport.alpns() {
            let bad = |why| BadTransport::Alpn { transport: name, id: id.escape_ascii().to_string(), why };
            match id.len() {
                _ if HTTP.contains(&&id[..]) => return Err(bad("HTTP uses this id")),
                1..=255 if ids.insert(id.clone()) => {}
                1..=255 => return Err(bad("another transport uses this id")),
                _ => return Err(bad("an id has 1 to 255 bytes")),
            }
        }
    }
    config.listen.iter().try_for_each(|listen| check_listener(config, listen))
}

fn check_listener(config: &RelayConfig, listen: &Listen) -> Result<(), BadTransport> {
    let Some(name) = listen.transport else { return Ok(()) };
    let transport = all(config).find(|t| t.name() == name).ok_or(BadTransport::Unknown(*listen))?;
    if !transport.takes_streams() {
        return Err(BadTransport::NoStreams(*listen));
    }
    let certificates = listen.tls && config.client_certs != ClientCerts::Unused;
    if transport.needs_certificate() && !certificates {
        return Err(BadTransport::NoCertificates(*listen));
    }
    Ok(())
}

fn all(config: &RelayConfig) -> impl Iterator<Item = &dyn Transport> {
    transport::ALL.iter().copied().chain(config.transports.iter().map(|transport| &**transport))
}

/// One transport of a running relay.
pub(super) struct ServedTransport {
    pub(super) name: &'static str,
    pub(super) needs_certificate: bool,
    pub(super) side: Box<dyn RelaySide>,
}

/// See the module.
pub(super) struct Transports {
    all: Vec<Arc<ServedTransport>>,
    by_alpn: HashMap<Vec<u8>, Arc<ServedTransport>>,
    /// The keys of `by_alpn`, in the order of the transports.
    alpns: Vec<Vec<u8>>,
}

impl Transports {
    /// The transports of a configuration that [`check`] has passed.
    pub(super) fn new(config: &RelayConfig, admissions: &Arc<dyn Admissions>) -> Self {
        let mut built = Self { all: Vec::new(), by_alpn: HashMap::new(), alpns: Vec::new() };
        for transport in all(config) {
            let (name, needs_certificate) = (transport.name(), transport.needs_certificate());
            let served = Arc::new(ServedTransport {
                name,
                needs_certificate,
                side: transport.relay(admissions.clone()),
            });
            if !needs_certificate || config.client_certs != ClientCerts::Unused {
                for id in transport.alpns() {
                    built.by_alpn.insert(id.clone(), served.clone());
                    built.alpns.push(id);
                }
            }
            built.all.push(served);
        }
        built
    }

    /// The ALPN ids of a listener with TLS: the ids of its own transport, or of all transports, then the ids of HTTP.
    /// The ids of transports come first, because no visitor offers them, while an agent may offer the ids of HTTP as
    /// well.
    pub(super) fn alpn(&self, listen: &Listen) -> Vec<Vec<u8>> {
        let own = |id: &&Vec<u8>| listen.transport.is_none_or(|name| self.by_alpn[*id].name == name);
        let ids = self.alpns.iter().filter(own).cloned();
        ids.chain(HTTP.map(<[u8]>::to_vec)).collect()
    }

    /// The transport whose streams have this ALPN id.
    pub(super) fn by_alpn(&self, id: &[u8]) -> Option<&Arc<ServedTransport>> {
        self.by_alpn.get(id)
    }

    /// The transport of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<ServedTransport>> {
        self.all.iter().find(|served| served.name == name)
    }

    /// The transport that answers a request on the relay's own authority.
    pub(super) fn by_request(&self, request: &Request) -> Option<&dyn RelaySide> {
        self.all.iter().map(|served| &*served.side).find(|side| side.wants(request))
    }
}

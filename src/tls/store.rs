//! The certificates that a relay shows, chosen by the server name that a client sends (SNI, RFC 6066 §3).
//!
//! The source of certificates (files, or a CA's protocol) puts each into a [`CertificateSlot`] and replaces it there.
//! Handshakes read the table without a lock, and a connection keeps the certificate that it began with.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::peer::dns_names;
use super::{TlsError, certificates, not_pem, provider};
use crate::domain::HostName;

/// A certificate chain with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// The DNS names of the leaf, in lower case; some may begin with `*.`.
    hosts: Vec<Box<str>>,
    serial: String,
    expires: String,
}

impl ServerCertificate {
    /// Reads a chain (leaf first) and its key, both PEM. Errors name `cert.0` and `key.0`.
    ///
    /// # Errors
    /// [`TlsError`] when one of the two cannot be parsed, or when the key belongs to another certificate.
    pub fn from_pem(cert: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<Self, TlsError> {
        let chain = certificates(cert.0, cert.1)?;
        let secret = PrivateKeyDer::from_pem_slice(key.1).map_err(|e| not_pem(key.0, "private key", &e))?;
        let unusable = |source| TlsError::Unusable {
            subject: format!("the certificate {} with the key {}", cert.0.display(), key.0.display()),
            source,
        };
        let key = CertifiedKey::from_der(chain, secret, &provider()).map_err(unusable)?;
        let bad_encoding = || unusable(rustls::CertificateError::BadEncoding.into());
        let leaf = key.end_entity_cert().map_err(unusable)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| bad_encoding())?;
        Ok(Self {
            hosts: dns_names(&leaf).ok_or_else(bad_encoding)?,
            serial: leaf.tbs_certificate.raw_serial_as_string(),
            expires: leaf.validity().not_after.to_string(),
            key: Arc::new(key),
        })
    }

    fn is_valid_for(&self, name: &ServerName<'_>) -> bool {
        let leaf = self.key.end_entity_cert().and_then(ParsedCertificate::try_from);
        leaf.is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}

impl fmt::Display for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {}, for {}, until {}", self.serial, self.hosts.join(" "), self.expires)
    }
}

/// The place of one certificate in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateSlot(usize);

/// See the module.
#[derive(Debug, Default)]
pub struct CertificateStore(ArcSwap<CertificateTable>);

#[derive(Debug, Default)]
struct CertificateTable {
    slots: Vec<Arc<ServerCertificate>>,
    exact: HashMap<Box<str>, usize>,
    /// The key is the name behind `*.`.
    wildcard: HashMap<Box<str>, usize>,
}

impl CertificateTable {
    /// Where two certificates are for the same name, the earlier slot is shown.
    fn of(slots: Vec<Arc<ServerCertificate>>) -> Self {
        let mut table = Self { slots, ..Self::default() };
        for (slot, certificate) in table.slots.iter().enumerate() {
            for host in &certificate.hosts {
                match host.strip_prefix("*.") {
                    Some(parent) => table.wildcard.entry(parent.into()).or_insert(slot),
                    None => table.exact.entry(host.clone()).or_insert(slot),
                };
            }
        }
        table
    }

    /// The certificate for a server name: an exact name before a wildcard; the first slot for every other name, and for
    /// a client that sends none.
    fn shown(&self, name: Option<&str>) -> Option<&Arc<ServerCertificate>> {
        let parent = |name: &str| self.wildcard.get(name.split_once('.')?.1).copied();
        let slot = name.and_then(|name| self.exact.get(name).copied().or_else(|| parent(name)));
        self.slots.get(slot.unwrap_or(0))
    }
}

impl CertificateStore {
    /// Adds a certificate. The one in the first slot is shown where no name matches.
    pub fn add(&self, certificate: ServerCertificate) -> CertificateSlot {
        let certificate = Arc::new(certificate);
        let before = self.0.rcu(|table| {
            let mut slots = table.slots.clone();
            slots.push(certificate.clone());
            CertificateTable::of(slots)
        });
        CertificateSlot(before.slots.len())
    }

    /// Replaces a certificate, for handshakes that begin from now on.
    pub fn replace(&self, slot: CertificateSlot, certificate: ServerCertificate) {
        let certificate = Arc::new(certificate);
        self.0.rcu(|table| {
            let mut slots = table.slots.clone();
            if let Some(old) = slots.get_mut(slot.0) {
                *old = certificate.clone();
            }
            CertificateTable::of(slots)
        });
    }

    /// Whether clients of this host are shown a certificate that is valid for it. The issuer and the dates of the
    /// certificate are not checked.
    pub fn covers(&self, host: &HostName) -> bool {
        let bare = host.as_str().trim_matches(['[', ']']);
        let Ok(name) = ServerName::try_from(bare) else { return false };
        let sent = matches!(name, ServerName::DnsName(_)).then_some(bare);
        self.0.load().shown(sent).is_some_and(|certificate| certificate.is_valid_for(&name))
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().shown(hello.server_name()).map(|certificate| certificate.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(hosts: &[&str]) -> ServerCertificate {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let memory = Path::new("memory");
        ServerCertificate::from_pem((memory, cert.as_bytes()), (memory, key.as_bytes())).unwrap()
    }

    fn shown(store: &CertificateStore, name: Option<&str>) -> String {
        store.0.load().shown(name).map(|certificate| certificate.hosts.join(" ")).unwrap_or_default()
    }

    #[test]
    fn an_exact_name_precedes_a_wildcard_and_the_default_is_the_first() {
        let store = CertificateStore::default();
        assert_eq!(shown(&store, None), "", "an empty store shows nothing");
        for hosts in [&["first.test"][..], &["*.a.test"], &["x.a.test"], &["*.a.test", "y.a.test"]] {
            store.add(certificate(hosts));
        }
        for (name, expected) in [
            (None, "first.test"),
            (Some("first.test"), "first.test"),
            (Some("unknown.test"), "first.test"),
            (Some("localhost"), "first.test"),
            (Some("x.a.test"), "x.a.test"),
            (Some("y.a.test"), "*.a.test y.a.test"),
            (Some("z.a.test"), "*.a.test"),
            (Some("a.test"), "first.test"),
            (Some("deep.z.a.test"), "first.test"),
        ] {
            assert_eq!(shown(&store, name), expected, "{name:?}");
        }
    }

    #[test]
    fn replacing_a_certificate_removes_its_old_names() {
        let store = CertificateStore::default();
        store.add(certificate(&["first.test"]));
        let slot = store.add(certificate(&["old.test"]));
        store.replace(slot, certificate(&["new.test"]));
        assert_eq!(shown(&store, Some("new.test")), "new.test");
        assert_eq!(shown(&store, Some("old.test")), "first.test");
    }

    #[test]
    fn a_host_is_covered_if_a_certificate_for_it_is_shown() {
        let store = CertificateStore::default();
        store.add(certificate(&["relay.test", "127.0.0.1", "::1"]));
        store.add(certificate(&["*.relay.test"]));
        let covers = |host: &str| store.covers(&HostName::parse(host).unwrap());
        for host in ["relay.test", "shop.relay.test", "127.0.0.1", "[::1]"] {
            assert!(covers(host), "{host}");
        }
        for host in ["www.shop.test", "a.b.relay.test", "127.0.0.2", "[::2]", "relay.test.test"] {
            assert!(!covers(host), "{host}");
        }
    }
}

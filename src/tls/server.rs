//! TLS of a relay's listeners: the certificates that they show, the client certificates that they accept, and the
//! replacement of both while the listeners accept connections.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use super::reload::{ActiveTls, FileWatch, PairFiles, Reloaded, WatchedFiles};
use super::store::CertificateStore;
use super::{TlsError, provider};
use crate::domain::HostName;

/// See the module. Cloning is cheap, and clones change together.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerTlsInner>);

struct ServerTlsInner {
    /// Replaced as a whole when other client certificates are accepted.
    config: ArcSwap<ServerConfig>,
    /// `None` when a program provides its own configuration.
    store: Option<Arc<CertificateStore>>,
    files: Mutex<Vec<WatchedFiles>>,
}

impl From<Arc<ServerConfig>> for ServerTls {
    /// A configuration that never changes.
    fn from(config: Arc<ServerConfig>) -> Self {
        let config = ArcSwap::new(config);
        Self(Arc::new(ServerTlsInner { config, store: None, files: Mutex::default() }))
    }
}

impl ServerTls {
    /// Shows the certificates of `store`, from any source. Requests no certificate from clients.
    ///
    /// # Errors
    /// [`TlsError`] when the system gives no randomness.
    pub fn new(store: Arc<CertificateStore>) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(config(store.clone(), None)?);
        Ok(Self(Arc::new(ServerTlsInner { config, store: Some(store), files: Mutex::default() })))
    }

    /// Shows the certificates of these files, the first where no name matches. With `clients`, requests a certificate
    /// of the CAs in that file: a client without a certificate is accepted, a client whose certificate does not
    /// verify is refused.
    ///
    /// # Errors
    /// [`TlsError`] naming the file; also when others than the owner may write a key.
    pub fn from_files(pairs: &[PairFiles], clients: Option<&Path>) -> Result<Self, TlsError> {
        let tls = Self::new(Arc::default())?;
        let files: Vec<_> = pairs
            .iter()
            .map(|pair| FileWatch::Pair { files: pair.clone(), slot: None })
            .chain(clients.map(|clients| FileWatch::Clients(clients.into())))
            .map(|watch| WatchedFiles::load_initial(watch, &tls))
            .collect::<Result<_, _>>()?;
        *tls.0.files.lock() = files;
        Ok(tls)
    }

    /// Whether visitors of this host are shown a certificate that is valid for it; `None` when that is unknown here.
    pub fn covers(&self, host: &HostName) -> Option<bool> {
        self.store().map(|store| store.covers(host))
    }

    /// Whether there are files for [`ServerTls::reload`] to read.
    pub fn has_files(&self) -> bool {
        !self.0.files.lock().is_empty()
    }

    /// An acceptor of connections with these protocols, in order of preference; an empty list offers none.
    pub fn acceptor(&self, alpn: Vec<Vec<u8>>) -> Acceptor {
        let source = self.0.config.load_full();
        let ready = ArcSwap::from_pointee(Ready::new(source, &alpn));
        Acceptor { tls: self.clone(), alpn, ready }
    }

    /// Reads the files and loads those that changed. A changed file is loaded at the second read that finds the same
    /// bytes, because the first may have found it half written; with `at_once` it is loaded at the first read. A file
    /// that cannot be loaded changes nothing. The call belongs on a thread that may block.
    pub fn reload(&self, at_once: bool) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for watched in self.0.files.lock().iter_mut() {
            watched.check(self, at_once, &mut reloaded);
        }
        reloaded
    }
}

impl ActiveTls for ServerTls {
    fn store(&self) -> Option<&Arc<CertificateStore>> {
        self.0.store.as_ref()
    }

    fn accept_clients(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<(), TlsError> {
        if let Some(store) = &self.0.store {
            self.0.config.store(Arc::new(config(store.clone(), Some(clients))?));
        }
        Ok(())
    }
}

/// A configuration without protocols.
pub(super) fn config(
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let unusable = |source| TlsError::Unusable { subject: "TLS".into(), source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(certificates);
    // Session tickets under a rotating key, instead of a cache behind one lock for every core.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
    Ok(config)
}

/// Accepts the connections of one listener, each with the configuration that is in force then.
pub struct Acceptor {
    tls: ServerTls,
    alpn: Vec<Vec<u8>>,
    ready: ArcSwap<Ready>,
}

/// The acceptor of a listener, and the configuration that it was made from.
struct Ready {
    source: Arc<ServerConfig>,
    acceptor: TlsAcceptor,
}

impl Ready {
    fn new(source: Arc<ServerConfig>, alpn: &[Vec<u8>]) -> Self {
        let mut config = ServerConfig::clone(&source);
        config.alpn_protocols = alpn.to_vec();
        Self { source, acceptor: Arc::new(config).into() }
    }
}

impl Acceptor {
    /// The acceptor of the next connection.
    pub fn current(&self) -> TlsAcceptor {
        let ready = self.ready.load();
        let config = self.tls.0.config.load();
        if Arc::ptr_eq(&ready.source, &config) {
            return ready.acceptor.clone();
        }
        let fresh = Ready::new(config.clone(), &self.alpn);
        let acceptor = fresh.acceptor.clone();
        self.ready.store(Arc::new(fresh));
        acceptor
    }
}

//! TLS for both sides: the certificate that the relay shows, and the certificates that the agent trusts.
//!
//! Verification of a relay cannot be turned off: a private CA is given as a file, and the development CA of [`dev`]
//! costs nothing. An origin may also be trusted by its key ([`pin`]).

#[cfg(any(test, feature = "cli"))]
pub mod dev;
mod explain;
pub mod files;
mod peer;
pub mod pin;
#[cfg(feature = "cli")]
mod pinned;
mod reload;
mod server;
mod server_trust;
mod store;
mod unknown_issuer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::Verifier;

pub use self::explain::{explain, explain_io};
pub use self::peer::peer;
#[cfg(feature = "cli")]
pub use self::pinned::{PinnedCa, first_certificate};
pub use self::reload::{PairFiles, Reloaded, Replaced};
pub use self::server::{Acceptor, ServerTls};
use self::server_trust::{ServerTrust, TrustVerifier};
pub use self::store::{CertificateSlot, CertificateStore, ServerCertificate};
use self::unknown_issuer::WithIssuer;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or others may write a key.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// A file is not PEM, or holds no item of the expected kind.
    #[error("{origin} holds no {expected} in PEM form: {reason}", origin = .origin.display())]
    Pem {
        /// The file; `memory` when there is none.
        origin: PathBuf,
        /// The kind of item that was expected.
        expected: &'static str,
        /// The defect.
        reason: String,
    },
    /// Each part is valid, but cannot be used: a key of another certificate, an algorithm that is not supported.
    #[error("{subject} cannot be used: {source}")]
    Unusable {
        /// The part: a file, or a certificate and its key.
        subject: String,
        /// The error of rustls.
        source: rustls::Error,
    },
    /// The system has no trust store.
    #[error("this system has no certificates to trust ({0}); install them, or pass --ca FILE")]
    NoTrust(rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Checks that a file holds CAs of client certificates, without using them.
///
/// # Errors
/// [`TlsError`] when the file cannot be read or holds no CA.
pub fn check_clients(clients: &Path) -> Result<(), TlsError> {
    peer::verifier(clients, &files::read(clients)?).map(drop)
}

/// The configuration of a server, from a certificate chain (leaf first) and its key, both PEM. `alpn` lists the
/// protocols in order of preference; an empty list offers none.
///
/// # Errors
/// [`TlsError`] when the texts are not PEM or do not fit together.
pub fn server_config_from_pem(
    cert: &[u8],
    key: &[u8],
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    server((Path::new("memory"), cert), (Path::new("memory"), key), alpn)
}

fn server(cert: (&Path, &[u8]), key: (&Path, &[u8]), alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let store = CertificateStore::default();
    store.add(ServerCertificate::from_pem(cert, key)?);
    let mut config = server::config(Arc::new(store), None)?;
    config.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    Ok(Arc::new(config))
}

/// A configuration that sends a certificate when a relay requests one: the chain (leaf first) and its key, both PEM
/// files. The rest of `config` stays as it is.
///
/// # Errors
/// [`TlsError`] naming the file; also when others than the owner may write the key.
pub fn with_identity(config: &ClientConfig, cert: &Path, key: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let unusable = |source| TlsError::Unusable { subject: cert.display().to_string(), source };
    let chain = certificates(cert, &files::read(cert)?)?;
    let secret = files::read_secret(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|e| not_pem(key, "private key", &e))?;
    let identity = CertifiedKey::from_der(chain, secret, &provider()).map_err(unusable)?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
    // A resumed session would present the identity with which it was established.
    config.resumption = Resumption::default();
    Ok(Arc::new(config))
}

/// The configuration of an agent. It trusts the certificates of the file `ca` alone, or without a file those that
/// the system trusts.
///
/// # Errors
/// [`TlsError`] when the file holds no certificate, or when the system trusts none.
pub fn client_config(ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    match ca {
        Some(ca) => client(ca, &files::read(ca)?, alpn),
        None => {
            let verifier = Verifier::new(provider()).map_err(TlsError::NoTrust)?;
            trusting(WithIssuer(Arc::new(verifier)), alpn).map_err(TlsError::NoTrust)
        }
    }
}

/// As [`client_config`] with a CA, from memory.
///
/// # Errors
/// [`TlsError`] when the text holds no certificate.
pub fn client_config_from_pem(ca: &[u8], alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    client(Path::new("memory"), ca, alpn)
}

/// A configuration that trusts no certificate: for an agent whose relays are all plain HTTP on this machine.
///
/// # Errors
/// [`TlsError`] does not happen with the algorithms built in.
pub fn client_config_for_none() -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|source| TlsError::Unusable { subject: "memory".into(), source })?;
    Ok(finish(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(), &[]))
}

fn client(origin: &Path, ca: &[u8], alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let unusable = |source| TlsError::Unusable { subject: origin.display().to_string(), source };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(origin, ca)?, provider());
    let verifier = verifier.build().map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
    trusting(WithIssuer(verifier), alpn).map_err(unusable)
}

/// Trusts the certificates that `trust` accepts.
fn trusting(trust: impl ServerTrust, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?.dangerous();
    let builder = builder.with_custom_certificate_verifier(TrustVerifier::new(trust));
    Ok(finish(builder.with_no_client_auth(), alpn))
}

fn finish(mut config: ClientConfig, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    config.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    Arc::new(config)
}

fn roots(origin: &Path, ca: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(origin, ca)? {
        let unusable = |source| TlsError::Unusable { subject: origin.display().to_string(), source };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

fn certificates(origin: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(origin, "certificate", &error))?;
    if all.is_empty() { Err(not_pem(origin, "certificate", &pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn not_pem(origin: &Path, expected: &'static str, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::NoItemsFound => format!("there is no -----BEGIN {}-----", expected.to_uppercase()),
        error => error.to_string(),
    };
    TlsError::Pem { origin: origin.to_owned(), expected, reason }
}

#[cfg(test)]
mod tests;

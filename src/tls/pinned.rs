//! Trust in a development CA that a person knows only by its digest: the server sends the CA itself, behind its
//! certificate.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::server_trust::{ServerCertificates, ServerTrust};
use super::{TlsError, certificates, provider, trusting};

/// A CA with a known SHA-256 digest. It is the only root, and the certificate of the server is verified against it as
/// usual.
#[derive(Debug, Clone)]
pub struct PinnedCa {
    digest: [u8; 32],
    /// The CA, once a server has sent it and its certificate was accepted.
    found: Arc<OnceLock<CertificateDer<'static>>>,
}

impl PinnedCa {
    /// The CA whose DER form has this digest.
    pub fn new(digest: [u8; 32]) -> Self {
        Self { digest, found: Arc::default() }
    }

    /// A client configuration that trusts this CA alone.
    ///
    /// # Errors
    /// [`TlsError`] does not happen with the algorithms built in.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        trusting(self.clone(), &[]).map_err(TlsError::NoTrust)
    }

    /// The CA in PEM, after a handshake.
    pub fn pem(&self) -> Option<String> {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(self.found.get()?);
        let lines: String =
            text.as_bytes().chunks(64).map(|l| format!("{}\n", String::from_utf8_lossy(l))).collect();
        Some(format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n"))
    }
}

/// The first certificate of a PEM text, in DER.
pub fn first_certificate(pem: &[u8]) -> Option<CertificateDer<'static>> {
    certificates(std::path::Path::new("memory"), pem).ok()?.into_iter().next()
}

impl ServerTrust for PinnedCa {
    fn check(&self, certificates: &ServerCertificates<'_>) -> Result<(), Error> {
        let ServerCertificates { end_entity, intermediates, server_name, ocsp_response, now } = *certificates;
        let is_pinned = |ca: &&CertificateDer<'_>| Sha256::digest(ca)[..] == self.digest;
        let Some(ca) = intermediates.iter().find(is_pinned) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let ca = ca.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let _ = self.found.set(ca);
        Ok(())
    }
}

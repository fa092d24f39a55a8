//! Decides whether a client trusts a server, by its certificates.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::provider;

/// The certificates that a server sent, and for which name and at which time they must be valid.
pub(super) struct ServerCertificates<'a> {
    pub(super) end_entity: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) server_name: &'a ServerName<'a>,
    pub(super) ocsp_response: &'a [u8],
    pub(super) now: UnixTime,
}

/// A decision about the certificates of a server. That the server has the private key is verified in any case.
pub(super) trait ServerTrust: fmt::Debug + Send + Sync + 'static {
    /// # Errors
    /// The reason why the server is not trusted.
    fn check(&self, certificates: &ServerCertificates<'_>) -> Result<(), Error>;
}

/// A verifier of rustls that leaves the decision about certificates to `T`.
#[derive(Debug)]
pub(super) struct TrustVerifier<T> {
    trust: T,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<T: ServerTrust> TrustVerifier<T> {
    pub(super) fn new(trust: T) -> Arc<Self> {
        Arc::new(Self { trust, algorithms: provider().signature_verification_algorithms })
    }
}

impl<T: ServerTrust> ServerCertVerifier for TrustVerifier<T> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificates = ServerCertificates { end_entity, intermediates, server_name, ocsp_response, now };
        self.trust.check(&certificates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

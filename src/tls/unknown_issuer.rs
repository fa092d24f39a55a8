//! The issuer of a certificate that is not trusted. rustls reports only that the issuer is unknown. The name of the
//! issuer shows a person whether the relay has another CA, or whether a middlebox intercepts TLS.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::server_trust::{ServerCertificates, ServerTrust};

/// The most characters of an issuer's name, because an untrusted server sends the name.
const NAME: usize = 80;

/// Leaves every decision to the verifier inside, and only adds the issuer's name to a refusal for an unknown issuer.
#[derive(Debug)]
pub(super) struct WithIssuer(pub(super) Arc<dyn ServerCertVerifier>);

impl ServerTrust for WithIssuer {
    fn check(&self, certificates: &ServerCertificates<'_>) -> Result<(), Error> {
        let ServerCertificates { end_entity, intermediates, server_name, ocsp_response, now } = *certificates;
        let verdict = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map(drop).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                with_issuer(end_entity, server_name).unwrap_or(error)
            }
            error => error,
        })
    }
}

/// The same refusal, with the issuer's name; `None` when the certificate cannot be read.
fn with_issuer(end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Option<Error> {
    let (_, certificate) = X509Certificate::from_der(end_entity).ok()?;
    let issuer = certificate.issuer();
    let name = issuer.iter_common_name().chain(issuer.iter_organization()).find_map(|a| a.as_str().ok());
    let issuer: String = name.map_or_else(|| issuer.to_string(), str::to_owned).chars().take(NAME).collect();
    let is_for_host = ParsedCertificate::try_from(end_entity)
        .is_ok_and(|certificate| verify_server_name(&certificate, server_name).is_ok());
    let unknown = UnknownIssuer { issuer, is_for_host };
    Some(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unknown)))))
}

/// A certificate of an unknown issuer.
pub(super) struct UnknownIssuer {
    /// The name of the issuer.
    pub(super) issuer: String,
    /// Whether the certificate is for the requested host.
    pub(super) is_for_host: bool,
}

impl fmt::Display for UnknownIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it was issued by {:?}, an issuer that is not trusted on this machine", self.issuer)
    }
}

/// rustls shows the inner error of its own errors with `Debug`.
impl fmt::Debug for UnknownIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for UnknownIssuer {}

//! Client certificates: which are accepted, and their contents.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{TlsError, provider, roots};
use crate::domain::Certificate;

/// Accepts the certificates of the CAs in `pem`, which is the content of the file `ca`. Also accepts clients without a
/// certificate, because visitors connect to the same port.
pub(super) fn verifier(ca: &Path, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = roots(ca, pem)?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
    let unusable = |error: rustls::server::VerifierBuilderError| TlsError::Unusable {
        subject: ca.display().to_string(),
        source: rustls::Error::General(error.to_string()),
    };
    builder.build().map_err(unusable)
}

/// The contents of a certificate that a handshake has verified; `None` when it cannot be read.
pub fn peer(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let hosts = dns_names(&certificate)?;
    let end = certificate.validity().not_after.timestamp();
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).ok()?);
    Some(Certificate { hosts, expires })
}

/// The DNS names of a certificate (RFC 5280 §4.2.1.6), in lower case. `None` when they cannot be read.
pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Option<Vec<Box<str>>> {
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase().into()),
        _ => None,
    });
    Some(hosts.collect())
}

//! Pins: a server is trusted by its public key alone, whatever the names, the issuer and the dates of its certificate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{CertificateError, ClientConfig, Error, OtherError};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::server_trust::{ServerCertificates, ServerTrust};
use super::{TlsError, trusting};

/// The SHA-256 digest of a certificate's `SubjectPublicKeyInfo` in DER (RFC 7469 §2.4), as curl's `--pinnedpubkey`
/// takes it. A renewed certificate keeps the pin if it keeps the key.
///
/// Parses 64 hexadecimal digits or base64, each with or without `sha256//` in front; displayed as `sha256//BASE64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// Why a text is no [`Pin`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write sha256//BASE64 or 64 hexadecimal digits, the SHA-256 of the public key; ptth doctor prints it"
)]
pub struct BadPin;

impl Pin {
    /// The pin of a certificate in DER; `None` if it cannot be parsed.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self(Sha256::digest(certificate.public_key().raw).into()))
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let text = text.strip_prefix("sha256//").unwrap_or(text);
        if text.len() != 64 {
            let bytes = STANDARD.decode(text).map_err(|_| BadPin)?;
            return bytes.try_into().map(Self).map_err(|_| BadPin);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(BadPin)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256//{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A configuration that trusts the servers with one of these keys, and no other. Without pins it trusts no server.
///
/// # Errors
/// [`TlsError`] does not happen with the algorithms built in.
pub fn pinned(pins: &[Pin]) -> Result<Arc<ClientConfig>, TlsError> {
    by_key(Some(pins.into()))
}

/// A configuration that trusts every server. The caller restricts the addresses that it is used for.
///
/// # Errors
/// [`TlsError`] does not happen with the algorithms built in.
pub fn unverified() -> Result<Arc<ClientConfig>, TlsError> {
    by_key(None)
}

fn by_key(pins: Option<Box<[Pin]>>) -> Result<Arc<ClientConfig>, TlsError> {
    let unusable = |source| TlsError::Unusable { subject: "memory".into(), source };
    trusting(KeyTrust { pins }, &[]).map_err(unusable)
}

/// The pin of the server whose certificate a configuration of [`pinned`] refused; `None` for another failure.
pub fn refused_pin(error: &std::io::Error) -> Option<Pin> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<UnpinnedKey>().map(|unpinned| unpinned.0)
        }
        _ => None,
    }
}

/// Checks the key of the certificate alone. webpki would refuse a CA as the certificate of a server, and the default of
/// `openssl req -x509` is one.
#[derive(Debug)]
struct KeyTrust {
    /// The trusted keys; `None` trusts every key.
    pins: Option<Box<[Pin]>>,
}

impl ServerTrust for KeyTrust {
    fn check(&self, certificates: &ServerCertificates<'_>) -> Result<(), Error> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let pin = Pin::of_certificate(certificates.end_entity).ok_or(CertificateError::BadEncoding)?;
        if pins.contains(&pin) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(UnpinnedKey(pin)))).into())
    }
}

/// The key of a server, which is not among the pins.
struct UnpinnedKey(Pin);

impl fmt::Display for UnpinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its key has the pin {}, which is not the expected one", self.0)
    }
}

/// rustls shows the inner error of its own errors with `Debug`.
impl fmt::Debug for UnpinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for UnpinnedKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_hexadecimal_or_base64() {
        let hex = "00".repeat(31) + "fF";
        let base64 = format!("{}P8=", "A".repeat(41));
        let pin: Pin = hex.parse().unwrap();
        assert_eq!(pin.to_string(), format!("sha256//{base64}"));
        for text in [&base64, &format!("sha256//{base64}"), &format!("sha256//{hex}")] {
            assert_eq!(text.parse(), Ok(pin), "{text}");
        }
        let (short, wide) = (&hex[1..], format!("{}+1", &hex[2..]));
        for bad in ["", "sha256//", short, &wide, &base64[4..], "sha1//AAAA"] {
            assert_eq!(bad.parse::<Pin>(), Err(BadPin), "{bad:?}");
        }
    }
}

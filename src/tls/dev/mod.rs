//! Certificates for development: a CA, and the certificates that it signs. The CA is valid only for the host names that
//! it was made for, and for the names below them.
//!
//! The name constraints (RFC 5280 §4.2.1.10) make it safe to let a browser trust this CA. There is no constraint for
//! addresses, because BoringSSL, which gRPC uses, refuses every certificate for an address whose CA has one. So a
//! holder of the CA's key can sign for any IP address.

mod host;
mod keep;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};

use self::host::with_local;
use super::explain::DEVELOPMENT_CA;
use super::files::FileError;

pub use self::host::CertHost;
pub use self::keep::{RelayFiles, load_or_make, write_dir};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A client whose clock is somewhat behind must not refuse a fresh certificate.
const BACKDATED: Duration = DAY;
/// The lifetime of the CA. A CA that is needed for longer is made again.
const CA_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// The lifetime of a certificate that the CA signs, [`BACKDATED`] included: browsers refuse more than 398 days.
const LEAF_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The text names no host that a certificate can be for.
    #[error("a certificate cannot be for the host {text:?}: {reason}")]
    Host {
        /// The text.
        text: String,
        /// The defect.
        reason: String,
    },
    /// A file exists where one would be written.
    #[error("{} exists already, and nothing is overwritten; move it away, or choose another directory", .0.display())]
    Exists(PathBuf),
    /// The directory cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// Development certificates in memory.
#[derive(Clone)]
pub struct DevCerts {
    /// The CA that an agent, a browser or curl is set to trust.
    pub ca: Pair,
    /// The certificate of the relay, for TLS servers.
    pub relay: Pair,
    /// The certificate of an agent, for TLS clients.
    pub agent: Pair,
}

fn params(common_name: String, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let start = SystemTime::now() - BACKDATED;
    params.not_before = start.into();
    params.not_after = (start + life).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn make_ca(hosts: &[CertHost]) -> Result<Pair, rcgen::Error> {
    // Clients would confuse two CAs of one subject in one trust store.
    let serial: u32 = rand::random();
    let mut ca = params(format!("{DEVELOPMENT_CA}{serial:08x}"), CA_LIFE);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted_subtrees = Vec::new();
    for subtree in hosts.iter().filter_map(CertHost::subtree) {
        // `a.test` and `*.a.test` have the same subtree.
        if !permitted_subtrees.contains(&subtree) {
            permitted_subtrees.push(subtree);
        }
    }
    ca.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    let key = KeyPair::generate()?;
    Ok(Pair { cert: ca.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn sign(ca: &Pair, leaf: &CertificateParams) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, KeyPair::from_pem(&ca.key)?)?;
    let key = KeyPair::generate()?;
    Ok(Pair { cert: leaf.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn leaf(common_name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut leaf = params(common_name.into(), LEAF_LIFE);
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![purpose];
    leaf.use_authority_key_identifier_extension = true;
    leaf
}

fn sign_relay(ca: &Pair, hosts: &[CertHost]) -> Result<Pair, rcgen::Error> {
    let mut relay = leaf("ptth relay", ExtendedKeyUsagePurpose::ServerAuth);
    relay.subject_alt_names = hosts.iter().map(CertHost::san).collect::<Result<_, _>>()?;
    sign(ca, &relay)
}

/// A certificate for the same hosts: at a relay that accepts client certificates, they are the hosts that the
/// agent may claim.
fn sign_agent(ca: &Pair, hosts: &[CertHost]) -> Result<Pair, rcgen::Error> {
    let mut agent = leaf("ptth agent", ExtendedKeyUsagePurpose::ClientAuth);
    agent.subject_alt_names = hosts.iter().map(CertHost::san).collect::<Result<_, _>>()?;
    sign(ca, &agent)
}

/// Makes certificates for these hosts and for `localhost`, `127.0.0.1` and `::1`, in memory.
///
/// # Errors
/// [`DevError::Make`] when the system gives no randomness.
pub fn ephemeral(hosts: &[CertHost]) -> Result<DevCerts, DevError> {
    let hosts = with_local(hosts);
    let ca = make_ca(&hosts)?;
    let relay = sign_relay(&ca, &hosts)?;
    let agent = sign_agent(&ca, &hosts)?;
    Ok(DevCerts { ca, relay, agent })
}

#[cfg(test)]
mod tests;

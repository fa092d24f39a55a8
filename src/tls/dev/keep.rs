//! Development certificates in files.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::UnixTime;

use crate::tls::files::{self, FileError};
use crate::tls::{TlsError, certificates, provider, server_config_from_pem};

use super::host::with_local;
use super::{CertHost, DevError, Pair, ephemeral, make_ca, sign_relay};

/// A certificate that expires sooner than this is replaced.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const RELAY: &str = "relay.pem";
const RELAY_KEY: &str = "relay-key.pem";
const AGENT: &str = "agent.pem";
const AGENT_KEY: &str = "agent-key.pem";

/// Makes certificates as [`ephemeral`] does and writes all six files; returns their paths. Keys get mode 600.
///
/// # Errors
/// [`DevError::Exists`] when one of the files exists: then nothing is written. Otherwise another [`DevError`].
pub fn write_dir(out: &Path, hosts: &[CertHost]) -> Result<Vec<PathBuf>, DevError> {
    make_dir(out, 0o777)?;
    let certs = ephemeral(hosts)?;
    let files = [
        (CA, 0o644, certs.ca.cert),
        (CA_KEY, 0o600, certs.ca.key),
        (RELAY, 0o644, certs.relay.cert),
        (RELAY_KEY, 0o600, certs.relay.key),
        (AGENT, 0o644, certs.agent.cert),
        (AGENT_KEY, 0o600, certs.agent.key),
    ]
    .map(|(name, mode, text)| (out.join(name), mode, text));
    if let Some((path, ..)) = files.iter().find(|(path, ..)| path.symlink_metadata().is_ok()) {
        return Err(DevError::Exists(path.clone()));
    }
    for (path, mode, text) in &files {
        files::create(path, *mode, text.as_bytes())?;
    }
    Ok(files.into_iter().map(|(path, ..)| path).collect())
}

fn make_dir(path: &Path, mode: u32) -> Result<(), DevError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| DevError::Directory { path: path.into(), source })
}

/// The files of a relay without a certificate of its own.
pub struct RelayFiles {
    /// The file of the CA, for the agents.
    pub ca: PathBuf,
    /// The relay's certificate.
    pub cert: PathBuf,
    /// The relay's key.
    pub key: PathBuf,
    /// Whether the CA is new: agents that trust an older CA refuse this relay.
    pub new_ca: bool,
    /// Whether there was a CA before.
    pub had_ca: bool,
}

/// Loads the certificates of a state directory. Makes a new certificate of the relay when the old one is missing,
/// expires soon or does not cover the hosts, and a new CA when the old CA cannot sign for them.
///
/// # Errors
/// [`DevError`] when files cannot be read or written, or when others may write a key.
pub fn load_or_make(state: &Path, hosts: &[CertHost]) -> Result<RelayFiles, DevError> {
    let hosts = with_local(hosts);
    make_dir(state, 0o700)?;
    let [ca, cert, key] = [CA, RELAY, RELAY_KEY].map(|name| state.join(name));
    let mut paths = RelayFiles { ca, cert, key, new_ca: false, had_ca: false };
    // The CA's key may be stored elsewhere: it is needed only to sign.
    let old_ca = files::read(&paths.ca).map(text);
    paths.had_ca = old_ca.is_ok();
    if let (Ok(ca), Some(relay)) = (&old_ca, &load(&paths.cert, &paths.key)?)
        && covers(ca, &relay.cert, &hosts)
        && server_config_from_pem(relay.cert.as_bytes(), relay.key.as_bytes(), &[]).is_ok()
    {
        if !relay.cert.contains(ca.trim_end()) {
            files::replace(&paths.cert, 0o644, with_ca(&relay.cert, ca).as_bytes())?;
        }
        return Ok(paths);
    }
    let renewed = load(&paths.ca, &state.join(CA_KEY))?.and_then(|ca| {
        let relay = sign_relay(&ca, &hosts).ok()?;
        covers(&ca.cert, &relay.cert, &hosts).then_some((relay, ca.cert))
    });
    let (relay, ca) = match renewed {
        Some(renewed) => renewed,
        None => {
            paths.new_ca = true;
            let ca = make_ca(&hosts)?;
            files::replace(&state.join(CA_KEY), 0o600, ca.key.as_bytes())?;
            files::replace(&paths.ca, 0o644, ca.cert.as_bytes())?;
            (sign_relay(&ca, &hosts)?, ca.cert)
        }
    };
    files::replace(&paths.key, 0o600, relay.key.as_bytes())?;
    files::replace(&paths.cert, 0o644, with_ca(&relay.cert, &ca).as_bytes())?;
    Ok(paths)
}

/// The chain that the relay sends: its certificate, and the CA for agents that know only the digest of the CA.
fn with_ca(relay: &str, ca: &str) -> String {
    format!("{}\n{ca}", relay.trim_end())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A pair of files; `None` when either is missing.
fn load(cert: &Path, key: &Path) -> Result<Option<Pair>, FileError> {
    let missing = |error: &FileError| matches!(error, FileError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound);
    match files::read(cert).and_then(|cert| Ok((cert, files::read_secret(key)?))) {
        Ok((cert, key)) => Ok(Some(Pair { cert: text(cert), key: text(key) })),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a client that trusts only `ca` will still accept `leaf` for all these hosts when `RENEW` has passed.
fn covers(ca: &str, leaf: &str, hosts: &[CertHost]) -> bool {
    covers_at(ca, leaf, hosts, SystemTime::now() + RENEW).unwrap_or(false)
}

fn covers_at(ca: &str, leaf: &str, hosts: &[CertHost], when: SystemTime) -> Result<bool, TlsError> {
    let memory = Path::new("memory");
    let unusable = |source| TlsError::Unusable { subject: "the development CA".into(), source };
    let mut roots = RootCertStore::empty();
    for ca in certificates(memory, ca.as_bytes())? {
        roots.add(ca).map_err(unusable)?;
    }
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build() else {
        return Ok(false);
    };
    let chain = certificates(memory, leaf.as_bytes())?;
    let when = UnixTime::since_unix_epoch(when.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    Ok(hosts.iter().all(|host| {
        let name = host.sample();
        name.is_some_and(|name| verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], when).is_ok())
    }))
}

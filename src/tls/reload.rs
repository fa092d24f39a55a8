//! Files of certificates and CAs that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};

use super::files::{self, FileError};
use super::store::{CertificateSlot, CertificateStore, ServerCertificate};
use super::{TlsError, peer};

/// The files of a certificate chain, leaf first, and of its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl PairFiles {
    /// Checks whether a relay could use the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn check(&self) -> Result<(), TlsError> {
        let (cert, key) = self.read()?;
        self.parse(&cert, &key).map(drop)
    }

    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), FileError> {
        Ok((files::read(&self.cert)?, files::read_secret(&self.key)?))
    }

    fn parse(&self, cert: &[u8], key: &[u8]) -> Result<ServerCertificate, TlsError> {
        ServerCertificate::from_pem((&self.cert, cert), (&self.key, key))
    }
}

/// The result of reading the files again.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The contents that are in force now, one entry for each file or pair.
    pub replaced: Vec<Replaced>,
    /// The errors for which the former contents stay in force; each names its file.
    pub failed: Vec<TlsError>,
    /// Whether a file has changed and must be read once more, soon.
    pub unsettled: bool,
}

/// A file or a pair that was read again and is in force now.
#[derive(Debug)]
pub struct Replaced {
    /// The file.
    pub file: PathBuf,
    /// A description of its contents.
    pub contents: String,
}

/// The configuration in which loaded files take effect.
pub(super) trait ActiveTls {
    /// The certificates that are shown; `None` when a program provides its own configuration.
    fn store(&self) -> Option<&Arc<CertificateStore>>;

    /// Accepts these client certificates in handshakes that begin from now on. No earlier session is resumed, as it may
    /// contain a certificate of the former CAs.
    fn accept_clients(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<(), TlsError>;
}

/// Files that are loaded together, by their purpose.
pub(super) enum FileWatch {
    /// A certificate that is shown. It has no slot before it was loaded.
    Pair { files: PairFiles, slot: Option<CertificateSlot> },
    /// The CAs of the client certificates that are accepted.
    Clients(PathBuf),
}

/// The digest of the contents of files, or of the reason why they cannot be read.
type Fingerprint = [u8; 32];

/// The state of files that are loaded together.
pub(super) struct WatchedFiles {
    watch: FileWatch,
    /// The digest of the contents in force.
    loaded: Fingerprint,
    /// The digest at the last read, where it differs from `loaded`.
    seen: Option<Fingerprint>,
    /// The digest of contents that could not be loaded.
    refused: Option<Fingerprint>,
}

impl WatchedFiles {
    /// Loads the files for the first time.
    pub(super) fn load_initial(mut watch: FileWatch, tls: &impl ActiveTls) -> Result<Self, TlsError> {
        let contents = watch.read();
        let loaded = fingerprint(&contents);
        watch.load(contents, tls)?;
        Ok(Self { watch, loaded, seen: None, refused: None })
    }

    /// Loads the files if they changed; see [`ServerTls::reload`](super::ServerTls::reload).
    pub(super) fn check(&mut self, tls: &impl ActiveTls, at_once: bool, reloaded: &mut Reloaded) {
        let contents = self.watch.read();
        let fingerprint = fingerprint(&contents);
        if fingerprint == self.loaded {
            (self.seen, self.refused) = (None, None);
            return;
        }
        let settled = self.seen.replace(fingerprint) == Some(fingerprint);
        if !at_once && !settled {
            reloaded.unsettled = true;
            return;
        }
        // The error was reported already, once for each state of the files.
        if !at_once && self.refused == Some(fingerprint) {
            return;
        }
        match self.watch.load(contents, tls) {
            Ok(description) => {
                (self.loaded, self.seen, self.refused) = (fingerprint, None, None);
                reloaded.replaced.push(Replaced { file: self.watch.file().into(), contents: description });
            }
            Err(error) => {
                self.refused = Some(fingerprint);
                reloaded.failed.push(error);
            }
        }
    }
}

/// One file, or a certificate and its key.
type Contents = Result<(Vec<u8>, Vec<u8>), FileError>;

fn fingerprint(contents: &Contents) -> Fingerprint {
    let hash = Sha256::new();
    let hash = match contents {
        Ok((first, second)) => {
            hash.chain_update((first.len() as u64).to_be_bytes()).chain_update(first).chain_update(second)
        }
        Err(error) => hash.chain_update(error.to_string()),
    };
    hash.finalize().into()
}

impl FileWatch {
    fn file(&self) -> &Path {
        match self {
            Self::Pair { files, .. } => &files.cert,
            Self::Clients(file) => file,
        }
    }

    fn read(&self) -> Contents {
        match self {
            Self::Pair { files, .. } => files.read(),
            Self::Clients(file) => Ok((files::read(file)?, Vec::new())),
        }
    }

    /// Puts all of the contents in force, or nothing after an error. Returns a description of the contents.
    fn load(&mut self, contents: Contents, tls: &impl ActiveTls) -> Result<String, TlsError> {
        let (first, second) = contents?;
        match self {
            Self::Pair { files, slot } => {
                let certificate = files.parse(&first, &second)?;
                let description = certificate.to_string();
                if let Some(store) = tls.store() {
                    match *slot {
                        Some(slot) => store.replace(slot, certificate),
                        None => *slot = Some(store.add(certificate)),
                    }
                }
                Ok(description)
            }
            Self::Clients(file) => {
                tls.accept_clients(peer::verifier(file, &first)?)?;
                Ok("the CAs of client certificates".into())
            }
        }
    }
}

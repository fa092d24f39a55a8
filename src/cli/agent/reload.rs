//! SIGHUP at an agent: the CA, the client certificate and the token are read again from their files.

use std::path::{Path, PathBuf};

use http::Uri;
use sha2::{Digest as _, Sha256};

use super::Approach;
use crate::cli::Failure;
use crate::domain::Secret;
use crate::tls::files;
use crate::transport::AgentCredentials;

/// The files and the token that were read last.
pub(super) struct Reload {
    approach: Approach,
    relays: Vec<Uri>,
    /// The files of CA, client certificate and its key, each with a digest of its contents.
    files: Vec<(PathBuf, [u8; 32])>,
    token: Option<Secret>,
}

impl Reload {
    /// Remembers the files and the token with which an agent starts.
    pub(super) fn new(approach: Approach, relays: Vec<Uri>, token: Option<Secret>) -> Self {
        let files = digests(&approach);
        Self { approach, relays, files, token }
    }

    /// Reads the files and the token again. A file that cannot be read changes nothing.
    pub(super) fn run(&mut self, credentials: &AgentCredentials) {
        tracing::info!("SIGHUP: reading CA, client certificate and token again");
        let unchanged =
            [self.reload_tls(credentials), self.reload_token(credentials)] == [Ok(false), Ok(false)];
        if unchanged {
            tracing::info!("CA, client certificate and token are unchanged");
        }
    }

    /// Returns whether the TLS configuration was replaced. `Err`: a file is unusable, and the failure is logged.
    fn reload_tls(&mut self, credentials: &AgentCredentials) -> Result<bool, ()> {
        let files = digests(&self.approach);
        if files == self.files {
            return Ok(false);
        }
        let tls = self.approach.trust(&self.relays).and_then(|tls| self.approach.with_identity(&tls));
        credentials.replace_tls(tls.map_err(log_failure)?);
        for ((path, _), _) in files.iter().zip(&self.files).filter(|(new, old)| new != old) {
            tracing::info!(file = %path.display(), "loaded again; new connections use it");
        }
        self.files = files;
        Ok(true)
    }

    /// Returns whether the token was replaced. `Err`: the file is unusable, and the failure is logged.
    fn reload_token(&mut self, credentials: &AgentCredentials) -> Result<bool, ()> {
        // A token from stdin or from the environment cannot be read again.
        let Some(file) = self.approach.token_file.as_deref().filter(|file| *file != Path::new("-")) else {
            return Ok(false);
        };
        let token = self.approach.token().map_err(log_failure)?;
        if token == self.token {
            return Ok(false);
        }
        tracing::info!(file = %file.display(), "loaded the token again; new connections use it");
        credentials.replace_token(token.clone());
        self.token = token;
        Ok(true)
    }
}

fn log_failure(failure: Failure) {
    tracing::warn!("{failure}; the previously loaded files stay in use");
}

fn digests(approach: &Approach) -> Vec<(PathBuf, [u8; 32])> {
    let digest = |path: &PathBuf| {
        let hash = match files::read(path) {
            Ok(bytes) => Sha256::digest(bytes),
            Err(error) => Sha256::digest(error.to_string()),
        };
        (path.clone(), hash.into())
    };
    [&approach.ca, &approach.cert, &approach.key].into_iter().flatten().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::{self, dev};

    #[test]
    fn readable_files_are_reloaded_and_unreadable_files_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let ca = || dev::ephemeral(&[]).unwrap().ca.cert;
        fs::write(at("ca.pem"), ca()).unwrap();
        fs::write(at("token"), "one\n").unwrap();
        let approach = Approach {
            token_file: Some(at("token")),
            ca: Some(at("ca.pem")),
            cert: None,
            key: None,
            proxy: None,
        };
        let relays = vec![Uri::from_static("https://relay.test")];
        let token = approach.token().unwrap();
        let credentials = AgentCredentials::new(tls::client_config_for_none().unwrap(), token.clone());
        let mut reload = Reload::new(approach, relays, token);
        let mut changes = |credentials: &AgentCredentials| {
            let before = credentials.tls();
            reload.run(credentials);
            let token = credentials.token().unwrap().expose().to_owned();
            (!std::sync::Arc::ptr_eq(&before, &credentials.tls()), token)
        };
        assert_eq!(changes(&credentials), (false, "one".to_owned()));
        fs::write(at("ca.pem"), ca()).unwrap();
        fs::write(at("token"), "two words\n").unwrap();
        assert_eq!(changes(&credentials), (true, "one".to_owned()));
        fs::write(at("ca.pem"), "nothing").unwrap();
        fs::write(at("token"), "two\n").unwrap();
        assert_eq!(changes(&credentials), (false, "two".to_owned()));
        assert_eq!(changes(&credentials), (false, "two".to_owned()));
    }
}

//! The key that seals the URLs of polling agents. The key is stored, so that the URLs stay valid after a restart.

use std::path::Path;

use crate::tls::files::{self, FileError};

const FILE: &str = "seal-key";

/// The key in the state directory. A missing key is made, readable by its owner only. A file of another length is
/// replaced, which invalidates the URLs sealed with the old key.
pub(super) fn key(state: &Path) -> Result<[u8; 32], FileError> {
    let file = state.join(FILE);
    if file.exists() {
        if let Ok(key) = files::read_secret(&file)?.try_into() {
            return Ok(key);
        }
        tracing::warn!(
            file = %file.display(),
            "the seal key has a wrong length and is replaced; agents that poll must register again"
        );
    }
    let key = rand::random::<[u8; 32]>();
    files::replace(&file, 0o600, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_readable_by_its_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let first = key(state.path()).unwrap();
        assert_eq!(key(state.path()).unwrap(), first);
        let file = state.path().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, b"short").unwrap();
        assert_ne!(key(state.path()).unwrap(), first);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(key(state.path()).is_err(), "others may have written the key");
    }
}

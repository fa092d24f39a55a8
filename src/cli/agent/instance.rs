//! The identity of an agent process: random, or kept in its state directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::cli::Failure;
use crate::domain::Instance;
use crate::tls::files::{self, FileError};

/// The file with the kept identity: `ID;boot=N`, as in the header field.
const FILE: &str = "agent-instance";
/// Locked while a process uses the identity. This is a separate file, because [`FILE`] is replaced at each start.
const LOCK: &str = "agent-instance.lock";

/// Held while a process uses a kept identity. The system releases the lock when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock is held while the file is open")] File);

/// Locks the directory, loads its identity or makes a new identity, and counts this start.
pub(super) fn load_or_make(state: &Path) -> Result<(Instance, Lock), Failure> {
    let failed =
        |error: io::Error| Failure::failed(format!("cannot use --state {}: {error}", state.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    let mut options = OpenOptions::new();
    let lock = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state.join(LOCK))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::failed(format!(
                "another agent is running with --state {}; stop that agent, or choose another --state",
                state.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let file = state.join(FILE);
    let instance = match files::read(&file) {
        Ok(bytes) => next_start(&bytes).unwrap_or_else(|| {
            tracing::warn!(file = %file.display(), "the kept identity is damaged and is replaced");
            Instance::random()
        }),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Instance::random(),
        Err(error) => return Err(Failure::failed(error)),
    };
    files::replace(&file, 0o600, format!("{instance}\n").as_bytes()).map_err(Failure::failed)?;
    Ok((instance, Lock(lock)))
}

/// The stored identity with its count of starts raised by one; `None` if the stored identity is damaged.
fn next_start(stored: &[u8]) -> Option<Instance> {
    let last = Instance::parse(std::str::from_utf8(stored).ok()?.trim())?;
    Some(Instance { boot: last.boot.checked_add(1)?, ..last })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kept_identity_counts_its_starts() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("a/b");
        let (first, lock) = load_or_make(&deep).unwrap();
        drop(lock);
        let (second, _lock) = load_or_make(&deep).unwrap();
        assert_eq!((first.boot, second.boot), (1, 2));
        assert_eq!(first.id, second.id);
        assert_eq!(fs::read_to_string(deep.join(FILE)).unwrap(), format!("{second}\n"));
    }

    #[test]
    fn an_identity_is_used_by_one_process_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let (first, _lock) = load_or_make(state.path()).unwrap();
        let failure = load_or_make(state.path()).unwrap_err();
        assert!(failure.code == 1 && failure.message.contains("another agent"), "{failure}");
        assert_eq!(fs::read_to_string(state.path().join(FILE)).unwrap(), format!("{first}\n"));
    }

    #[test]
    fn a_damaged_identity_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        for damaged in ["", "a b;boot=1", "a;boot=18446744073709551615"] {
            fs::write(state.path().join(FILE), damaged).unwrap();
            let (instance, _lock) = load_or_make(state.path()).unwrap();
            assert_eq!((instance.boot, instance.id.len()), (1, 16), "{damaged:?}");
        }
    }

    #[test]
    fn two_processes_have_different_identities() {
        assert_ne!(Instance::random().id, Instance::random().id);
    }
}

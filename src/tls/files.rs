//! Files that hold secrets: made for the owner alone, and refused when others may write them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes: certificate chains, keys and tokens are far smaller.
const MOST: u64 = 1 << 20;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses the read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The system refuses the write.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A secret that others than its owner may have written.
    #[error("{path} may be written by others than its owner; chmod go-w {path}", path = .0.display())]
    Exposed(PathBuf),
    /// The file is far larger than a certificate, a key or a token.
    #[error("{} is larger than 1 MiB: is it the right file?", .0.display())]
    TooLarge(PathBuf),
}

/// Reads a small file.
///
/// # Errors
/// [`FileError`] when it cannot be read, or is larger than 1 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    contents(path, &File::open(path).map_err(|source| FileError::Read { path: path.into(), source })?)
}

/// Reads a small file that holds a secret. The permissions are checked on the very file that is read.
///
/// # Errors
/// As [`read`], and [`FileError::Exposed`] when its group or others may write it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o022 != 0 {
        return Err(FileError::Exposed(path.into()));
    }
    contents(path, &file)
}

fn contents(path: &Path, file: &File) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Read { path: path.into(), source })?;
    if bytes.len() as u64 > MOST { Err(FileError::TooLarge(path.into())) } else { Ok(bytes) }
}

/// Creates a file with this mode and syncs it to the disk. The file must not exist.
///
/// # Errors
/// [`FileError::Write`]; of the kind [`io::ErrorKind::AlreadyExists`] when it did exist.
pub fn create(path: &Path, mode: u32, contents: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(|source| FileError::Write { path: path.into(), source })
}

/// Replaces a file as a whole, or creates it, with this mode: after a crash the path holds the old file or the new one.
///
/// # Errors
/// [`FileError::Write`]; the old file stays then.
pub fn replace(path: &Path, mode: u32, contents: &[u8]) -> Result<(), FileError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        let mut file = builder.permissions(std::fs::Permissions::from_mode(mode)).tempfile_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| FileError::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        create(&path, 0o600, b"secret").unwrap();
        for (bits, safe) in [(0o600, true), (0o644, true), (0o620, false), (0o602, false), (0o666, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(read_secret(&path).is_ok(), safe, "{bits:o}");
        }
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-w") && !error.contains('\n'), "{error}");
        assert_eq!(read(&path).unwrap(), b"secret", "a file without a secret may be writable by others");
    }

    #[test]
    fn a_new_file_never_replaces_an_existing_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        create(&path, 0o600, b"first").unwrap();
        let error = create(&path, 0o600, b"second").unwrap_err();
        let exists = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
        assert!(matches!(&error, FileError::Write { source, .. } if exists(source)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for text in ["first", "second"] {
            replace(&path, 0o600, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_above_the_limit_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        File::create(&path).unwrap().set_len(MOST + 1).unwrap();
        assert!(matches!(read(&path), Err(FileError::TooLarge(_))));
        assert!(matches!(read(&directory.path().join("b")), Err(FileError::Read { .. })));
    }
}

//! The kept login: the relay, the token and the CA that `ptth login` writes, and that later commands use.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::agent::Approach;
use super::text::{FromText as _, RelayUrl};
use super::{Failure, state};
use crate::domain::Secret;
use crate::tls::files::{self, FileError};

/// The error of a command that needs a relay.
const NO_RELAY: &str = "no relay is known: 'ptth login https://RELAY' keeps a relay for all later commands, and --relay \
                        https://RELAY names a relay for one; a relay is the public side, which 'ptth relay' runs; 'ptth \
                        demo' needs no relay";

/// The files of a login, in a directory for the user alone.
struct LoginFiles {
    relay: PathBuf,
    token: PathBuf,
    ca: PathBuf,
}

impl LoginFiles {
    fn below(state: &Path) -> Self {
        let directory = state.join("login");
        let [relay, token, ca] = ["relay", "token", "ca.pem"].map(|name| directory.join(name));
        Self { relay, token, ca }
    }
}

/// Keeps a relay, its token and its CA, in place of an earlier login.
///
/// # Errors
/// [`Failure`] when a file cannot be written. Then there is no login.
pub(super) fn keep(relay: &RelayUrl, token: &Secret, ca: Option<&[u8]>) -> Result<PathBuf, Failure> {
    let state = state::directory(None)?;
    let directory = state.join("login");
    let failed = |path: &Path, error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map_err(|error| failed(&directory, error))?;
    let files = LoginFiles::below(&state);
    // The token must never be found beside the address of another relay: the address goes first and comes last.
    for file in [&files.relay, &files.ca] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(file, error)),
            _ => {}
        }
    }
    files::replace(&files.token, 0o600, format!("{}\n", token.expose()).as_bytes())
        .map_err(Failure::failed)?;
    if let Some(ca) = ca {
        files::replace(&files.ca, 0o600, ca).map_err(Failure::failed)?;
    }
    files::replace(&files.relay, 0o600, format!("{}\n", relay.0).as_bytes()).map_err(Failure::failed)?;
    Ok(directory)
}

/// The relays of a command. Without any in `given`, the relay of the login. If the only relay is that of the login, the
/// token and the CA of the login complete `approach` where they are not set.
///
/// # Errors
/// [`Failure`] when no relay is known, or when the login is damaged.
pub(super) fn complete(given: Vec<RelayUrl>, approach: &mut Approach) -> Result<Vec<RelayUrl>, Failure> {
    let login = match state::directory(None) {
        Ok(state) => load(&state)?,
        Err(_) => None,
    };
    let Some((relay, files)) = login.filter(|(relay, _)| given.iter().all(|given| given == relay)) else {
        return if given.is_empty() { Err(Failure::usage(NO_RELAY)) } else { Ok(given) };
    };
    if approach.token_file.is_none() && std::env::var_os("PTTH_TOKEN").is_none() {
        approach.token_file = Some(files.token);
    }
    if approach.ca.is_none() && files.ca.exists() {
        approach.ca = Some(files.ca);
    }
    Ok(vec![relay])
}

fn load(state: &Path) -> Result<Option<(RelayUrl, LoginFiles)>, Failure> {
    let files = LoginFiles::below(state);
    let text = match files::read_secret(&files.relay) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::usage(error)),
    };
    let relay = RelayUrl::from_text(&text).map_err(|error| {
        Failure::usage(format!(
            "{} is damaged ({error}): log in again with ptth login",
            files.relay.display()
        ))
    })?;
    Ok(Some((relay, files)))
}

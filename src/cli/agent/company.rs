//! Other agents on this machine that serve the same URL, as when the same command runs in a second terminal.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::cli::state;

/// How often an agent looks for another: a person sees the line about as soon as the new terminal has printed its own.
pub(super) const CHECK: Duration = Duration::from_secs(1);

/// The agents of one URL share a lock on a file, and each appends a byte when it starts.
pub(super) struct Company {
    file: File,
    /// The length of the file when this agent looked last.
    seen: u64,
}

impl Company {
    /// Joins the agents of `url`, and logs whether there are others. `None` if no person reads the log, or if the state
    /// directory cannot be used.
    pub(super) fn join(url: &str) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let joined = state::directory(None).ok().map(|state| Self::join_in(&state, url))?;
        let (company, others) = joined
            .inspect_err(|error| tracing::debug!(%error, "other agents of this URL are not noticed"))
            .ok()?;
        if others {
            tracing::warn!(
                "another agent on this machine serves {url} too, and the relay shares the requests between both; stop \
                 one, or start one with --exclusive"
            );
        }
        Some(company)
    }

    /// Also returns whether there are others.
    fn join_in(state: &Path, url: &str) -> io::Result<(Self, bool)> {
        let directory = state.join("serving");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut name = String::new();
        for byte in &Sha256::digest(url)[..8] {
            let _ = write!(name, "{byte:02x}");
        }
        let path = directory.join(name);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let alone = file.try_lock().is_ok();
        if alone {
            file.set_len(0)?;
            file.unlock()?;
        }
        file.lock_shared()?;
        file.write_all(b".")?;
        let seen = file.metadata()?.len();
        Ok((Self { file, seen }, !alone))
    }

    /// Logs that another agent has joined, once for each.
    pub(super) fn log_newcomer(&mut self) {
        if self.has_newcomer() {
            tracing::warn!(
                "another agent on this machine now serves the same URL, and the relay shares the requests between both"
            );
        }
    }

    fn has_newcomer(&mut self) -> bool {
        let length = self.file.metadata().map_or(self.seen, |about| about.len());
        std::mem::replace(&mut self.seen, length) < length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agents_of_a_url_notice_each_other() {
        let state = tempfile::tempdir().unwrap();
        let join = |url: &str| Company::join_in(state.path(), url).unwrap();
        let (mut first, others) = join("https://shop.test/");
        assert!(!others && !first.has_newcomer());
        let (_elsewhere, others) = join("https://other.test/");
        assert!(!others && !first.has_newcomer());
        let (mut second, others) = join("https://shop.test/");
        assert!(others && first.has_newcomer() && !first.has_newcomer() && !second.has_newcomer());
        drop((first, second));
        assert!(!join("https://shop.test/").1, "an agent that has ended is not noticed");
    }
}

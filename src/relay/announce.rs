//! Announces to the directory which routes this relay serves, for the other relays that share the directory.

use std::sync::Arc;

use crate::defaults;
use crate::domain::{Refusal, RefusalKind, Route};
use crate::net::{Cores, Scope};
use crate::registry::directory::{Announcement, Directory, DirectoryError, Generation, RelayId};

/// This relay, as a member of its directory.
#[derive(Clone)]
pub(super) struct Announcer {
    directory: Arc<dyn Directory>,
    relay: RelayId,
    scope: Scope,
    cores: Cores,
}

/// Why an announcement failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnnouncementError {
    /// An agent of another owner serves this route at another relay.
    Taken(Route),
    /// The directory did not answer, or not in time.
    Unreachable,
}

impl Announcer {
    pub(super) fn new(directory: Arc<dyn Directory>, scope: Scope, cores: Cores) -> Self {
        Self { directory, relay: RelayId::random(), scope, cores }
    }

    /// Announces routes that the registry has granted. Dropping the future may leave them announced until the directory
    /// ends this relay's membership.
    ///
    /// # Errors
    /// [`AnnouncementError`]
    pub(super) async fn announce(&self, announcement: Announcement) -> Result<Announced, AnnouncementError> {
        let claim = async {
            match self.directory.claim(&self.relay, &announcement).await {
                Err(DirectoryError::NotAMember) => {
                    self.directory.join(&self.relay).await?;
                    self.directory.claim(&self.relay, &announcement).await
                }
                claimed => claimed,
            }
        };
        match tokio::time::timeout(defaults::DIRECTORY, claim).await {
            Ok(Ok(generation)) => {
                Ok(Announced { announcer: self.clone(), routes: announcement.routes, generation })
            }
            Ok(Err(DirectoryError::Taken(route))) => Err(AnnouncementError::Taken(route)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the directory refused an announcement");
                Err(AnnouncementError::Unreachable)
            }
            Err(_) => {
                tracing::warn!(wait = ?defaults::DIRECTORY, "the directory did not answer in time");
                Err(AnnouncementError::Unreachable)
            }
        }
    }
}

impl AnnouncementError {
    /// The refusal for the agent. `taken` makes the refusal for a route of another owner.
    pub(super) fn refusal(self, taken: impl FnOnce(&Route) -> Refusal) -> Refusal {
        match self {
            Self::Taken(route) => taken(&route),
            Self::Unreachable => {
                let message =
                    "the relay cannot reach the directory that it shares with other relays; try again";
                let retry_after = Some(defaults::RETRY_AFTER);
                Refusal { retry_after, ..Refusal::new(RefusalKind::Full, message) }
            }
        }
    }
}

/// Announced routes. A drop withdraws the announcement in the background.
pub(super) struct Announced {
    announcer: Announcer,
    routes: Box<[Route]>,
    generation: Generation,
}

impl Drop for Announced {
    fn drop(&mut self) {
        let Announcer { directory, relay, scope, cores } = self.announcer.clone();
        let (routes, generation) = (std::mem::take(&mut self.routes), self.generation);
        scope.spawn_on(&cores.handle(0).clone(), async move {
            let released = directory.release(&relay, &routes, generation);
            match tokio::time::timeout(defaults::DIRECTORY, released).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an announcement could not be withdrawn"),
                Err(_) => tracing::warn!(
                    "an announcement could not be withdrawn: the directory did not answer in time"
                ),
            }
        });
    }
}

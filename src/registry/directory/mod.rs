//! Which relay serves which route, for all relays that share one domain. A claim is entered here after the relay's own
//! registry has granted it, and before the agent gets its answer. Look-ups for requests never use the directory.
//!
//! The only implementation is [`Memory`]: one process, whose relays share the value.

mod memory;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use memory::Memory;

use crate::domain::{AgentId, Route};

/// Identifies one run of one relay, among the relays that share a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub Arc<str>);

impl RelayId {
    /// An id for this run: 128 random bits.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Orders the claims of one directory: a later claim has the greater generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// The announcement of a relay.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The owner of the routes.
    pub owner: AgentId,
    /// The routes, which are claimed all or none.
    pub routes: Box<[Route]>,
    /// Whether the agent serves them exclusively: claims of the same owner at other relays end.
    pub exclusive: bool,
}

/// The new owner and relays of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The route.
    pub route: Route,
    /// The owner; `None` when no relay serves the route any more.
    pub owner: Option<AgentId>,
    /// The relays that serve it, each with its newest claim.
    pub at: Vec<(RelayId, Generation)>,
}

/// Why a call of the directory failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Another owner has this route at another relay.
    #[error("{0} belongs to another agent, at another relay")]
    Taken(Route),
    /// The relay has not joined, or its membership has ended.
    #[error("this relay is not a member of the directory")]
    NotAMember,
    /// The directory cannot be reached.
    #[error("the directory cannot be reached: {0}")]
    Unreachable(String),
}

/// See the module. If a future is dropped, its call may have had an effect or not.
pub trait Directory: Send + Sync + 'static {
    /// Makes a relay a member. A member that joins again keeps its announcements.
    ///
    /// # Errors
    /// [`DirectoryError::Unreachable`]
    fn join<'a>(&'a self, relay: &'a RelayId) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// Enters routes that the relay's own registry has granted. They replace the claims of an earlier owner at the same
    /// relay.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing has changed then.
    fn claim<'a>(
        &'a self,
        relay: &'a RelayId,
        announcement: &'a Announcement,
    ) -> BoxFuture<'a, Result<Generation, DirectoryError>>;

    /// Ends one claim. A relay serves a route until each of its claims has ended; an unknown claim is ignored.
    ///
    /// # Errors
    /// [`DirectoryError`]
    fn release<'a>(
        &'a self,
        relay: &'a RelayId,
        routes: &'a [Route],
        generation: Generation,
    ) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// The changes from now on, in the order of their generations. The stream ends when the reader is too far behind;
    /// the reader then has to read everything anew.
    fn watch(&self) -> BoxStream<'static, Change>;
}

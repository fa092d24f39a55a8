//! Which relay serves which route, for all relays that share one domain. A claim goes here after this relay's own table
//! has granted it, and before the agent gets its answer; a look-up never does.
//!
//! The only engine today is [`Memory`]: one process, whose relays share the value.

mod memory;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use memory::Memory;

use crate::domain::{AgentId, Route};

/// Names one run of one relay among those that share a directory.
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

/// What a relay announces.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// Whose the routes are.
    pub owner: AgentId,
    /// All of them, or none, are claimed.
    pub routes: Box<[Route]>,
    /// The agent has them for itself alone: claims of the same owner at other relays end.
    pub exclusive: bool,
}

/// One route has changed: who serves it from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The route.
    pub route: Route,
    /// Whose it is; `None` when no relay serves it any more.
    pub owner: Option<AgentId>,
    /// The relays that serve it, each with its newest claim.
    pub at: Vec<(RelayId, Generation)>,
}

/// Why the directory did not do as it was asked.
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

/// See the module. Dropping a future leaves it open whether its call had an effect.
pub trait Directory: Send + Sync + 'static {
    /// Makes a relay a member. A member that joins again keeps what it has announced.
    ///
    /// # Errors
    /// [`DirectoryError::Unreachable`]
    fn join<'a>(&'a self, relay: &'a RelayId) -> BoxFuture<'a, Result<(), DirectoryError>>;

    /// Enters routes that the relay's own registry has granted. What an earlier owner had at the same relay is replaced.
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

    /// The changes from now on, in the order of their generations. Ends when the reader is too far behind; it then has to
    /// read everything anew.
    fn watch(&self) -> BoxStream<'static, Change>;
}

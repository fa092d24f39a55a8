//! Live links between a relay and an agent. The modules `send` are the relay's end, the modules `serve` the agent's.

mod answer_fault;
pub mod carrier;
pub mod envelope;
pub mod h1;
pub mod h2;
pub mod handler;
mod in_flight;
mod load;
mod pool;
mod recent;

/// The atomics of [`in_flight`]. Its test in tests/models.rs uses those of loom instead.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use h2::ReceiveBudget;

pub use answer_fault::AnswerFault;
pub use carrier::{HeldSlot, Kind, Link, SendError, SendErrorKind, Slot};
pub use handler::{Handler, handler_fn};
pub use load::{Load, Loaded};
pub use pool::{Session, WaitingPlace};
pub use recent::Recent;

/// The core that drives a link.
pub use crate::net::Core;

use crate::message::BoxError;
use crate::net::{Io, Scope};

/// The future that drives the connection of a link. It resolves when the connection has ended.
pub type Driver = BoxFuture<'static, ()>;

/// Opens the relay's end of a flipped connection. Returns a carrier, and the future that drives the connection.
///
/// # Errors
/// When the connection breaks at once.
pub async fn send_half(
    io: Io,
    kind: Kind,
    scope: &Scope,
    budget: &Arc<ReceiveBudget>,
) -> Result<(Box<dyn carrier::Carrier>, Driver), BoxError> {
    match kind {
        Kind::H1 => Ok(h1::send::open(io, scope, budget.observer())),
        Kind::H2 => Ok(h2::send::open(io, scope, budget).await?),
        Kind::Envelope => Err("envelopes do not run on a flipped connection".into()),
    }
}

/// How a link ended, at the agent's end.
#[derive(Debug)]
pub enum Ended {
    /// The relay closed the link, or both ends agreed to close it.
    Closed,
    /// The connection was upgraded, and lives on with another protocol.
    Upgraded,
    /// The connection broke, or the far end sent nothing for too long.
    Failed(String),
}

/// The agent's end: serves the relay's requests until the link ends. When `scope` stops, requests in flight finish
/// first. Dropping the future cuts the connection.
pub async fn serve_half(
    io: Io,
    kind: Kind,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    budget: Arc<ReceiveBudget>,
    scope: Scope,
) -> Ended {
    match kind {
        Kind::H1 => h1::serve::run(io, handler, load, scope).await,
        Kind::H2 => h2::serve::run(io, handler, load, budget, scope).await,
        Kind::Envelope => Ended::Failed("envelopes do not run on a flipped connection".into()),
    }
}

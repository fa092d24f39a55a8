//! Live links between a relay and an agent. `send` is the relay's end, `serve` the agent's.

pub mod carrier;
pub mod envelope;
pub mod h1;
pub mod h2;
pub mod handler;
mod in_flight;
mod load;
mod pool;

/// What [`in_flight`] takes its atomics from; its test has others in their place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use h2::Windows;

pub use carrier::{HeldSlot, Kind, Link, SendError, SendErrorKind, Slot};
pub use handler::{Handler, handler_fn};
pub use load::{Load, Loaded};
pub use pool::{Session, WaitingPlace};

/// The core that drives a link.
pub use crate::net::Core;

use crate::message::BoxError;
use crate::net::{Io, Scope};

/// What must be polled for a link to live; resolves when the connection has ended.
pub type Driver = BoxFuture<'static, ()>;

/// The relay's end of a fresh flip: a carrier, and the future that drives its connection.
///
/// # Errors
/// When the connection breaks at once.
pub async fn send_half(
    io: Io,
    kind: Kind,
    scope: &Scope,
    windows: &Arc<Windows>,
) -> Result<(Box<dyn carrier::Carrier>, Driver), BoxError> {
    match kind {
        Kind::H1 => Ok(h1::send::open(io, scope, windows.metrics())),
        Kind::H2 => Ok(h2::send::open(io, scope, windows).await?),
        Kind::Envelope => Err("envelopes do not run on a flipped connection".into()),
    }
}

/// How a link ended, at the agent's end.
#[derive(Debug)]
pub enum Ended {
    /// The relay closed it, or both agreed to.
    Closed,
    /// It became another protocol, and lives on as that.
    Upgraded,
    /// It broke, or the far end was silent for too long.
    Failed(String),
}

/// The agent's end: serves what the relay sends until the link ends. When `scope` stops, what is in flight
/// finishes first. Dropping the future cuts the connection.
pub async fn serve_half(
    io: Io,
    kind: Kind,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    windows: Arc<Windows>,
    scope: Scope,
) -> Ended {
    match kind {
        Kind::H1 => h1::serve::run(io, handler, load, scope).await,
        Kind::H2 => h2::serve::run(io, handler, load, windows, scope).await,
        Kind::Envelope => Ended::Failed("envelopes do not run on a flipped connection".into()),
    }
}

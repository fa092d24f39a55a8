//! The sources of information for an operator: the record of each request, the access log, counters, and the pages of
//! the admin listener.

#[cfg(feature = "cli")]
pub mod access;
#[cfg(feature = "relay")]
pub mod admin;
pub mod exchange;
#[cfg(feature = "cli")]
mod json;
#[cfg(feature = "relay")]
mod limit_counters;
mod limits;
#[cfg(feature = "relay")]
pub mod metrics;

#[cfg(feature = "cli")]
pub use access::AccessLog;
pub use exchange::{Exchange, Observers, Recording, RequestId, Sink};
pub use limits::{Limit, LimitObserver};
#[cfg(feature = "relay")]
pub use metrics::Metrics;

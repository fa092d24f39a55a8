//! The sources of information for an operator: the record of each request, the access log, counters, and the pages of
//! the admin listener.

pub mod access;
pub mod admin;
pub mod exchange;
mod json;
mod limits;
pub mod metrics;

pub use access::AccessLog;
pub use exchange::{Exchange, Observers, Recording, RequestId, Sink};
pub use limits::Limit;
pub use metrics::Metrics;

//! What an operator can see: counters, and the pages of the admin listener.

pub mod admin;
mod limits;
pub mod metrics;

pub use limits::Limit;
pub use metrics::Metrics;

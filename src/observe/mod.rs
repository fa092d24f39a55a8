//! What an operator can see: counters, and the pages of the admin listener.

pub mod admin;
pub mod metrics;

pub use metrics::Metrics;

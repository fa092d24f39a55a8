//! Live links between a relay and an agent: what sends requests down one, what serves them at the other end.

pub mod handler;

pub use handler::{Handler, handler_fn};

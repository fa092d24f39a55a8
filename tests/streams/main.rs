//! Streams that belong to a transport before any request: by their ALPN id, or by the listener that they came to. The
//! transport is this suite's own, and the relay gets it from its configuration.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod certificates;
mod limits;
mod line;
#[expect(dead_code, unused_imports, reason = "each suite uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod ways;
mod world;

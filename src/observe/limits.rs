//! The limits whose effect is counted.

use std::fmt::{Debug, Display};

/// Counts how often each limit was reached.
pub trait LimitObserver: Debug + Send + Sync {
    /// A limit took effect on `by`, which is an address or an agent.
    fn reached(&self, limit: Limit, by: &dyn Display);
}

/// The limits that are counted here. A refused request is not among them: it is counted by the reason for its refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Public connections in all.
    Connections,
    /// Public connections from one address.
    ConnectionsPerAddress,
    /// The time for a handshake.
    Handshake,
    /// The time for the head of a request, or between two requests on a connection, over HTTP/1.1.
    Head,
    /// The bytes of a request's head, or the number of its fields over HTTP/1.1.
    Fields,
    /// Concurrent streams on one HTTP/2 connection of a visitor: at the limit, a further stream is refused.
    Streams,
    /// Streams that a visitor opened and reset at once, or made the relay reset.
    Resets,
    /// The time without a request on an HTTP/2 connection of a visitor, or without an answer to a PING.
    Idle,
    /// The memory for data that is not read yet: streams get smaller windows.
    Buffers,
    /// The memory for large request heads in flight: a request is refused.
    Heads,
    /// The pace at which a visitor must read or send while other requests wait for its agent's connection.
    Pace,
}

//! The limits whose effect is counted.

use std::fmt::{Debug, Display};

/// Counts how often each limit was reached.
pub trait LimitObserver: Debug + Send + Sync {
    /// A limit took effect on `by`: an address, an agent.
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
    /// The pace at which a visitor must read or send while other requests wait for its agent's connection.
    Pace,
}

#[cfg(feature = "relay")]
impl Limit {
    pub(super) const ALL: [Self; 10] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Handshake,
        Self::Head,
        Self::Fields,
        Self::Streams,
        Self::Resets,
        Self::Idle,
        Self::Buffers,
        Self::Pace,
    ];

    /// Whether well-behaved connections reach the limit all the time.
    pub(super) const fn is_routine(self) -> bool {
        matches!(self, Self::Head | Self::Idle)
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections-per-address",
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Fields => "fields",
            Self::Streams => "streams",
            Self::Resets => "resets",
            Self::Idle => "idle",
            Self::Buffers => "buffers",
            Self::Pace => "pace",
        }
    }
}

#[cfg(all(test, feature = "relay"))]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_index_and_label() {
        let names: std::collections::HashSet<_> = Limit::ALL.iter().map(|limit| limit.label()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        assert!(Limit::ALL.iter().enumerate().all(|(place, limit)| place == *limit as usize));
    }
}

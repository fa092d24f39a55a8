//! Counts limits that were reached, and logs them so seldom that a flood of connections does not flood the log.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use super::limits::Limit;

/// The least time between two log lines about one limit.
const QUIET: Duration = Duration::from_secs(10);

impl Limit {
    const ALL: [Self; 10] = [
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
    const fn is_routine(self) -> bool {
        matches!(self, Self::Head | Self::Idle)
    }

    const fn label(self) -> &'static str {
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Label {
    limit: &'static str,
}

/// Counts how often each limit was reached.
pub(super) struct LimitCounters {
    born: Instant,
    each: [Reached; Limit::ALL.len()],
}

struct Reached {
    count: Counter,
    /// The time of the next log line at the earliest, in milliseconds since `born`.
    quiet_until: AtomicU64,
    /// How often the limit was reached since the last log line.
    unsaid: AtomicU64,
}

impl LimitCounters {
    pub(super) fn new(family: &Family<Label, Counter>) -> Self {
        let each = Limit::ALL.map(|limit| {
            let count = family.get_or_create(&Label { limit: limit.label() }).clone();
            Reached { count, quiet_until: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
        });
        Self { born: Instant::now(), each }
    }

    pub(super) fn reached(&self, limit: Limit, by: &dyn Display) {
        let reached = &self.each[limit as usize];
        reached.count.inc();
        if limit.is_routine() {
            return tracing::debug!(limit = limit.label(), %by, "a limit was reached");
        }
        let now = self.born.elapsed().as_millis() as u64;
        let times = reached.unsaid.fetch_add(1, Ordering::Relaxed) + 1;
        let until = reached.quiet_until.load(Ordering::Relaxed);
        let next = now + QUIET.as_millis() as u64;
        let speaks = |until| {
            let relaxed = Ordering::Relaxed;
            now >= until && reached.quiet_until.compare_exchange(until, next, relaxed, relaxed).is_ok()
        };
        if speaks(until) {
            reached.unsaid.store(0, Ordering::Relaxed);
            tracing::warn!(limit = limit.label(), %by, times, "a limit was reached");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_index_and_label() {
        let names: std::collections::HashSet<_> = Limit::ALL.iter().map(|limit| limit.label()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        assert!(Limit::ALL.iter().enumerate().all(|(place, limit)| place == *limit as usize));
    }
}

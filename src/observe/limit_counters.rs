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
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Limit {
    const ALL: [Self; 11] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Handshake,
        Self::Head,
        Self::Fields,
        Self::Streams,
        Self::Resets,
        Self::Idle,
        Self::Buffers,
        Self::Heads,
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
            Self::Heads => "heads",
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
    started: Instant,
    counters: [LimitCounter; Limit::ALL.len()],
}

struct LimitCounter {
    count: Counter,
    /// The time of the next log line at the earliest, in milliseconds since `started`.
    next_log: AtomicU64,
    /// How often the limit was reached since the last log line.
    unlogged: AtomicU64,
}

impl LimitCounters {
    pub(super) fn new(family: &Family<Label, Counter>) -> Self {
        let counters = Limit::ALL.map(|limit| {
            let count = family.get_or_create(&Label { limit: limit.label() }).clone();
            LimitCounter { count, next_log: AtomicU64::new(0), unlogged: AtomicU64::new(0) }
        });
        Self { started: Instant::now(), counters }
    }

    pub(super) fn reached(&self, limit: Limit, by: &dyn Display) {
        let counter = &self.counters[limit as usize];
        counter.count.inc();
        if limit.is_routine() {
            return tracing::debug!(limit = limit.label(), %by, "a limit was reached");
        }
        let now = self.started.elapsed().as_millis() as u64;
        let times = counter.unlogged.fetch_add(1, Ordering::Relaxed) + 1;
        let until = counter.next_log.load(Ordering::Relaxed);
        let next = now + LOG_INTERVAL.as_millis() as u64;
        let may_log = |until| {
            let relaxed = Ordering::Relaxed;
            now >= until && counter.next_log.compare_exchange(until, next, relaxed, relaxed).is_ok()
        };
        if may_log(until) {
            counter.unlogged.store(0, Ordering::Relaxed);
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
        assert!(Limit::ALL.iter().enumerate().all(|(index, limit)| index == *limit as usize));
    }
}

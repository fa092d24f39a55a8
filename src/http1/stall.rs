//! Measures the pace of the exchange on a connection, and detects whether a slow visitor holds up the exchange. Over
//! HTTP/1.1 a visitor that sends or reads byte by byte occupies a whole connection of the agent, and the agent has few.
//! While other requests wait for a connection, the exchange of such a visitor must end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::time::Instant;

use crate::defaults;

/// See the module.
#[derive(Debug)]
pub struct StallDetector {
    born: Instant,
    /// When the measurement began, in milliseconds since `born`.
    since: AtomicU64,
    /// Bytes in both directions since then.
    bytes: AtomicU64,
    /// The exchange waits for the visitor to send more of its upload.
    awaits_upload: AtomicBool,
    /// The agent has sent bytes of its answer, and the exchange waits for the visitor to read them.
    awaits_reader: AtomicBool,
    /// At some time since then, the visitor had taken all bytes that had arrived.
    caught_up: AtomicBool,
}

impl StallDetector {
    /// A detector for one connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            since: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            awaits_upload: AtomicBool::new(false),
            awaits_reader: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// Starts the measurement for a request on the connection.
    pub fn begin(&self) {
        self.awaits_upload.store(false, Ordering::Relaxed);
        self.awaits_reader.store(false, Ordering::Relaxed);
        self.count_from(self.now());
    }

    fn count_from(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.caught_up.store(false, Ordering::Relaxed);
    }

    /// Records a read of the connection: the number of bytes, 0 at the end of the stream.
    pub fn read(&self, read: Poll<usize>) {
        // A reader that got bytes and does not read on waits for the visitor. After the end there is nothing to read.
        let more = matches!(read, Poll::Ready(1..));
        self.awaits_reader.store(more, Ordering::Relaxed);
        match read {
            Poll::Ready(bytes) => self.add_bytes(bytes),
            Poll::Pending => self.caught_up.store(true, Ordering::Relaxed),
        }
    }

    /// Records the number of bytes that were written.
    pub fn wrote(&self, bytes: usize) {
        self.add_bytes(bytes);
    }

    /// Records whether the exchange waits for the visitor to send more of its upload.
    pub fn uploads(&self, waits: bool) {
        self.awaits_upload.store(waits, Ordering::Relaxed);
    }

    fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the exchange has been too slow for a while, and waits for the visitor, not for the agent. The
    /// measurement restarts when the exchange was fast enough or the visitor has kept up with the answer, because
    /// either may change later.
    pub fn is_held_up(&self) -> bool {
        let now = self.now();
        let since = now.saturating_sub(self.since.load(Ordering::Relaxed));
        if since < defaults::PACE_WITHIN.as_millis() as u64 {
            return false;
        }
        let slow = self.bytes.load(Ordering::Relaxed) < defaults::PACE * since / 1_000;
        if slow && self.awaits_upload.load(Ordering::Relaxed) {
            return true;
        }
        if !slow || self.caught_up.load(Ordering::Relaxed) {
            self.count_from(now);
            return false;
        }
        self.awaits_reader.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_sends_byte_by_byte_counts_as_stalled() {
        let stall = StallDetector::new();
        stall.begin();
        for second in 0..20 {
            assert_eq!(stall.is_held_up(), second >= 3, "after {second} s");
            stall.awaits_upload.store(true, Ordering::Relaxed);
            stall.add_bytes(1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        stall.begin();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up(), "the request waits for the agent");
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_burst_does_not_hide_a_later_stall() {
        let stall = StallDetector::new();
        stall.begin();
        stall.add_bytes(1 << 30);
        stall.awaits_reader.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up());
        tokio::time::advance(defaults::PACE_WITHIN).await;
        assert!(stall.is_held_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pending_read_waits_for_the_agent_and_no_read_for_the_visitor() {
        let stall = StallDetector::new();
        stall.begin();
        stall.read(Poll::Ready(1));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(stall.is_held_up());
        stall.read(Poll::Pending);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!stall.is_held_up());
        // The answer is an event every few seconds. At each check the visitor has taken the previous event.
        for _ in 0..5 {
            stall.read(Poll::Ready(1));
            assert!(!stall.is_held_up());
            stall.read(Poll::Pending);
            tokio::time::advance(Duration::from_secs(4)).await;
            assert!(!stall.is_held_up());
        }
        stall.read(Poll::Ready(0));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up() && !stall.is_held_up(), "no more bytes follow");
    }
}

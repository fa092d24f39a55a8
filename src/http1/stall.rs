//! How fast the exchange on a connection moves, and whether a slow visitor holds it up. On HTTP/1.1 a visitor that sends
//! or reads byte by byte holds a whole connection of the agent, of which there are few; while others wait for one, such
//! a visitor has to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::time::Instant;

use crate::defaults;

/// See the module.
#[derive(Debug)]
pub struct StallDetector {
    born: Instant,
    /// When what is counted began, in milliseconds since `born`.
    since: AtomicU64,
    /// In both directions since then.
    bytes: AtomicU64,
    /// The visitor is to send more of its upload.
    sending: AtomicBool,
    /// The agent has sent something of its answer, and the visitor is to take it.
    taking: AtomicBool,
    /// All that had come was taken, at some time since then.
    taken: AtomicBool,
}

impl StallDetector {
    /// A detector for one connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            since: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sending: AtomicBool::new(false),
            taking: AtomicBool::new(false),
            taken: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// A request goes on the connection.
    pub fn begin(&self) {
        self.sending.store(false, Ordering::Relaxed);
        self.taking.store(false, Ordering::Relaxed);
        self.count_from(self.now());
    }

    fn count_from(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Relaxed);
    }

    /// The connection was read: so many bytes came, 0 at its end.
    pub fn read(&self, read: Poll<usize>) {
        // Who has read and does not read on waits for the visitor. Behind the end there is nothing to read.
        let more = matches!(read, Poll::Ready(1..));
        self.taking.store(more, Ordering::Relaxed);
        match read {
            Poll::Ready(bytes) => self.moved(bytes),
            Poll::Pending => self.taken.store(true, Ordering::Relaxed),
        }
    }

    /// So many bytes were written.
    pub fn wrote(&self, bytes: usize) {
        self.moved(bytes);
    }

    /// Whether the visitor is to send more of its upload.
    pub fn uploads(&self, waits: bool) {
        self.sending.store(waits, Ordering::Relaxed);
    }

    fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether it has been too slow for a while, and the agent is not what it waits for. What was fast until now, and
    /// what the visitor has kept up with, is counted anew: it may have been so at first alone.
    pub fn is_held_up(&self) -> bool {
        let now = self.now();
        let since = now.saturating_sub(self.since.load(Ordering::Relaxed));
        if since < defaults::PACE_WITHIN.as_millis() as u64 {
            return false;
        }
        let slow = self.bytes.load(Ordering::Relaxed) < defaults::PACE * since / 1_000;
        if slow && self.sending.load(Ordering::Relaxed) {
            return true;
        }
        if !slow || self.taken.load(Ordering::Relaxed) {
            self.count_from(now);
            return false;
        }
        self.taking.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_sends_byte_by_byte_holds_it_up() {
        let stall = StallDetector::new();
        stall.begin();
        for second in 0..20 {
            assert_eq!(stall.is_held_up(), second >= 3, "after {second} s");
            stall.sending.store(true, Ordering::Relaxed);
            stall.moved(1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        stall.begin();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up(), "the agent is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fast_at_first_is_slow_in_the_end() {
        let stall = StallDetector::new();
        stall.begin();
        stall.moved(1 << 30);
        stall.taking.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up());
        tokio::time::advance(defaults::PACE_WITHIN).await;
        assert!(stall.is_held_up());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_on_waits_for_the_agent_and_who_does_not_for_the_visitor() {
        let stall = StallDetector::new();
        stall.begin();
        stall.read(Poll::Ready(1));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(stall.is_held_up());
        stall.read(Poll::Pending);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!stall.is_held_up());
        // An event every few seconds: whenever one looks, the visitor has taken the one before.
        for _ in 0..5 {
            stall.read(Poll::Ready(1));
            assert!(!stall.is_held_up());
            stall.read(Poll::Pending);
            tokio::time::advance(Duration::from_secs(4)).await;
            assert!(!stall.is_held_up());
        }
        stall.read(Poll::Ready(0));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!stall.is_held_up() && !stall.is_held_up(), "nothing more comes");
    }
}

//! How busy one link is, at the agent's end: what decides whether another is opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::net::flag::{Flag, Listener};

/// The requests of one link, and what is known of its end.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    served: AtomicBool,
    idle_since: AtomicU64,
    born: Instant,
    changed: Arc<Notify>,
    alarm: AtomicUsize,
    retire: Arc<Flag>,
}

impl Load {
    /// A fresh link. `changed` is notified when something happened that may call for another link, or for fewer.
    pub fn new(changed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            served: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            born: Instant::now(),
            changed,
            alarm: AtomicUsize::new(0),
            retire: Arc::default(),
        })
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a request ever came.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// For how long nothing has been in flight; zero while something is.
    pub fn idle_for(&self) -> Duration {
        match self.in_flight() {
            0 => self
                .born
                .elapsed()
                .saturating_sub(Duration::from_millis(self.idle_since.load(Ordering::Relaxed))),
            _ => Duration::ZERO,
        }
    }

    /// Since the link stands.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// The relay has said that it goes, or the link is to be retired: it counts no more.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The far end sends no more requests.
    pub fn leave(&self) {
        if !self.leaving.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Asks the link to end once nothing is in flight.
    pub fn retire(&self) {
        self.leave();
        self.retire.raise();
    }

    /// Resolves when the link was asked to end. Cancel safe.
    pub fn retired(&self) -> Listener {
        self.retire.listen()
    }

    /// Says with how many requests in flight one more is worth a look; `None` for never.
    pub fn set_alarm(&self, at: Option<usize>) {
        self.alarm.store(at.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Counts one request until the guard goes.
    pub fn enter(self: &Arc<Self>) -> Loaded {
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        if !self.has_served() {
            self.served.store(true, Ordering::Relaxed);
        }
        if before == self.alarm.load(Ordering::Relaxed) {
            self.changed.notify_one();
        }
        Loaded(self.clone())
    }
}

/// One request that counts. See [`Load::enter`].
#[derive(Debug)]
pub struct Loaded(Arc<Load>);

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle_since.store(self.0.born.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn age_and_idle_time_follow_the_clock_of_the_runtime() {
        let load = Load::new(Arc::default());
        let minute = Duration::from_secs(60);
        tokio::time::advance(minute).await;
        drop(load.enter());
        tokio::time::advance(minute).await;
        assert_eq!((load.age(), load.idle_for()), (2 * minute, minute));
    }
}

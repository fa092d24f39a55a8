//! The load of one link, at the agent's end. The load decides whether the agent opens another link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::net::flag::{Flag, Listener};

/// The requests of one link, and whether the link is about to end.
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
    /// The load of a new link. `changed` is notified when the agent may need more links, or fewer.
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

    /// Whether the link has received a request.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// How long no request has been in flight; zero while a request is in flight.
    pub fn idle_for(&self) -> Duration {
        match self.in_flight() {
            0 => self
                .born
                .elapsed()
                .saturating_sub(Duration::from_millis(self.idle_since.load(Ordering::Relaxed))),
            _ => Duration::ZERO,
        }
    }

    /// How long the link has existed.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Whether the link takes no more requests: the relay has announced that it sends none, or the link is to be
    /// retired.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Notes that the far end sends no more requests.
    pub fn leave(&self) {
        if !self.leaving.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Makes the link end once no request is in flight.
    pub fn retire(&self) {
        self.leave();
        self.retire.raise();
    }

    /// Resolves when the link is to end. Cancel safe.
    pub fn retired(&self) -> Listener {
        self.retire.listen()
    }

    /// Sets the alarm: with `at` requests in flight, the next request notifies `changed`. `None` disables the alarm.
    pub fn set_alarm(&self, at: Option<usize>) {
        self.alarm.store(at.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Counts one request until the guard is dropped.
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

/// One request that is counted. See [`Load::enter`].
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

//! A limit per second, with a burst of one second's worth.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A bucket that fills at a rate and holds one second's worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f64,
    updated: Instant,
}

impl Bucket {
    pub(super) fn full(rate: NonZeroU32, now: Instant) -> Self {
        Self { left: f64::from(rate.get()), updated: now }
    }

    fn fill(&mut self, rate: f64, now: Instant) {
        self.left = (self.left + now.saturating_duration_since(self.updated).as_secs_f64() * rate).min(rate);
        self.updated = now;
    }

    /// Takes one unit. If the bucket is empty, returns the time until it has one again.
    pub(super) fn take(&mut self, rate: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(rate.get());
        self.fill(rate, now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) / rate))
    }

    /// Whether the bucket is full again, and so equal to a new one.
    pub(super) fn is_full(&mut self, rate: NonZeroU32, now: Instant) -> bool {
        let rate = f64::from(rate.get());
        self.fill(rate, now);
        self.left >= rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_and_then_the_rate_applies() {
        let (rate, start) = (NonZeroU32::new(10).unwrap(), Instant::now());
        let mut bucket = Bucket::full(rate, start);
        assert_eq!((0..20).filter(|_| bucket.take(rate, start).is_ok()).count(), 10);
        let wait = bucket.take(rate, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(rate, start + wait).is_ok() && bucket.take(rate, start + wait).is_err());
        let later = start + Duration::from_secs(1000);
        assert_eq!((0..20).filter(|_| bucket.take(rate, later).is_ok()).count(), 10, "it does not save up");
        assert!(!bucket.is_full(rate, later) && bucket.is_full(rate, later + Duration::from_secs(1)));
    }
}

//! The wait before the next attempt to reach a relay: exponential with full jitter, so that a thousand agents do not
//! reconnect at the same moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::defaults;

/// The waits of one outage.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    refusals: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// Ends the outage: the next failure starts from the first wait.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The wait after one more failure: at least the `Retry-After` of the relay, up to [`defaults::RETRY_AFTER_MOST`].
    pub(super) fn failed(&mut self, retry_after: Option<Duration>) -> Duration {
        let since = *self.since.get_or_insert_with(Instant::now);
        let limit = match since.elapsed() < defaults::OUTAGE_LONG {
            true => defaults::BACKOFF_MOST,
            false => defaults::BACKOFF_LONG,
        };
        let ceiling = defaults::BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(limit);
        self.failures += 1;
        let requested = retry_after.unwrap_or_default().min(defaults::RETRY_AFTER_MOST);
        requested + ceiling.mul_f64(rand::random())
    }

    /// The wait after one more refusal by a relay, while other relays do not refuse.
    pub(super) fn refused(&mut self) -> Duration {
        let ceiling = defaults::REFUSED_FIRST.saturating_mul(1 << self.refusals.min(16));
        self.refusals += 1;
        ceiling.min(defaults::REFUSED_MOST).mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_cap_and_are_reset() {
        let mut backoff = Backoff::default();
        for round in 0..200 {
            let ceiling = defaults::BACKOFF_FIRST * (1 << round.min(10));
            assert!(backoff.failed(None) <= ceiling.min(defaults::BACKOFF_MOST));
        }
        tokio::time::advance(defaults::OUTAGE_LONG).await;
        let longest = (0..200).map(|_| backoff.failed(None)).max().unwrap();
        assert!(longest > defaults::BACKOFF_MOST && longest <= defaults::BACKOFF_LONG, "{longest:?}");
        backoff.reset();
        assert!(backoff.failed(None) <= defaults::BACKOFF_FIRST);
    }

    #[test]
    fn retry_after_lengthens_the_wait_up_to_a_limit() {
        let mut backoff = Backoff::default();
        assert!(backoff.failed(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert!(backoff.failed(Some(Duration::MAX)) <= defaults::RETRY_AFTER_MOST + defaults::BACKOFF_MOST);
    }
}

//! How long polls may be held. A box cuts a connection that is silent for too long. Each box has a limit of its own,
//! and no box announces its limit: the limit is learned from the polls that are cut.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;

/// The longest hold that is not known to be cut.
pub(in crate::transport) struct Hold {
    most: Duration,
    state: Mutex<HoldState>,
}

struct HoldState {
    current: Duration,
    /// Polls in a row that lasted for their whole hold.
    lasted: u32,
    /// How many such polls it takes before a longer hold is tried.
    needed: u32,
    last_broken: Option<BrokenPoll>,
}

/// The last poll whose connection broke.
struct BrokenPoll {
    at: Instant,
    age: Duration,
    /// How many polls in a row broke at about this age, this poll included.
    count: u32,
}

impl Hold {
    /// No poll was cut yet: the hold is `most`.
    pub(in crate::transport) fn new(most: Duration) -> Self {
        Self {
            most,
            state: Mutex::new(HoldState {
                current: most,
                lasted: 0,
                needed: defaults::POLL_HOLDS,
                last_broken: None,
            }),
        }
    }

    /// How long the next poll is to be held.
    pub(in crate::transport) fn current(&self) -> Duration {
        self.state.lock().current
    }

    /// Records that polls are cut at this age. Returns whether the hold became shorter.
    fn record_cut(&self, age: Duration) -> bool {
        let mut state = self.state.lock();
        state.lasted = 0;
        let shorter = whole_seconds(age * 2 / 3).max(defaults::POLL_HOLD_LEAST);
        if shorter >= state.current {
            return false;
        }
        state.current = shorter;
        state.needed = (state.needed * 2).min(defaults::POLL_HOLDS_MOST);
        true
    }

    /// Records a poll that broke at this age. Restarts of the relay and closed pages break polls at various ages; a box
    /// cuts polls at the same age each time. So `threshold` polls in a row that break at one age count as cut. Returns
    /// whether the hold became shorter.
    pub(in crate::transport) fn record_break(&self, age: Duration, threshold: u32) -> bool {
        if age < defaults::POLL_CUT {
            return false;
        }
        let count = {
            let mut state = self.state.lock();
            let count = match &state.last_broken {
                // Polls that break together, as those of a page do, count once.
                Some(last) if last.at.elapsed() < defaults::POLL_CUT => return false,
                Some(last) if last.age.abs_diff(age) <= age / 10 => last.count + 1,
                _ => 1,
            };
            state.last_broken = Some(BrokenPoll { at: Instant::now(), age, count });
            count
        };
        count >= threshold && self.record_cut(age)
    }

    /// Records a poll that was held to its end, for `held`.
    pub(in crate::transport) fn record_lasted(&self, held: Duration) {
        let mut state = self.state.lock();
        if state.current == self.most || held < state.current {
            return;
        }
        state.lasted += 1;
        if state.lasted >= state.needed {
            state.lasted = 0;
            let step = whole_seconds(state.current / 4).max(Duration::from_secs(1));
            state.current = (state.current + step).min(self.most);
        }
    }

    /// Begins to measure a poll of an agent that cannot set its hold. A measurement that is dropped before its end
    /// records a poll that broke.
    pub(in crate::transport) fn measure(&self) -> HoldMeasurement<'_> {
        HoldMeasurement { hold: self, since: Instant::now(), ended: false }
    }
}

/// An agent can request only whole seconds.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// See [`Hold::measure`].
pub(in crate::transport) struct HoldMeasurement<'a> {
    hold: &'a Hold,
    since: Instant,
    ended: bool,
}

impl HoldMeasurement<'_> {
    /// Ends the measurement of a poll that was not dropped. `quiet` if no request arrived during the whole hold.
    pub(in crate::transport) fn end(mut self, quiet: bool) {
        self.ended = true;
        if quiet {
            self.hold.record_lasted(self.since.elapsed());
        }
    }
}

impl Drop for HoldMeasurement<'_> {
    fn drop(&mut self) {
        let age = self.since.elapsed();
        if !self.ended && self.hold.record_break(age, defaults::POLL_DROPS) {
            let hold = self.hold.current();
            tracing::info!(?age, ?hold, "agent polls are cut at one age: hold shortened");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_cut_shortens_the_hold_time_and_lasting_polls_extend_it() {
        let hold = Hold::new(seconds(25));
        assert!(hold.record_cut(seconds(20)) && hold.current() == seconds(13));
        // Further polls that are cut at the same moment change nothing.
        assert!(!hold.record_cut(seconds(20)) && !hold.record_cut(seconds(60)));
        assert!(hold.record_cut(Duration::from_millis(3_100)) && hold.current() == seconds(2));
        assert!(!hold.record_cut(seconds(1)), "the hold time has a minimum");
        let mut polls = 0;
        while hold.current() == seconds(2) {
            hold.record_lasted(seconds(2));
            polls += 1;
        }
        assert_eq!((polls, hold.current()), (defaults::POLL_HOLDS * 4, seconds(3)));
        for _ in 0..50 * defaults::POLL_HOLDS_MOST {
            hold.record_lasted(hold.current());
        }
        assert_eq!(hold.current(), seconds(25));
    }

    #[tokio::test(start_paused = true)]
    async fn polls_dropped_at_one_age_are_distinguished_from_closed_pages() {
        let hold = Hold::new(seconds(25));
        let drop_at = async |age| {
            let measurement = hold.measure();
            tokio::time::sleep(age).await;
            drop(measurement);
        };
        for age in [3, 9, 20, 5, 14, 2] {
            drop_at(seconds(age)).await;
        }
        // Polls that break at once, or many that break together, do not count either.
        for _ in 0..5 {
            drop_at(Duration::from_millis(10)).await;
        }
        let polls_of_a_page: Vec<_> = (0..5).map(|_| hold.measure()).collect();
        tokio::time::sleep(seconds(7)).await;
        drop(polls_of_a_page);
        assert_eq!(hold.current(), seconds(25));
        for _ in 0..defaults::POLL_DROPS {
            assert_eq!(hold.current(), seconds(25));
            drop_at(Duration::from_millis(6_050)).await;
        }
        assert_eq!(hold.current(), seconds(4));
        hold.measure().end(true);
        assert_eq!(hold.current(), seconds(4), "an empty poll that ends at once proves nothing");
    }
}

//! How long polls may be held. A box cuts a connection that is silent for too long. Each box has a limit of its own,
//! and none announces it: the limit is learned from the polls that are cut.

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
    now: Duration,
    /// Polls in a row that lasted for their whole hold.
    lasted: u32,
    /// How many such polls it takes before a longer hold is tried.
    needed: u32,
    broke: Option<Broke>,
}

/// The last poll whose connection broke.
struct Broke {
    at: Instant,
    age: Duration,
    /// How many polls in a row broke at about this age, this one included.
    alike: u32,
}

impl Hold {
    /// No poll was cut yet: holds are `most`.
    pub(in crate::transport) fn new(most: Duration) -> Self {
        Self {
            most,
            state: Mutex::new(HoldState { now: most, lasted: 0, needed: defaults::POLL_HOLDS, broke: None }),
        }
    }

    /// How long the next poll is to be held.
    pub(in crate::transport) fn now(&self) -> Duration {
        self.state.lock().now
    }

    /// Notes that polls are cut at this age. Returns whether that makes the hold shorter.
    fn cut(&self, age: Duration) -> bool {
        let mut state = self.state.lock();
        state.lasted = 0;
        let shorter = whole_seconds(age * 2 / 3).max(defaults::POLL_HOLD_LEAST);
        if shorter >= state.now {
            return false;
        }
        state.now = shorter;
        state.needed = (state.needed * 2).min(defaults::POLL_HOLDS_MOST);
        true
    }

    /// A poll broke at this age. Restarts of the relay and closed pages break polls at various ages; a box cuts them
    /// at the same age again and again. So `sure` polls in a row at one age count as cut. Returns whether that makes
    /// the hold shorter.
    pub(in crate::transport) fn broke(&self, age: Duration, sure: u32) -> bool {
        if age < defaults::POLL_CUT {
            return false;
        }
        let alike = {
            let mut state = self.state.lock();
            let alike = match &state.broke {
                // Polls that break together, as those of a page do, count once.
                Some(last) if last.at.elapsed() < defaults::POLL_CUT => return false,
                Some(last) if last.age.abs_diff(age) <= age / 10 => last.alike + 1,
                _ => 1,
            };
            state.broke = Some(Broke { at: Instant::now(), age, alike });
            alike
        };
        alike >= sure && self.cut(age)
    }

    /// A poll was held to its end, for `held`.
    pub(in crate::transport) fn lasted(&self, held: Duration) {
        let mut state = self.state.lock();
        if state.now == self.most || held < state.now {
            return;
        }
        state.lasted += 1;
        if state.lasted >= state.needed {
            state.lasted = 0;
            state.now = (state.now + whole_seconds(state.now / 4).max(Duration::from_secs(1))).min(self.most);
        }
    }

    /// Begins to measure a poll of an agent that cannot set its hold. A measurement that is dropped before its end is a
    /// poll that broke.
    pub(in crate::transport) fn enter(&self) -> HoldMeasurement<'_> {
        HoldMeasurement { hold: self, since: Instant::now(), ended: false }
    }
}

/// An agent can request only whole seconds.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// See [`Hold::enter`].
pub(in crate::transport) struct HoldMeasurement<'a> {
    hold: &'a Hold,
    since: Instant,
    ended: bool,
}

impl HoldMeasurement<'_> {
    /// The poll was not dropped. `quiet` if no request came for the whole hold.
    pub(in crate::transport) fn end(mut self, quiet: bool) {
        self.ended = true;
        if quiet {
            self.hold.lasted(self.since.elapsed());
        }
    }
}

impl Drop for HoldMeasurement<'_> {
    fn drop(&mut self) {
        let age = self.since.elapsed();
        if !self.ended && self.hold.broke(age, defaults::POLL_DROPS) {
            tracing::info!(?age, hold = ?self.hold.now(), "agent polls are cut at one age: hold shortened");
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
        assert!(hold.cut(seconds(20)) && hold.now() == seconds(13));
        // Further polls that are cut at the same moment change nothing.
        assert!(!hold.cut(seconds(20)) && !hold.cut(seconds(60)));
        assert!(hold.cut(Duration::from_millis(3_100)) && hold.now() == seconds(2));
        assert!(!hold.cut(seconds(1)), "the hold time has a minimum");
        let mut polls = 0;
        while hold.now() == seconds(2) {
            hold.lasted(seconds(2));
            polls += 1;
        }
        assert_eq!((polls, hold.now()), (defaults::POLL_HOLDS * 4, seconds(3)));
        for _ in 0..50 * defaults::POLL_HOLDS_MOST {
            hold.lasted(hold.now());
        }
        assert_eq!(hold.now(), seconds(25));
    }

    #[tokio::test(start_paused = true)]
    async fn polls_dropped_at_one_age_are_distinguished_from_closed_pages() {
        let drops = Hold::new(seconds(25));
        let drop_at = async |age| {
            let held = drops.enter();
            tokio::time::sleep(age).await;
            drop(held);
        };
        for age in [3, 9, 20, 5, 14, 2] {
            drop_at(seconds(age)).await;
        }
        // Polls that break at once, or many that break together, do not count either.
        for _ in 0..5 {
            drop_at(Duration::from_millis(10)).await;
        }
        let page: Vec<_> = (0..5).map(|_| drops.enter()).collect();
        tokio::time::sleep(seconds(7)).await;
        drop(page);
        assert_eq!(drops.now(), seconds(25));
        for _ in 0..defaults::POLL_DROPS {
            assert_eq!(drops.now(), seconds(25));
            drop_at(Duration::from_millis(6_050)).await;
        }
        assert_eq!(drops.now(), seconds(4));
        drops.enter().end(true);
        assert_eq!(drops.now(), seconds(4), "an empty poll that ends at once proves nothing");
    }
}

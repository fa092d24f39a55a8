//! How long polls may be held. Boxes cut what is silent for too long, each after a time of its own, and none says so:
//! it is learned from the polls that they cut.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;

/// The longest hold that has not been cut, as far as is known.
pub(in crate::transport) struct Hold {
    most: Duration,
    state: Mutex<HoldState>,
}

struct HoldState {
    now: Duration,
    /// Polls in a row that lasted as long as they were to.
    lasted: u32,
    /// How many it takes to try a longer one.
    needed: u32,
    broke: Option<Broke>,
}

/// The last poll whose connection broke.
struct Broke {
    at: Instant,
    age: Duration,
    /// How many of that age there were in a row, with it.
    alike: u32,
}

impl Hold {
    /// Nothing was cut yet.
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

    /// Polls are cut at this age. Whether that was news.
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

    /// A poll broke at this age. Relays restart, and people close pages; a box cuts at the same age
    /// again and again: `sure` of them in a row are a cut. Whether that was news.
    pub(in crate::transport) fn broke(&self, age: Duration, sure: u32) -> bool {
        if age < defaults::POLL_CUT {
            return false;
        }
        let alike = {
            let mut state = self.state.lock();
            let alike = match &state.broke {
                // Those that go together, as with a page, are one.
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

    /// A poll begins to be held, for an agent that cannot say for how long. Dropped before its end, it broke.
    pub(in crate::transport) fn enter(&self) -> HoldMeasurement<'_> {
        HoldMeasurement { hold: self, since: Instant::now(), ended: false }
    }
}

/// An agent can only say whole seconds.
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
    /// It was not dropped; `quiet` when nothing came for as long as it was held.
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
            tracing::info!(?age, hold = ?self.hold.now(), "polls of an agent are cut at one age: held shorter");
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
    fn a_cut_makes_it_shorter_and_time_longer_again() {
        let hold = Hold::new(seconds(25));
        assert!(hold.cut(seconds(20)) && hold.now() == seconds(13));
        // The others of the same moment say nothing new.
        assert!(!hold.cut(seconds(20)) && !hold.cut(seconds(60)));
        assert!(hold.cut(Duration::from_millis(3_100)) && hold.now() == seconds(2));
        assert!(!hold.cut(seconds(1)), "there is a shortest");
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
    async fn polls_that_are_dropped_at_one_age_are_told_from_pages_that_are_closed() {
        let drops = Hold::new(seconds(25));
        let drop_at = async |age| {
            let held = drops.enter();
            tokio::time::sleep(age).await;
            drop(held);
        };
        for age in [3, 9, 20, 5, 14, 2] {
            drop_at(seconds(age)).await;
        }
        // Nor those that break at once, nor many that go together.
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
        assert_eq!(drops.now(), seconds(4), "one that brought nothing at once is no proof");
    }
}

//! Wrong credentials, counted by their source.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;

use super::source::Source;

/// Recent wrong credentials. The table is bounded, and a new source evicts the source whose last guess is the oldest. So
/// an attacker with more sources than the table has entries is not limited, but cannot guess a secret of 256 bits
/// either.
pub struct Guesses {
    table: Mutex<GuessTable>,
    most: u32,
}

#[derive(Default)]
struct GuessTable {
    windows: HashMap<Source, Window>,
    /// Each source by the number of its last guess.
    order: BTreeMap<u64, Source>,
    /// The number of the last guess of all sources.
    guesses: u64,
}

struct Window {
    began: Instant,
    wrong: u32,
    /// The number of the last guess.
    last: u64,
}

impl Window {
    /// How long until the window ends; `None` once it has ended.
    fn left(&self, now: Instant) -> Option<Duration> {
        let until = self.began + defaults::GUESSES_WITHIN;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

impl Guesses {
    /// Allows `most` wrong credentials from each source within [`defaults::GUESSES_WITHIN`].
    pub fn new(most: u32) -> Self {
        Self { table: Mutex::default(), most }
    }

    /// Counts a wrong credential. If there were too many before, returns how long until the source may try again.
    pub fn record_wrong(&self, from: IpAddr) -> Option<Duration> {
        self.record_wrong_at(from, Instant::now())
    }

    fn record_wrong_at(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let source = Source::from(from);
        let mut table = self.table.lock();
        let GuessTable { windows, order, guesses } = &mut *table;
        *guesses += 1;
        let last = *guesses;
        let window = windows.entry(source).or_insert(Window { began: now, wrong: 0, last });
        order.remove(&std::mem::replace(&mut window.last, last));
        order.insert(last, source);
        let Some(left) = window.left(now) else {
            *window = Window { began: now, wrong: 1, last };
            return None;
        };
        window.wrong = window.wrong.saturating_add(1);
        let wait = (window.wrong > self.most).then_some(left);
        if order.len() > defaults::GUESSERS
            && let Some((_, oldest)) = order.pop_first()
        {
            windows.remove(&oldest);
        }
        wait
    }

    /// How long until a source may try again, if it has reached its limit.
    pub fn exhausted(&self, from: IpAddr) -> Option<Duration> {
        let table = self.table.lock();
        let window = table.windows.get(&from.into())?;
        window.left(Instant::now()).filter(|_| window.wrong >= self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn each_source_has_a_limit_of_wrong_credentials_per_window() {
        let guesses = Guesses::new(3);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(guesses.record_wrong_at(from(1), now), None);
        }
        assert!(guesses.exhausted(from(1)).is_some() && guesses.exhausted(from(2)).is_none());
        assert_eq!(guesses.record_wrong_at(from(1), now), Some(defaults::GUESSES_WITHIN));
        assert_eq!(guesses.record_wrong_at(from(2), now), None);
        assert_eq!(guesses.record_wrong_at(from(1), now + defaults::GUESSES_WITHIN), None, "a window ends");
    }

    #[test]
    fn the_table_is_bounded() {
        let guesses = Guesses::new(1);
        for n in 0..defaults::GUESSERS as u32 + 100 {
            guesses.record_wrong(from(n));
        }
        let table = guesses.table.lock();
        assert_eq!((table.windows.len(), table.order.len()), (defaults::GUESSERS, defaults::GUESSERS));
    }

    #[test]
    fn a_source_that_guesses_on_is_not_evicted() {
        let guesses = Guesses::new(1);
        let most = defaults::GUESSERS as u32;
        for n in 0..most {
            guesses.record_wrong(from(n));
        }
        assert!(guesses.record_wrong(from(0)).is_some(), "the source has made too many guesses");
        guesses.record_wrong(from(most));
        assert!(guesses.exhausted(from(0)).is_some(), "the active source was evicted");
        assert!(guesses.exhausted(from(1)).is_none(), "the source with the oldest last guess is evicted");
    }
}

//! The window of the bodies that one connection of HTTP/2 receives. All streams of a connection have the same window
//! (SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113 §6.9.2): the budget divided among the long bodies that the connection
//! carries, one body to come, and the answers that a burst of requests will bring. Each long body is charged the largest
//! window since its reader last waited for more, because that many bytes of it may wait.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

use super::budget::{LEAST, ReceiveBudget, window_within};
use crate::defaults;
use crate::message::body::{BodyEvent, Observer};

/// The window for answers, in bytes, until one answer has filled it and its reader has kept up. Most answers of the web
/// fit in this window.
pub(super) const FIRST: u32 = 256 << 10;
/// The same for uploads: the initial window of HTTP/2 (RFC 9113 §6.9.2).
pub(super) const FIRST_UPLOAD: u32 = 64 << 10;
/// A body up to this length, in bytes, is not charged. A longer body is charged until it ends.
pub(super) const SHORT: u64 = 64 << 10;
/// Requests that await their answers are a burst beyond this number: twice [`defaults::BUSY`], so the agent has opened
/// all its connections. All answers of a burst may be long, and arrive before the first of them is charged.
const BURST: usize = 64;
/// A window grows at most once in this time, but at once for the first reader that keeps up. A request belongs to a
/// burst for as long, and at most twice as long.
const FOLLOW: Duration = Duration::from_secs(1);
/// A far end that does not acknowledge a window within this time is taken to ignore it (RFC 9113 §6.5.3).
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);

/// The far end does not acknowledge a smaller window.
#[derive(Debug, thiserror::Error)]
#[error("the far end does not acknowledge smaller windows")]
pub(crate) struct SettingsAckTimeout;

/// The window of one connection, and the charges of its long bodies.
#[derive(Debug)]
pub(super) struct StreamWindows {
    budget: Arc<ReceiveBudget>,
    first: u32,
    state: Mutex<WindowState>,
}

#[derive(Debug)]
struct WindowState {
    /// The window of each stream, as last announced.
    window: u32,
    /// The charge of each long body, in bytes.
    charges: Slab<u32>,
    /// The sum of the charges.
    charged: usize,
    /// The reader of a long body has kept up with its first window. False while there is no long body.
    proven: bool,
    /// The requests that await their answers: of this generation, and of the generation before. Older requests are not
    /// a burst.
    requests: [usize; 2],
    generation: u64,
    computed: Instant,
    /// Since when the far end has not acknowledged the window before.
    unacknowledged: Option<Instant>,
}

impl StreamWindows {
    pub(super) fn new(budget: Arc<ReceiveBudget>, first: u32) -> Arc<Self> {
        let state = Mutex::new(WindowState {
            window: window_within(budget.free_for_new(), first),
            charges: Slab::new(),
            charged: 0,
            proven: false,
            requests: [0; 2],
            generation: 0,
            computed: Instant::now(),
            unacknowledged: None,
        });
        Arc::new(Self { budget, first, state })
    }

    /// The window of each stream, as last announced.
    pub(super) fn window(&self) -> u32 {
        self.state.lock().window
    }

    /// See [`ReceiveBudget::connection_window`].
    pub(super) fn connection_window(&self) -> u32 {
        self.budget.connection_window()
    }

    /// Counts a request until the guard is dropped, when its answer begins.
    pub(super) fn count_request(self: &Arc<Self>) -> ExpectedAnswer {
        let mut state = self.state.lock();
        state.requests[0] += 1;
        ExpectedAnswer { windows: self.clone(), generation: state.generation }
    }

    /// An observer that charges a body of this length. `None` for a short body.
    pub(super) fn charge(self: &Arc<Self>, length: Option<u64>) -> Option<ChargedBody> {
        let long = length.is_none_or(|length| length > SHORT);
        long.then(|| ChargedBody { windows: self.clone(), charge: None, taken: 0 })
    }

    /// Announces a new window with `announce` if the window is to change. Returns whether it has changed. To be called
    /// before the connection is polled, so that a smaller window precedes the requests of a burst, and after, because
    /// the poll may bring the acknowledgement of the last window.
    ///
    /// # Errors
    /// [`SettingsAckTimeout`]
    pub(super) fn update(
        &self,
        announce: impl FnOnce(u32) -> Result<(), h2::Error>,
    ) -> Result<bool, SettingsAckTimeout> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (earlier, window) = (state.window, self.fair_window(state));
        if window == earlier && window >= self.first {
            return Ok(false);
        }
        let due = state.computed.elapsed() >= FOLLOW;
        if due {
            state.computed = Instant::now();
            state.generation += 1;
            state.requests = [0, state.requests[0]];
        }
        let first_proof = state.proven && earlier <= self.first;
        if window == earlier || window > earlier && !due && !first_proof {
            return Ok(false);
        }
        if announce(window).is_err() {
            // The window before is not acknowledged yet.
            let since = state.unacknowledged.get_or_insert_with(Instant::now);
            return if since.elapsed() > ACKNOWLEDGE_WITHIN { Err(SettingsAckTimeout) } else { Ok(false) };
        }
        let more = state.growth(window);
        state.charges.iter_mut().for_each(|(_, charge)| *charge = window.max(*charge));
        state.charged += more;
        self.budget.take(more);
        (state.window, state.unacknowledged) = (window, None);
        if window < earlier && window == LEAST {
            self.budget.report_short();
        }
        Ok(true)
    }

    /// The window that fits. Before a reader has kept up, most of the budget stays free for readers that do.
    fn fair_window(&self, state: &WindowState) -> u32 {
        let (free, most) = match state.proven {
            true => (self.budget.free(), defaults::STREAM_WINDOW),
            false => (self.budget.free_for_new(), self.first),
        };
        let to_come = 1 + state.requests.iter().sum::<usize>().saturating_sub(BURST);
        let fair = window_within((free + state.charged) / (state.charges.len() + to_come), most);
        let mut window = window_within(free / to_come, fair);
        // A body whose reader is stuck is charged the difference too.
        while window > state.window && state.growth(window) + to_come * window as usize > free {
            window /= 2;
        }
        window
    }

    fn begin(&self) -> usize {
        let mut state = self.state.lock();
        let window = state.window;
        self.budget.take(window as usize);
        state.charged += window as usize;
        state.charges.insert(window)
    }

    /// No byte of the body waits, after `taken` bytes in all: the body is charged the present window.
    fn settle(&self, key: usize, taken: u64) {
        let mut state = self.state.lock();
        state.proven |= taken >= u64::from(self.first);
        let window = state.window.min(state.charges[key]);
        let freed = std::mem::replace(&mut state.charges[key], window) - window;
        state.charged -= freed as usize;
        self.budget.give_back(freed as usize);
    }

    fn end(&self, key: usize) {
        let mut state = self.state.lock();
        let freed = state.charges.remove(key) as usize;
        // The next reader may be slow.
        state.proven &= !state.charges.is_empty();
        state.charged -= freed;
        self.budget.give_back(freed);
    }
}

impl WindowState {
    /// The cost of a window for all long bodies, beyond their charges.
    fn growth(&self, window: u32) -> usize {
        self.charges.iter().map(|(_, charge)| window.saturating_sub(*charge) as usize).sum()
    }
}

/// A request that awaits its answer.
pub(super) struct ExpectedAnswer {
    windows: Arc<StreamWindows>,
    generation: u64,
}

impl Drop for ExpectedAnswer {
    fn drop(&mut self) {
        let mut state = self.windows.state.lock();
        let age = usize::try_from(state.generation - self.generation).unwrap_or(usize::MAX);
        if let Some(requests) = state.requests.get_mut(age) {
            *requests -= 1;
        }
    }
}

/// Charges a body while bytes of it may wait.
#[derive(Debug)]
pub(super) struct ChargedBody {
    windows: Arc<StreamWindows>,
    charge: Option<usize>,
    taken: u64,
}

impl Observer for ChargedBody {
    fn event(&mut self, event: BodyEvent) {
        match (event, self.charge) {
            (BodyEvent::Frame { bytes, .. }, charge) => {
                self.taken += bytes as u64;
                self.charge = charge.or_else(|| Some(self.windows.begin()));
            }
            // The reader has taken all bytes that had arrived.
            (BodyEvent::Pending, Some(key)) if self.taken > SHORT => self.windows.settle(key, self.taken),
            _ => self.release(),
        }
    }
}

impl ChargedBody {
    fn release(&mut self) {
        if let Some(key) = self.charge.take() {
            self.windows.end(key);
        }
    }
}

impl Drop for ChargedBody {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    const MIB: usize = 1 << 20;

    fn frame(bytes: usize) -> BodyEvent {
        BodyEvent::Frame { bytes, last: false }
    }

    fn update(windows: &StreamWindows) -> u32 {
        windows.update(|_| Ok(())).unwrap();
        windows.window()
    }

    fn windows(budget: usize) -> Arc<StreamWindows> {
        StreamWindows::new(ReceiveBudget::new(budget), FIRST)
    }

    /// A long body whose reader took something and then stopped.
    fn stuck(windows: &Arc<StreamWindows>) -> ChargedBody {
        let mut body = windows.charge(None).unwrap();
        body.event(frame(1));
        body
    }

    /// A long body whose reader keeps up.
    fn fast(windows: &Arc<StreamWindows>) -> ChargedBody {
        let mut body = windows.charge(None).unwrap();
        body.event(frame(defaults::STREAM_WINDOW as usize));
        body.event(BodyEvent::Pending);
        body
    }

    /// How many bytes of a body may wait: the largest window since its reader waited for more.
    struct Model {
        body: ChargedBody,
        waits: u32,
    }

    #[test]
    fn bytes_that_may_wait_are_charged_and_fit_into_the_budget() {
        for (seed, budget) in [(1, 16 * MIB), (2, 64 * MIB), (3, 256 * MIB), (4, MIB)] {
            let windows = windows(budget);
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let mut bodies: Vec<Model> = Vec::new();
            for step in 0..20_000 {
                let (place, room) = (random.random_range(0..bodies.len() + 1), bodies.len() < 500);
                match (random.random_range(0..8), bodies.get_mut(place)) {
                    (0, Some(_)) => drop(bodies.swap_remove(place)),
                    (1..3, Some(model)) => {
                        model.body.event(BodyEvent::Pending);
                        model.waits = 0;
                    }
                    (3..6, Some(model)) => {
                        model.body.event(frame(random.random_range(1..1 << 20)));
                        model.waits = model.waits.max(windows.window());
                    }
                    _ if room => bodies.push(Model { body: windows.charge(None).unwrap(), waits: 0 }),
                    _ => {}
                }
                let window = update(&windows);
                for model in &mut bodies {
                    model.waits = if model.waits > 0 { model.waits.max(window) } else { 0 };
                }
                let waits: usize = bodies.iter().map(|model| model.waits as usize).sum();
                let (charged, _) = windows.budget.both_taken();
                assert!(waits <= charged, "step {step}: {waits} bytes may wait, {charged} are charged");
                assert!(charged <= budget + bodies.len() * LEAST as usize, "step {step}: {charged}");
            }
            bodies.clear();
            assert_eq!(windows.budget.both_taken().0, 0);
        }
    }

    #[test]
    fn stuck_readers_stay_within_the_budget_beside_a_fast_one() {
        let windows = windows(64 * MIB);
        let begin = |_| {
            update(&windows);
            stuck(&windows)
        };
        let _stuck: Vec<_> = (0..100).map(begin).collect();
        update(&windows);
        let _fast = fast(&windows);
        update(&windows);
        assert!(windows.budget.both_taken().0 <= 64 * MIB, "{:?}", windows.budget);
    }

    #[test]
    fn fast_readers_share_the_budget_with_few_announcements() {
        for count in [1, 4, 6, 50, 1_000] {
            let windows = windows(64 * MIB);
            let mut changes = 0;
            let mut update = || changes += usize::from(windows.update(|_| Ok(())).unwrap());
            let mut bodies: Vec<_> = (0..count).map(|_| fast(&windows)).collect();
            for _ in 0..200 {
                for body in &mut bodies {
                    body.event(frame(1 << 14));
                    update();
                    body.event(BodyEvent::Pending);
                }
            }
            let window = windows.window() as usize;
            let fair = (64 * MIB / (count + 4)).min(8 * MIB);
            println!("{count} fast readers: {} KiB each, {changes} announcements", window >> 10);
            assert!(window * 4 >= fair && changes < 20, "{count}: {window} of {fair}, {changes} changes");
        }
    }

    #[test]
    fn a_window_grows_for_a_reader_that_keeps_up_until_its_body_ends() {
        let windows = windows(256 * MIB);
        let mut body = windows.charge(None).unwrap();
        assert_eq!(update(&windows), FIRST);
        body.event(frame(FIRST as usize));
        assert_eq!(update(&windows), FIRST, "the reader may be stuck");
        body.event(BodyEvent::Pending);
        assert_eq!(update(&windows), defaults::STREAM_WINDOW);
        assert_eq!(windows.budget.both_taken().0, defaults::STREAM_WINDOW as usize);
        body.event(BodyEvent::End);
        assert_eq!((windows.budget.both_taken().0, update(&windows)), (0, FIRST));
    }

    #[test]
    fn a_window_shrinks_when_other_connections_take_the_budget() {
        let budget = ReceiveBudget::new(2 * MIB);
        let [one, other] = [(); 2].map(|()| StreamWindows::new(budget.clone(), FIRST));
        let _stuck = [(); 8].map(|()| {
            update(&one);
            stuck(&one)
        });
        assert!(update(&one) < FIRST && update(&other) < FIRST, "{one:?} {other:?}");
    }

    #[test]
    fn an_open_body_without_bytes_is_not_charged() {
        let windows = windows(MIB);
        assert!(windows.charge(Some(SHORT)).is_none());
        let mut open: Vec<_> = (0..1000).map(|_| windows.charge(None).unwrap()).collect();
        for body in &mut open {
            body.event(frame(100));
            body.event(BodyEvent::Pending);
        }
        assert_eq!((windows.budget.both_taken().0, update(&windows)), (0, FIRST));
    }

    #[test]
    fn a_small_budget_is_used() {
        let windows = windows(16 * MIB);
        let _fast = fast(&windows);
        assert!(update(&windows) >= 1 << 20, "{windows:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_end_that_acknowledges_nothing_is_cut() {
        let windows = windows(16 * MIB);
        let _fast = fast(&windows);
        let refuse = || windows.update(|_| Err(h2::Error::from(h2::Reason::INTERNAL_ERROR)));
        assert!(matches!(refuse(), Ok(false)));
        tokio::time::advance(ACKNOWLEDGE_WITHIN + FOLLOW).await;
        assert!(refuse().is_err());
    }
}

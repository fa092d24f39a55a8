//! The windows of the bodies that this end of HTTP/2 receives. Bytes that are not read yet wait here, up to the window
//! of their stream. All streams of a connection have the same window (SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113 §6.9.2). A
//! body is charged the largest window since its reader last waited for more: that many bytes of it may wait. The window
//! follows from the bytes that the account has left. It grows only if the account can pay the difference for every body
//! that is charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::windows::{LEAST, Windows};
use crate::defaults;
use crate::message::body::{BodyEvent, Observer};

/// The first window for answers, in bytes. Most answers of the web fit in it, and of many long answers that come at
/// once each has no more than this before it is charged.
pub(super) const FIRST: u32 = 256 << 10;
/// The first window for uploads, in bytes: the initial window of HTTP/2 (RFC 9113 §6.9.2).
pub(super) const FIRST_UPLOAD: u32 = 64 << 10;
/// The factor by which a window grows once a body has filled it and was read as fast as it came.
const STEP: u32 = 16;
/// A larger window is announced only when it is this many times as large, so that small changes cause no frames.
const WORTH_TELLING: u32 = 4;
/// A body up to this length, in bytes, costs no more than its own length. A longer body is charged until it ends.
pub(super) const SHORT: u64 = 64 << 10;
/// A far end that does not acknowledge a smaller window within this time is taken to ignore it (RFC 9113 §6.5.3).
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// The long bodies that come on one connection, and the window of each.
#[derive(Debug)]
pub(super) struct UploadWindows {
    windows: Arc<Windows>,
    first: u32,
    told: AtomicU32,
    /// Counts the announced windows.
    version: AtomicU32,
    /// The largest window that the pace of the readers allows, in bytes.
    proven: AtomicU32,
    charges: Mutex<Charges>,
}

/// The charge of each body, in bytes; 0 at a place without a body.
#[derive(Debug, Default)]
struct Charges {
    each: Vec<u32>,
    unused: Vec<usize>,
}

impl UploadWindows {
    pub(super) fn new(windows: Arc<Windows>, first: u32) -> Arc<Self> {
        let told = AtomicU32::new(windows.size(first));
        let (version, proven) = (AtomicU32::new(0), AtomicU32::new(first));
        Arc::new(Self { windows, first, told, version, proven, charges: Mutex::default() })
    }

    fn announced(&self) -> u32 {
        self.told.load(Ordering::Relaxed)
    }

    /// Watches a body of this length. `None` for a body that is too short to be charged.
    pub(super) fn watch(self: &Arc<Self>, length: Option<u64>) -> Option<UploadWatch> {
        let long = length.is_none_or(|length| length > SHORT);
        long.then(|| UploadWatch { flow: self.clone(), charge: None, version: 0, taken: 0 })
    }

    fn charge(&self) -> usize {
        let mut charges = self.charges.lock();
        let told = self.announced();
        self.windows.take(told as usize);
        match charges.unused.pop() {
            Some(place) => {
                charges.each[place] = told;
                place
            }
            None => {
                charges.each.push(told);
                charges.each.len() - 1
            }
        }
    }

    fn release(&self, place: usize) {
        let mut charges = self.charges.lock();
        let bytes = std::mem::take(&mut charges.each[place]);
        charges.unused.push(place);
        self.windows.give_back(bytes as usize);
        if charges.unused.len() == charges.each.len() {
            *charges = Charges::default();
            // The next reader may be slow.
            self.proven.store(self.first, Ordering::Relaxed);
        }
    }

    /// No byte of the body waits: the body is charged the present window.
    fn settle(&self, place: usize) {
        let mut charges = self.charges.lock();
        let (bytes, told) = (&mut charges.each[place], self.announced());
        self.windows.give_back(bytes.saturating_sub(told) as usize);
        *bytes = told;
    }

    fn proves(&self, taken: u64) {
        let proven = self.proven.load(Ordering::Relaxed);
        if taken >= u64::from(proven) && proven < defaults::STREAM_WINDOW {
            let more = proven.saturating_mul(STEP).min(defaults::STREAM_WINDOW);
            self.proven.store(more, Ordering::Relaxed);
        }
    }

    /// The window that is to be announced.
    fn wanted(&self) -> u32 {
        let (told, mut size) = (self.announced(), self.windows.size(self.proven.load(Ordering::Relaxed)));
        if size <= told {
            return size;
        }
        // A body whose reader is stuck is charged the difference too.
        while size / WORTH_TELLING >= told {
            let cost = self.charges.lock().each.iter().map(|bytes| more(*bytes, size) as usize).sum();
            if self.windows.affords(cost, size) {
                return size;
            }
            size /= 2;
        }
        told
    }

    fn announce(&self, size: u32) {
        let mut charges = self.charges.lock();
        for bytes in &mut charges.each {
            let more = more(*bytes, size);
            self.windows.take(more as usize);
            *bytes += more;
        }
        self.told.store(size, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Relaxed);
    }
}

/// The cost of a larger window for a body that is charged, beyond its charge.
fn more(charged: u32, size: u32) -> u32 {
    if charged == 0 { 0 } else { size.saturating_sub(charged) }
}

/// One long body.
#[derive(Debug)]
pub(super) struct UploadWatch {
    flow: Arc<UploadWindows>,
    charge: Option<usize>,
    version: u32,
    taken: u64,
}

impl UploadWatch {
    /// Takes the result of polling the stream: how many bytes have come, or 0 at the end.
    pub(super) fn saw(&mut self, bytes: Poll<usize>) {
        match bytes {
            Poll::Ready(0) => self.release(),
            Poll::Ready(bytes) => {
                self.taken += bytes as u64;
                if self.charge.is_none() {
                    self.charge = Some(self.flow.charge());
                }
            }
            Poll::Pending => self.drained(),
        }
    }

    /// The reader has taken all bytes that had come.
    fn drained(&mut self) {
        let Some(place) = self.charge else { return };
        self.flow.proves(self.taken);
        let version = self.flow.version.load(Ordering::Relaxed);
        if self.taken <= SHORT {
            self.release();
        } else if self.version != version {
            self.version = version;
            self.flow.settle(place);
        }
    }

    fn release(&mut self) {
        if let Some(place) = self.charge.take() {
            self.flow.release(place);
        }
    }
}

impl Observer for UploadWatch {
    fn event(&mut self, event: BodyEvent) {
        self.saw(match event {
            BodyEvent::Pending => Poll::Pending,
            BodyEvent::Frame { bytes, .. } => Poll::Ready(bytes),
            BodyEvent::End | BodyEvent::Broken => Poll::Ready(0),
        });
    }
}

impl Drop for UploadWatch {
    fn drop(&mut self) {
        self.release();
    }
}

/// Announces the windows of a connection to the far end.
pub(super) struct WindowUpdater {
    flow: Arc<UploadWindows>,
    refused_since: Option<Instant>,
}

/// The far end does not acknowledge smaller windows.
#[derive(Debug, thiserror::Error)]
#[error("the far end does not acknowledge smaller windows")]
pub(crate) struct Deaf;

impl WindowUpdater {
    pub(super) fn new(flow: Arc<UploadWindows>) -> Self {
        Self { flow, refused_since: None }
    }

    /// The announced window, with which the connection begins.
    pub(super) fn size(&self) -> u32 {
        self.flow.announced()
    }

    /// Announces a new window to the far end if the window is to change. Returns whether the window has changed. To be
    /// called before and after the connection is polled, because the poll may bring the acknowledgement of the last
    /// window.
    ///
    /// # Errors
    /// [`Deaf`]
    pub(super) fn update(&mut self, tell: impl FnOnce(u32) -> Result<(), h2::Error>) -> Result<bool, Deaf> {
        let (told, size) = (self.flow.announced(), self.flow.wanted());
        if size == told {
            return Ok(false);
        }
        if tell(size).is_ok() {
            self.flow.announce(size);
            self.refused_since = None;
            if size < told && size == LEAST {
                self.flow.windows.is_short();
            }
            return Ok(true);
        }
        // The window before is not acknowledged yet.
        match self.refused_since.get_or_insert_with(Instant::now).elapsed() > ACKNOWLEDGED {
            true => Err(Deaf),
            false => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    const MIB: usize = 1 << 20;

    fn update(told: &mut WindowUpdater) -> u32 {
        told.update(|_| Ok(())).unwrap();
        told.size()
    }

    fn flow(budget: usize) -> (Arc<UploadWindows>, WindowUpdater) {
        let flow = UploadWindows::new(Windows::new(budget), FIRST);
        (flow.clone(), WindowUpdater::new(flow))
    }

    /// A long body whose reader took something and then stopped.
    fn stuck(flow: &Arc<UploadWindows>) -> UploadWatch {
        let mut watch = flow.watch(None).unwrap();
        watch.saw(Poll::Ready(1));
        watch
    }

    /// A long body whose reader keeps up.
    fn fast(flow: &Arc<UploadWindows>) -> UploadWatch {
        let mut watch = flow.watch(None).unwrap();
        for _ in 0..2 {
            watch.saw(Poll::Ready(defaults::STREAM_WINDOW as usize));
            watch.saw(Poll::Pending);
        }
        watch
    }

    /// How many bytes of a body may wait: the largest window since its reader waited for more.
    struct Model {
        watch: UploadWatch,
        waits: u32,
    }

    #[test]
    fn waiting_bytes_are_charged_and_stay_within_the_budget() {
        for (seed, budget) in [(1, 16 * MIB), (2, 64 * MIB), (3, 256 * MIB), (4, MIB)] {
            let (flow, mut told) = flow(budget);
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let mut bodies: Vec<Model> = Vec::new();
            for step in 0..20_000 {
                let (place, room) = (random.random_range(0..bodies.len() + 1), bodies.len() < 500);
                match (random.random_range(0..8), bodies.get_mut(place)) {
                    (0, Some(_)) => drop(bodies.swap_remove(place)),
                    (1..3, Some(body)) => {
                        body.watch.saw(Poll::Pending);
                        body.waits = 0;
                    }
                    (3..6, Some(body)) => {
                        body.watch.saw(Poll::Ready(random.random_range(1..1 << 20)));
                        body.waits = body.waits.max(flow.announced());
                    }
                    _ if room => bodies.push(Model { watch: flow.watch(None).unwrap(), waits: 0 }),
                    _ => {}
                }
                let size = update(&mut told);
                for body in &mut bodies {
                    body.waits = if body.waits > 0 { body.waits.max(size) } else { 0 };
                }
                let waits: usize = bodies.iter().map(|body| body.waits as usize).sum();
                let (charged, _) = flow.windows.both_taken();
                assert!(waits <= charged, "step {step}: {waits} bytes may wait, {charged} are charged");
                assert!(charged <= budget + bodies.len() * LEAST as usize, "step {step}: {charged}");
            }
            bodies.clear();
            assert_eq!(flow.windows.both_taken().0, 0);
        }
    }

    #[test]
    fn one_fast_reader_does_not_widen_the_window_of_stuck_readers() {
        let (flow, mut told) = flow(64 * MIB);
        let _stuck: Vec<_> = (0..100)
            .map(|_| {
                update(&mut told);
                stuck(&flow)
            })
            .collect();
        let _fast = fast(&flow);
        let size = update(&mut told) as usize;
        assert!(100 * size <= 64 * MIB && flow.windows.both_taken().0 <= 64 * MIB, "{size}");
    }

    #[test]
    fn many_fast_readers_share_the_budget_with_few_window_changes() {
        for count in [1, 4, 6, 50, 1_000] {
            let (flow, mut told) = flow(64 * MIB);
            let mut bodies: Vec<_> = (0..count).map(|_| fast(&flow)).collect();
            let mut changes = 0;
            for _ in 0..200 {
                for body in &mut bodies {
                    body.saw(Poll::Ready(1 << 14));
                    changes += usize::from(told.size() != update(&mut told));
                    body.saw(Poll::Pending);
                }
            }
            let size = told.size() as usize;
            let fair = (64 * MIB / (count + 4)).min(8 * MIB);
            println!("{count} fast readers: {} KiB each, {changes} changes", size >> 10);
            assert!(size * 4 >= fair && changes < 20, "{count}: {size} of {fair}, {changes} changes");
        }
    }

    #[test]
    fn a_window_grows_only_after_its_reader_has_drained_it() {
        let (flow, mut told) = flow(256 * MIB);
        let mut watch = flow.watch(None).unwrap();
        watch.saw(Poll::Ready(FIRST as usize - 1));
        watch.saw(Poll::Pending);
        assert_eq!(update(&mut told), FIRST);
        watch.saw(Poll::Ready(1));
        assert_eq!(update(&mut told), FIRST, "it may still be stuck");
        watch.saw(Poll::Pending);
        assert_eq!(update(&mut told), FIRST * STEP);
        watch.saw(Poll::Ready(0));
        assert_eq!(flow.windows.both_taken().0, 0, "at its end nothing waits");
        assert_eq!(update(&mut told), FIRST, "the next may be slow");
    }

    #[test]
    fn drained_streams_are_not_charged() {
        let (flow, mut told) = flow(MIB);
        assert!(flow.watch(Some(SHORT)).is_none());
        let mut open: Vec<_> = (0..1000).map(|_| flow.watch(None).unwrap()).collect();
        for events in &mut open {
            events.saw(Poll::Ready(100));
            events.saw(Poll::Pending);
        }
        assert_eq!((flow.windows.both_taken().0, update(&mut told)), (0, FIRST));
    }

    #[test]
    fn a_small_budget_gives_a_fast_reader_a_window_of_1_mib() {
        let (flow, mut told) = flow(16 * MIB);
        let _fast = fast(&flow);
        assert!(update(&mut told) >= 1 << 20, "{}", told.size());
    }
}

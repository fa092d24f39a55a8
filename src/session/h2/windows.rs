//! How far one end of HTTP/2 may send ahead of whoever reads at the other. What is not read waits here, up to the window
//! of its stream. So windows shrink as what may wait becomes much, and all of it together stays within one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::defaults;
use crate::observe::{Limit, Metrics};

/// One frame of the default size (RFC 9113 §4.2): less would make every frame wait for the one before.
const LEAST: u32 = 16 << 10;
/// Where the windows for answers begin: most of what the web is made of fits, and many long ones that come all at once
/// have no more than that each before they are counted.
pub(super) const FIRST: u32 = 256 << 10;
/// And those for uploads: what HTTP/2 begins with everywhere (RFC 9113 §6.9.2).
pub(super) const FIRST_UPLOAD: u32 = 64 << 10;
/// How they grow once a body has filled one and was read as fast as it came.
const STEP: u32 = 16;
/// A body up to this counts for nothing: it costs no more than its own length.
pub(super) const SHORT: u64 = 64 << 10;
/// What is free is given to this many at once, so that there is always some left for the next.
const PARTS: usize = 4;
/// A far end that has not acknowledged a smaller window by then means to send on (RFC 9113 §6.5.3).
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// An account of what may wait unread, in bytes. Who takes from a share takes from the whole as well, so nobody has more
/// than a share leaves, and all shares together no more than the whole.
#[derive(Debug)]
pub struct Windows {
    taken: AtomicUsize,
    budget: usize,
    whole: Option<Arc<Windows>>,
    metrics: Option<Arc<Metrics>>,
}

impl Windows {
    /// At most `budget` bytes, beside `LEAST` for each stream.
    pub fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), budget, whole: None, metrics: None })
    }

    /// The same; where it is short is counted.
    pub fn watched(budget: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), budget, whole: None, metrics: Some(metrics) })
    }

    /// One of `parts` equal shares. There may be more of them than that: the whole is first come, first served.
    pub fn share(self: &Arc<Self>, parts: usize) -> Arc<Self> {
        let budget = self.budget / parts;
        let (whole, metrics) = (Some(self.clone()), self.metrics.clone());
        Arc::new(Self { taken: AtomicUsize::new(0), budget, whole, metrics })
    }

    /// Where it is counted what limits do.
    pub(crate) fn metrics(&self) -> Option<Arc<Metrics>> {
        self.metrics.clone()
    }

    /// The window that the next may have, in bytes, up to `most`: a power of two, so that it changes seldom.
    fn size(&self, most: u32) -> u32 {
        let free = self.budget.saturating_sub(self.taken.load(Ordering::Relaxed));
        let part = (free / PARTS).min(most as usize).max(LEAST as usize);
        let own = 1 << part.ilog2();
        self.whole.as_ref().map_or(own, |whole| own.min(whole.size(most)))
    }

    /// Takes what the next may have, up to `most` bytes.
    fn grant(&self, most: u32) -> u32 {
        let bytes = self.size(most);
        self.take(bytes as usize);
        if bytes < most.min(FIRST_UPLOAD)
            && let Some(metrics) = &self.metrics
        {
            metrics.reached(
                Limit::Buffers,
                &format_args!("{} bytes in use", self.taken.load(Ordering::Relaxed)),
            );
        }
        bytes
    }

    fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.take(bytes);
        }
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }

    /// Takes up to `most` bytes for as long as the guard lives; at least `LEAST`.
    pub(super) fn reserve(self: &Arc<Self>, most: u32) -> Reserved {
        Reserved { bytes: self.grant(most), windows: self.clone() }
    }
}

/// Bytes that nobody else has.
#[derive(Debug)]
pub(super) struct Reserved {
    windows: Arc<Windows>,
    pub(super) bytes: u32,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.windows.give_back(self.bytes as usize);
    }
}

/// The long bodies that come on one connection.
#[derive(Debug)]
pub(super) struct Flow {
    windows: Arc<Windows>,
    /// Bodies.
    long: AtomicUsize,
    /// Where windows begin, in bytes.
    first: u32,
    /// What their readers have shown that they keep up with, in bytes.
    proven: AtomicU32,
}

impl Flow {
    pub(super) fn new(windows: Arc<Windows>, first: u32) -> Arc<Self> {
        Arc::new(Self { windows, long: AtomicUsize::new(0), first, proven: AtomicU32::new(first) })
    }

    /// The window of each stream now, in bytes.
    fn size(&self) -> u32 {
        self.windows.size(self.proven.load(Ordering::Relaxed))
    }

    /// Watches a body of this length. `None` for one that is too short to matter.
    pub(super) fn watch(self: &Arc<Self>, length: Option<u64>) -> Option<Watch> {
        length.is_none_or(|length| length > SHORT).then(|| {
            self.long.fetch_add(1, Ordering::Relaxed);
            Watch { flow: self.clone(), reserved: 0, taken: 0 }
        })
    }
}

/// One long body. It counts from the moment that something of it was taken until its reader waits for more: then
/// nothing of it is buffered, and a stream that is only open takes nothing from the others.
#[derive(Debug)]
pub(super) struct Watch {
    flow: Arc<Flow>,
    reserved: u32,
    taken: u64,
}

impl Watch {
    /// Looks at what polling the stream has brought.
    pub(super) fn saw(&mut self, bytes: Poll<usize>) {
        match bytes {
            Poll::Ready(bytes) => {
                self.taken += bytes as u64;
                if self.reserved == 0 {
                    self.reserved = self.flow.windows.grant(self.flow.proven.load(Ordering::Relaxed));
                }
            }
            Poll::Pending => self.drained(),
        }
    }

    fn drained(&mut self) {
        if self.reserved == 0 {
            return;
        }
        self.flow.windows.give_back(self.reserved as usize);
        self.reserved = 0;
        let proven = self.flow.proven.load(Ordering::Relaxed);
        if self.taken >= u64::from(proven) && proven < defaults::STREAM_WINDOW {
            let more = proven.saturating_mul(STEP).min(defaults::STREAM_WINDOW);
            self.flow.proven.store(more, Ordering::Relaxed);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.drained();
        if self.flow.long.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.flow.proven.store(self.flow.first, Ordering::Relaxed);
        }
    }
}

/// What one connection has told its far end.
pub(super) struct Told {
    flow: Arc<Flow>,
    size: u32,
    refused_since: Option<Instant>,
}

/// The far end does not acknowledge that its windows are smaller now.
#[derive(Debug, thiserror::Error)]
#[error("the far end does not acknowledge smaller windows")]
pub(crate) struct Deaf;

impl Told {
    pub(super) fn new(flow: Arc<Flow>) -> Self {
        Self { size: flow.size(), flow, refused_since: None }
    }

    /// What the connection begins with.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Tells the far end when the windows have changed. Larger ones are told late, so that a number that goes up and
    /// down by one does not become a conversation.
    ///
    /// # Errors
    /// [`Deaf`]
    pub(super) fn update(&mut self, tell: impl FnOnce(u32) -> Result<(), h2::Error>) -> Result<(), Deaf> {
        let size = self.flow.size();
        if size == self.size || size > self.size && size / STEP < self.size && size < defaults::STREAM_WINDOW
        {
            return Ok(());
        }
        if tell(size).is_ok() {
            (self.size, self.refused_since) = (size, None);
            return Ok(());
        }
        // The one before is not acknowledged yet.
        match self.refused_since.get_or_insert_with(Instant::now).elapsed() > ACKNOWLEDGED {
            true => Err(Deaf),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long body of which something was taken and then no more.
    fn stuck(flow: &Arc<Flow>) -> Watch {
        let mut watch = flow.watch(None).unwrap();
        watch.saw(Poll::Ready(1));
        watch
    }

    /// Lets a reader keep up until the windows are as large as they get.
    fn prove(flow: &Arc<Flow>) -> Watch {
        let mut watch = flow.watch(None).unwrap();
        for _ in 0..2 {
            watch.saw(Poll::Ready(defaults::STREAM_WINDOW as usize));
            watch.saw(Poll::Pending);
        }
        watch
    }

    #[test]
    fn all_windows_together_stay_within_the_budget() {
        for budget in [16 << 20, 256 << 20, 1 << 30] {
            let flow = Flow::new(Windows::new(budget), FIRST);
            let first = prove(&flow);
            let (mut held, mut sum) = (Vec::new(), 0);
            for count in 1..=16_384_usize {
                sum += flow.size() as usize;
                held.push(stuck(&flow));
                assert!(sum <= budget + count * LEAST as usize, "{count} bodies within {budget}: {sum}");
            }
            assert_eq!(flow.size(), LEAST);
            held.clear();
            assert_eq!(flow.windows.taken.load(Ordering::Relaxed), 0);
            drop(first);
            assert_eq!(flow.size(), FIRST);
        }
    }

    #[test]
    fn whoever_has_taken_a_share_leaves_the_rest() {
        let whole = Windows::new(256 << 20);
        let [one, other] = [(); 2].map(|()| Flow::new(whole.share(4), FIRST));
        let (_proven, _too) = (prove(&one), prove(&other));
        let held: Vec<_> = (0..1000).map(|_| stuck(&one)).collect();
        assert_eq!((one.size(), other.size()), (LEAST, defaults::STREAM_WINDOW));
        assert!(whole.taken.load(Ordering::Relaxed) <= (64 << 20) + 1000 * LEAST as usize);
        drop(held);
        assert_eq!((one.size(), whole.taken.load(Ordering::Relaxed)), (defaults::STREAM_WINDOW, 0));
    }

    #[test]
    fn only_what_may_wait_unread_counts() {
        let flow = Flow::new(Windows::new(1 << 20), FIRST);
        assert!(flow.watch(Some(SHORT)).is_none());
        let open: Vec<_> = (0..1000).map(|_| flow.watch(None).unwrap()).collect();
        assert_eq!(flow.size(), FIRST, "nothing has come on them");
        let [_one, mut two] = [stuck(&flow), stuck(&flow)];
        assert_eq!(flow.size(), FIRST / 2);
        two.saw(Poll::Pending);
        two.saw(Poll::Pending);
        assert_eq!(flow.size(), FIRST / 2);
        drop(open);
    }

    #[test]
    fn a_window_grows_for_a_reader_that_keeps_up_and_not_before() {
        let flow = Flow::new(Windows::new(256 << 20), FIRST);
        let mut watch = flow.watch(None).unwrap();
        watch.saw(Poll::Ready(FIRST as usize - 1));
        watch.saw(Poll::Pending);
        assert_eq!(flow.size(), FIRST);
        watch.saw(Poll::Ready(1));
        assert_eq!(flow.size(), FIRST, "it may still be stuck");
        watch.saw(Poll::Pending);
        assert_eq!(flow.size(), FIRST * STEP);
        drop(watch);
        assert_eq!(flow.size(), FIRST, "the next may be slow");
    }

    #[test]
    fn what_is_reserved_comes_back() {
        let windows = Windows::new(64 << 20);
        let reserved = windows.reserve(4 << 20);
        assert_eq!((reserved.bytes, windows.taken.load(Ordering::Relaxed)), (4 << 20, 4 << 20));
        drop(reserved);
        assert_eq!(windows.taken.load(Ordering::Relaxed), 0);
    }
}

//! A budget of the bytes that wait unread. [`super::stream_windows`] and [`super::uploads`] derive the windows of
//! HTTP/2 from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::observe::{Limit, Metrics};

/// The smallest window: one frame of the default size (RFC 9113 §4.2). With less, each frame would wait for the frame
/// before.
pub(super) const LEAST: u32 = 16 << 10;
/// The window of a connection that carries no long body takes at most this part of the free bytes.
const PARTS: usize = 4;

/// The bytes that may wait unread. Bytes taken from a share are taken from the whole as well.
#[derive(Debug)]
pub struct ReceiveBudget {
    taken: AtomicUsize,
    size: usize,
    whole: Option<Arc<Self>>,
    metrics: Option<Arc<Metrics>>,
}

impl ReceiveBudget {
    /// At most `size` bytes, beside `LEAST` for each stream.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), size, whole: None, metrics: None })
    }

    /// The same, with metrics that count when the budget is short.
    pub fn with_metrics(size: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), size, whole: None, metrics: Some(metrics) })
    }

    /// One of `parts` equal shares. More shares than `parts` may be made: the whole is first come, first served.
    pub fn share(self: &Arc<Self>, parts: usize) -> Arc<Self> {
        let (whole, metrics) = (Some(self.clone()), self.metrics.clone());
        Arc::new(Self { taken: AtomicUsize::new(0), size: self.size / parts, whole, metrics })
    }

    /// The metrics that count when limits are reached.
    pub(crate) fn metrics(&self) -> Option<Arc<Metrics>> {
        self.metrics.clone()
    }

    /// Counts that the budget is short: a window had to become the smallest one.
    pub(super) fn report_short(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.reached(Limit::Buffers, &format_args!("{} of {} bytes", self.taken(), self.size));
        }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The bytes that can still be taken from this budget and from the whole.
    pub(super) fn free(&self) -> usize {
        let own = self.size.saturating_sub(self.taken());
        self.whole.as_ref().map_or(own, |whole| own.min(whole.free()))
    }

    /// The window of a connection that takes its first bytes from the budget, up to `most`.
    pub(super) fn first_window(&self, most: u32) -> u32 {
        window_within(self.free() / PARTS, most)
    }

    pub(super) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.take(bytes);
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

/// The largest window of at most `bytes` and `most`: a power of two, so that it changes seldom.
pub(super) fn window_within(bytes: usize, most: u32) -> u32 {
    1 << bytes.min(most as usize).max(LEAST as usize).ilog2()
}

#[cfg(test)]
impl ReceiveBudget {
    /// The bytes taken from this budget, and from the whole if this is a share.
    pub(super) fn both_taken(&self) -> (usize, usize) {
        (self.taken(), self.whole.as_ref().map_or(0, |whole| whole.taken()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_share_leaves_the_rest_to_other_shares() {
        let whole = ReceiveBudget::new(256 << 20);
        let [one, other] = [(); 2].map(|()| whole.share(4));
        one.take(64 << 20);
        assert_eq!((one.first_window(8 << 20), other.first_window(8 << 20)), (LEAST, 8 << 20));
        assert_eq!((one.free(), other.free()), (0, 64 << 20));
        other.take(192 << 20);
        assert_eq!(whole.share(4).first_window(8 << 20), LEAST, "the whole is short");
        one.give_back(64 << 20);
        assert_eq!((one.first_window(8 << 20), other.first_window(8 << 20)), (8 << 20, LEAST));
        assert_eq!(one.both_taken(), (0, 192 << 20));
    }
}

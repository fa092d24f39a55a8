//! An account of the bytes that wait unread. [`super::flow`] and [`super::room`] derive the windows of HTTP/2 from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::observe::{Limit, Metrics};

/// The smallest window: one frame of the default size (RFC 9113 §4.2). With less, each frame would wait for the frame
/// before.
pub(super) const LEAST: u32 = 16 << 10;
/// One window takes at most this part of the free bytes, so that some are always left for the next.
const PARTS: usize = 4;

/// An account of the bytes that may wait unread. Bytes taken from a share are taken from the whole as well. A window
/// must fit into the free bytes of its share and of the whole.
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

    /// The same, with metrics that count when the account is short.
    pub fn watched(budget: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), budget, whole: None, metrics: Some(metrics) })
    }

    /// One of `parts` equal shares. More shares than `parts` may be made: the whole is first come, first served.
    pub fn share(self: &Arc<Self>, parts: usize) -> Arc<Self> {
        let budget = self.budget / parts;
        let (whole, metrics) = (Some(self.clone()), self.metrics.clone());
        Arc::new(Self { taken: AtomicUsize::new(0), budget, whole, metrics })
    }

    /// The metrics that count when limits are reached.
    pub(crate) fn metrics(&self) -> Option<Arc<Metrics>> {
        self.metrics.clone()
    }

    /// Counts that the account is short: the next window is smaller than the initial window of HTTP/2.
    pub(super) fn is_short(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.reached(Limit::Buffers, &format_args!("{} of {} bytes", self.taken(), self.budget));
        }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn free(&self) -> usize {
        self.budget.saturating_sub(self.taken())
    }

    /// The next window that the account allows, in bytes, up to `most`: a power of two, so that it changes seldom.
    pub(super) fn size(&self, most: u32) -> u32 {
        let part = (self.free() / PARTS).min(most as usize).max(LEAST as usize);
        let own = 1 << part.ilog2();
        self.whole.as_ref().map_or(own, |whole| own.min(whole.size(most)))
    }

    /// Whether `cost` bytes can be taken and the next window can still be `size`.
    pub(super) fn affords(&self, cost: usize, size: u32) -> bool {
        let own = self.free().checked_sub(cost).is_some_and(|left| left / PARTS >= size as usize);
        own && self.whole.as_ref().is_none_or(|whole| whole.affords(cost, size))
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

#[cfg(test)]
impl Windows {
    /// The bytes taken from this account, and from the whole if this is a share.
    pub(super) fn both_taken(&self) -> (usize, usize) {
        (self.taken(), self.whole.as_ref().map_or(0, |whole| whole.taken()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_share_does_not_reduce_the_other_shares() {
        let whole = Windows::new(256 << 20);
        let [one, other] = [(); 2].map(|()| whole.share(4));
        one.take(64 << 20);
        assert_eq!((one.size(8 << 20), other.size(8 << 20)), (LEAST, 8 << 20));
        assert!(!one.affords(1, LEAST) && other.affords(32 << 20, 8 << 20));
        other.take(192 << 20);
        assert_eq!(whole.share(4).size(8 << 20), LEAST, "the whole is short");
        one.give_back(64 << 20);
        assert_eq!((one.size(8 << 20), other.size(8 << 20)), (8 << 20, LEAST));
        assert_eq!(one.both_taken(), (0, 192 << 20));
    }
}

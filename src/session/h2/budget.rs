//! A budget of the bytes that wait unread. [`super::stream_windows`] and [`super::uploads`] derive the windows of
//! HTTP/2 from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::defaults;
use crate::observe::{Limit, LimitObserver};

/// The smallest window: one frame of the default size (RFC 9113 §4.2). With less, each frame would wait for the frame
/// before.
pub(super) const LEAST: u32 = 16 << 10;

/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const WINDOW_MOST: u32 = (1 << 31) - 1;

/// The bytes that may wait unread. Bytes taken from a share are taken from its parent as well.
#[derive(Debug)]
pub struct ReceiveBudget {
    taken: AtomicUsize,
    size: usize,
    parent: Option<Arc<Self>>,
    observer: Option<Arc<dyn LimitObserver>>,
}

impl ReceiveBudget {
    /// At most `size` bytes, beside `LEAST` for each stream.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), size, parent: None, observer: None })
    }

    /// The same, with an observer of the times when the budget is short.
    pub fn observed(size: usize, observer: Arc<dyn LimitObserver>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), size, parent: None, observer: Some(observer) })
    }

    /// One of `parts` equal shares. More shares than `parts` may be made: they compete for the bytes of the parent.
    pub fn share(self: &Arc<Self>, parts: usize) -> Arc<Self> {
        let (parent, observer) = (Some(self.clone()), self.observer.clone());
        Arc::new(Self { taken: AtomicUsize::new(0), size: self.size / parts, parent, observer })
    }

    /// The observer of limits.
    pub(crate) fn observer(&self) -> Option<Arc<dyn LimitObserver>> {
        self.observer.clone()
    }

    /// Reports that the budget is short: a window had to become the smallest one.
    pub(super) fn report_short(&self) {
        if let Some(observer) = &self.observer {
            observer.reached(Limit::Buffers, &format_args!("{} of {} bytes", self.taken(), self.size));
        }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The bytes that can still be taken from this budget and from its parent.
    pub(super) fn free(&self) -> usize {
        let own = self.size.saturating_sub(self.taken());
        self.parent.as_ref().map_or(own, |parent| own.min(parent.free()))
    }

    /// The bytes that bodies may take whose readers have not kept up yet: a quarter of the budget.
    pub(super) fn free_for_new(&self) -> usize {
        self.free().saturating_sub(self.size / 4 * 3)
    }

    /// The window of a connection: all that its streams may leave unread, if the far end follows their windows. A far end
    /// that does not follow them fills no more.
    pub(super) fn connection_window(&self) -> u32 {
        let most = self.size.saturating_add(defaults::STREAMS as usize * LEAST as usize);
        u32::try_from(most).map_or(WINDOW_MOST, |most| most.min(WINDOW_MOST))
    }

    pub(super) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.take(bytes);
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// The largest window of at most `bytes` and `most`: a power of two, so that it changes seldom.
pub(super) fn window_within(bytes: usize, most: u32) -> u32 {
    1 << bytes.min(most as usize).max(LEAST as usize).ilog2()
}

#[cfg(test)]
impl ReceiveBudget {
    /// The bytes taken from this budget, and from its parent if this is a share.
    pub(super) fn both_taken(&self) -> (usize, usize) {
        (self.taken(), self.parent.as_ref().map_or(0, |parent| parent.taken()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_share_leaves_the_rest_to_other_shares() {
        let parent = ReceiveBudget::new(256 << 20);
        let [one, other] = [(); 2].map(|()| parent.share(4));
        one.take(64 << 20);
        assert_eq!((one.free(), other.free()), (0, 64 << 20));
        assert_eq!((one.free_for_new(), other.free_for_new()), (0, 16 << 20));
        other.take(192 << 20);
        assert_eq!(parent.share(4).free(), 0, "the parent is short");
        one.give_back(64 << 20);
        assert_eq!((one.free(), other.free()), (64 << 20, 0));
        assert_eq!(one.both_taken(), (0, 192 << 20));
    }
}

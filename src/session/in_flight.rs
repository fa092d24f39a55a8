//! The requests in flight on a link, and whether the link is retired, in one atomic. So the end of the last request and
//! the retirement of the link cannot miss each other. tests/models.rs compiles this file with the atomics of loom,
//! which tries every interleaving and every reordering that the memory model allows.

use super::atomic::{AtomicUsize, Ordering};

/// Set when the link is retired. The other bits are the requests in flight.
const RETIRED: usize = 1 << (usize::BITS - 1);

/// See the module.
pub(crate) struct InFlight(AtomicUsize);

impl InFlight {
    /// A link in use, with no request in flight.
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Requests in flight.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire) & !RETIRED
    }

    /// Whether the link is retired.
    pub(crate) fn is_retired(&self) -> bool {
        self.0.load(Ordering::Acquire) & RETIRED != 0
    }

    /// Counts one request more, unless `most` are in flight or the link is retired. True if the request was counted.
    pub(crate) fn enter(&self, most: usize) -> bool {
        // `most` is below `RETIRED`, so that a retired link takes no request.
        let more = |state| (state < most).then_some(state + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one request less. True if that was the last request of a retired link.
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == RETIRED | 1
    }

    /// Retires the link. True if it was not retired before.
    pub(crate) fn retire(&self) -> bool {
        self.0.fetch_or(RETIRED, Ordering::AcqRel) & RETIRED == 0
    }
}

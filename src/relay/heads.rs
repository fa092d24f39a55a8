//! The memory of request heads. A head stays in memory until its answer begins, at the relay and at the agent, and a
//! slow service keeps many of them. So large heads in flight are charged to one budget of the relay.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::defaults;

/// The unit of the budget, in bytes.
const UNIT: usize = 1 << 10;

/// The budget, in units.
pub(super) struct HeadBudget {
    room: Arc<Semaphore>,
    /// The heads that wait for room are in memory too.
    queue: Arc<Semaphore>,
}

/// The charge of one head. A drop returns it. A small head is not charged, so most requests touch no shared counter.
pub(super) type HeadCharge = Option<OwnedSemaphorePermit>;

impl HeadBudget {
    /// At most `size` bytes of large heads in flight, and [`defaults::HEADS_QUEUE`] of them that wait for room.
    pub(super) fn new(size: usize) -> Self {
        // A single head always fits.
        let units = |size: usize| Arc::new(Semaphore::new((size / UNIT).max(units_of(defaults::HEAD_MOST))));
        Self { room: units(size), queue: units(defaults::HEADS_QUEUE) }
    }

    /// Charges a head of this [weight](crate::message::framing::weight), and waits up to [`defaults::HEADS_WAIT`] for room. `None` when
    /// there is no room. Cancel safe.
    pub(super) async fn charge(&self, weight: usize) -> Option<HeadCharge> {
        if weight <= defaults::SMALL_HEAD {
            return Some(None);
        }
        let units = units_of(weight.min(defaults::HEAD_MOST)) as u32;
        match self.room.clone().try_acquire_many_owned(units) {
            Ok(permit) => Some(Some(permit)),
            // Boxed, because this case is rare, and would enlarge the future of every visitor.
            Err(_) => Box::pin(self.wait(units)).await.map(Some),
        }
    }

    async fn wait(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let _queued = self.queue.try_acquire_many(units).ok()?;
        let room = self.room.clone().acquire_many_owned(units);
        tokio::time::timeout(defaults::HEADS_WAIT, room).await.ok()?.ok()
    }
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LARGE: usize = 60 << 10;

    #[tokio::test(start_paused = true)]
    async fn a_head_beyond_the_budget_waits_and_is_then_refused() {
        let budget = HeadBudget::new(1 << 20);
        let mut held = Vec::new();
        while let Some(charge) = budget.charge(LARGE).await {
            held.push(charge);
        }
        let began = Instant::now();
        assert!((15..18).contains(&held.len()), "{}", held.len());
        assert!(budget.charge(100).await.unwrap().is_none(), "a small head needs no room");
        let (charged, ()) = tokio::join!(budget.charge(LARGE), async { drop(held.pop()) });
        assert!(charged.is_some() && began.elapsed().is_zero(), "the room of the other head is free");
        assert!(budget.charge(LARGE).await.is_none());
        assert_eq!(began.elapsed(), defaults::HEADS_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let budget = HeadBudget::new(0);
        let _held: Vec<_> = std::iter::repeat_with(|| budget.room.clone().try_acquire_owned())
            .take_while(Result::is_ok)
            .collect();
        let began = Instant::now();
        let all = futures_util::future::join_all((0..1_000).map(|_| async {
            assert!(budget.charge(LARGE).await.is_none());
            began.elapsed()
        }));
        let waited = all.await.into_iter().filter(|waited| !waited.is_zero()).count();
        assert!((1..=defaults::HEADS_QUEUE / LARGE).contains(&waited), "{waited}");
    }
}

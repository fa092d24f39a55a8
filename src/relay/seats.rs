//! Seats for connections, limited in total and per address, so that one address cannot have them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::newcomers::{Busy, Newcomer};
use crate::policy::Source;

/// See the module.
pub(super) struct Seats {
    all: Arc<Semaphore>,
    per_address: usize,
    /// The number of seats of each address.
    taken: Mutex<HashMap<Source, usize>>,
}

impl Seats {
    pub(super) fn new(all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(all)), per_address, taken: Mutex::default() })
    }

    /// A seat, unless all are taken. Its address may be known only later: see `is_for`.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Seat> {
        let one = self.all.clone().try_acquire_owned().ok()?;
        Some(Seat { seats: self.clone(), of: None, place: SeatKind::Own(one) })
    }

    /// A seat for a connection that is beyond the limit.
    pub(super) fn beside(self: &Arc<Self>, newcomer: Newcomer) -> Seat {
        Seat { seats: self.clone(), of: None, place: SeatKind::Newcomer(newcomer) }
    }
}

/// The seat of one connection. A drop frees it.
pub(super) struct Seat {
    seats: Arc<Seats>,
    of: Option<Source>,
    place: SeatKind,
}

enum SeatKind {
    Own(#[expect(dead_code, reason = "kept for its drop")] OwnedSemaphorePermit),
    Newcomer(Newcomer),
}

impl Seat {
    /// Whether only an agent may keep it.
    pub(super) fn is_newcomers(&self) -> bool {
        matches!(self.place, SeatKind::Newcomer(_))
    }

    /// Resolves when a newcomer's connection is to be closed; `None` for the seat of a visitor.
    pub(super) fn leaves(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        match &self.place {
            SeatKind::Own(_) => None,
            SeatKind::Newcomer(newcomer) => Some(newcomer.leaves()),
        }
    }

    /// Marks an agent's request as in progress: until the guard is dropped, no other connection takes a newcomer's
    /// place.
    pub(super) fn busy(&self) -> Option<Busy> {
        match &self.place {
            SeatKind::Own(_) => None,
            SeatKind::Newcomer(newcomer) => Some(newcomer.busy()),
        }
    }

    /// Counts the seat for this address; returns `false` if the address has as many as it may have.
    pub(super) fn is_for(&mut self, address: IpAddr) -> bool {
        let source = Source::from(address);
        let mut taken = self.seats.taken.lock();
        let count = taken.entry(source).or_default();
        let free = *count < self.seats.per_address;
        if free {
            *count += 1;
            self.of = Some(source);
        }
        free
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(source) = self.of else { return };
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_seats() {
        let seats = Seats::new(4, 2);
        let enter = |address: &str| {
            let mut seat = seats.enter().unwrap();
            seat.is_for(address.parse().unwrap()).then_some(seat)
        };
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none());
        let others = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(others.iter().all(Option::is_some) && seats.enter().is_none());
        drop((held, others));
        assert!(enter("192.0.2.1").is_some());
        assert!(seats.taken.lock().is_empty());
    }
}

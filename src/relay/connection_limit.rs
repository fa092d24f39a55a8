//! Permits for connections, limited in total and per address, so that one address cannot have them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::newcomers::{Busy, Newcomer};
use crate::policy::Source;

/// See the module.
pub(super) struct ConnectionLimit {
    all: Arc<Semaphore>,
    per_address: usize,
    /// The number of connection permits of each address.
    taken: Mutex<HashMap<Source, usize>>,
}

impl ConnectionLimit {
    pub(super) fn new(all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(all)), per_address, taken: Mutex::default() })
    }

    /// A connection permit, unless all are taken. Its address may be known only later: see `is_for`.
    pub(super) fn enter(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let one = self.all.clone().try_acquire_owned().ok()?;
        Some(ConnectionPermit { connection_limit: self.clone(), of: None, place: PermitKind::Own(one) })
    }

    /// A connection permit for a connection that is beyond the limit.
    pub(super) fn beside(self: &Arc<Self>, newcomer: Newcomer) -> ConnectionPermit {
        ConnectionPermit { connection_limit: self.clone(), of: None, place: PermitKind::Newcomer(newcomer) }
    }
}

/// The connection permit of one connection. A drop frees it.
pub(super) struct ConnectionPermit {
    connection_limit: Arc<ConnectionLimit>,
    of: Option<Source>,
    place: PermitKind,
}

enum PermitKind {
    Own(#[expect(dead_code, reason = "kept for its drop")] OwnedSemaphorePermit),
    Newcomer(Newcomer),
}

impl ConnectionPermit {
    /// Whether only an agent may keep it.
    pub(super) fn is_newcomers(&self) -> bool {
        matches!(self.place, PermitKind::Newcomer(_))
    }

    /// Resolves when a newcomer's connection is to be closed; `None` for the connection permit of a visitor.
    pub(super) fn leaves(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        match &self.place {
            PermitKind::Own(_) => None,
            PermitKind::Newcomer(newcomer) => Some(newcomer.leaves()),
        }
    }

    /// Marks an agent's request as in progress: until the guard is dropped, no other connection takes a newcomer's
    /// place.
    pub(super) fn busy(&self) -> Option<Busy> {
        match &self.place {
            PermitKind::Own(_) => None,
            PermitKind::Newcomer(newcomer) => Some(newcomer.busy()),
        }
    }

    /// Counts the connection permit for this address; returns `false` if the address has as many as it may have.
    pub(super) fn is_for(&mut self, address: IpAddr) -> bool {
        let source = Source::from(address);
        let mut taken = self.connection_limit.taken.lock();
        let count = taken.entry(source).or_default();
        let free = *count < self.connection_limit.per_address;
        if free {
            *count += 1;
            self.of = Some(source);
        }
        free
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(source) = self.of else { return };
        let mut taken = self.connection_limit.taken.lock();
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
        let connection_limit = ConnectionLimit::new(4, 2);
        let enter = |address: &str| {
            let mut connection_permit = connection_limit.enter().unwrap();
            connection_permit.is_for(address.parse().unwrap()).then_some(connection_permit)
        };
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none());
        let others = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(others.iter().all(Option::is_some) && connection_limit.enter().is_none());
        drop((held, others));
        assert!(enter("192.0.2.1").is_some());
        assert!(connection_limit.taken.lock().is_empty());
    }
}

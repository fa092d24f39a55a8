//! Permits for connections, limited in total and per address, so that one address cannot have them all. The connections
//! that only linger after their last answer are limited as well.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::newcomers::{Busy, Newcomer};
use crate::defaults;
use crate::net::flag::Flag;
use crate::net::linger::LingerPlace;
use crate::observe::Metrics;
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

    /// A connection permit, unless all are taken. Its address may be known only later: see
    /// [`ConnectionPermit::try_assign`].
    pub(super) fn enter(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let kind = PermitKind::Own(permit);
        Some(ConnectionPermit { connection_limit: self.clone(), source: None, kind })
    }

    /// A connection permit for a connection that is beyond the limit.
    pub(super) fn beyond_limit(self: &Arc<Self>, newcomer: Newcomer) -> ConnectionPermit {
        let kind = PermitKind::Newcomer(newcomer);
        ConnectionPermit { connection_limit: self.clone(), source: None, kind }
    }
}

/// The connection permit of one connection. A drop frees it.
pub(super) struct ConnectionPermit {
    connection_limit: Arc<ConnectionLimit>,
    /// The address for which the permit is counted.
    source: Option<Source>,
    kind: PermitKind,
}

enum PermitKind {
    Own(#[expect(dead_code, reason = "kept for its drop")] OwnedSemaphorePermit),
    Newcomer(Newcomer),
}

impl ConnectionPermit {
    /// Whether only an agent may keep the connection.
    pub(super) fn is_newcomer(&self) -> bool {
        matches!(self.kind, PermitKind::Newcomer(_))
    }

    /// Resolves when a newcomer's connection is to be closed; `None` for the connection permit of a visitor.
    pub(super) fn must_close(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        match &self.kind {
            PermitKind::Own(_) => None,
            PermitKind::Newcomer(newcomer) => Some(newcomer.must_close()),
        }
    }

    /// Marks an agent's request as in progress: until the guard is dropped, no other connection takes a newcomer's
    /// place.
    pub(super) fn busy(&self) -> Option<Busy> {
        match &self.kind {
            PermitKind::Own(_) => None,
            PermitKind::Newcomer(newcomer) => Some(newcomer.busy()),
        }
    }

    /// Counts the connection permit for this address; returns `false` if the address has reached its limit.
    pub(super) fn try_assign(&mut self, address: IpAddr) -> bool {
        let source = Source::from(address);
        let mut taken = self.connection_limit.taken.lock();
        let count = taken.entry(source).or_default();
        let free = *count < self.connection_limit.per_address;
        if free {
            *count += 1;
            self.source = Some(source);
        }
        free
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut taken = self.connection_limit.taken.lock();
        if let Some(count) = taken.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&source);
            }
        }
    }
}

/// The connections that linger: a visitor has its last answer, and its upload is still being discarded. If all places
/// are taken, the connection that has lingered longest loses its place and is closed.
pub(super) struct LingerLimit {
    most: usize,
    metrics: Arc<Metrics>,
    /// The longest lingering connection first.
    lingering: Mutex<VecDeque<Arc<Flag>>>,
}

impl LingerLimit {
    /// A limit for a relay with this many public connections.
    pub(super) fn new(connections: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let most = (connections / defaults::LINGER_SHARE).max(1);
        Arc::new(Self { most, metrics, lingering: Mutex::default() })
    }

    pub(super) fn enter(self: &Arc<Self>) -> LingerPlace {
        let evict = Arc::<Flag>::default();
        let mut lingering = self.lingering.lock();
        let oldest = if lingering.len() >= self.most { lingering.pop_front() } else { None };
        lingering.push_back(evict.clone());
        drop(lingering);
        if let Some(oldest) = oldest {
            oldest.raise();
        }
        let counted = self.metrics.visitor_lingers();
        let (evicted, limit) = (Some(evict.clone()), self.clone());
        LingerPlace { evicted, guard: Some(Box::new((counted, LingerGuard { limit, evict }))) }
    }
}

struct LingerGuard {
    limit: Arc<LingerLimit>,
    evict: Arc<Flag>,
}

impl Drop for LingerGuard {
    fn drop(&mut self) {
        self.limit.lingering.lock().retain(|evict| !Arc::ptr_eq(evict, &self.evict));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_connection_that_has_lingered_longest_loses_its_place() {
        let metrics = Arc::<Metrics>::default();
        let limit = LingerLimit::new(40, metrics.clone());
        let counts = |count: usize| {
            let text = metrics.text();
            assert!(text.contains(&format!("\nptth_lingering_connections {count}\n")), "{text}");
        };
        let is_evicted = |place: &LingerPlace| place.evicted().now_or_never().is_some();
        let [first, second] = [limit.enter(), limit.enter()];
        counts(2);
        assert!(!is_evicted(&first) && !is_evicted(&second));
        let third = limit.enter();
        assert!(is_evicted(&first) && !is_evicted(&second), "5 % of 40 are 2");
        drop((first, third));
        counts(1);
        let _fourth = limit.enter();
        assert!(!is_evicted(&second), "a place is free");
        assert_eq!(limit.lingering.lock().len(), 2);
    }

    #[test]
    fn one_address_cannot_take_all_seats() {
        let connection_limit = ConnectionLimit::new(4, 2);
        let enter = |address: &str| {
            let mut connection_permit = connection_limit.enter().unwrap();
            connection_permit.try_assign(address.parse().unwrap()).then_some(connection_permit)
        };
        let permits = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(permits.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none());
        let others = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(others.iter().all(Option::is_some) && connection_limit.enter().is_none());
        drop((permits, others));
        assert!(enter("192.0.2.1").is_some());
        assert!(connection_limit.taken.lock().is_empty());
    }
}

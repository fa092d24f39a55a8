//! Newcomers: connections that arrive when visitors have all the connections that they may have. Only an agent may keep
//! such a connection. The relay closes it after [`defaults::HANDSHAKE`] without a request of an agent, or earlier if
//! all places are taken and another newcomer arrives. So idle visitors cannot keep agents out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;
use crate::net::flag::Flag;

/// See the module.
pub(super) struct Newcomers {
    most: usize,
    table: Mutex<NewcomerTable>,
}

#[derive(Default)]
struct NewcomerTable {
    next: u64,
    /// The open connections, also those that have lost their place.
    connections: usize,
    /// The newcomers without a request of an agent in progress, the longest idle first.
    idle: VecDeque<Idle>,
}

struct Idle {
    id: u64,
    since: Instant,
    close: Arc<Flag>,
}

impl Newcomers {
    /// `most` places for at most twice as many connections: a connection that has lost its place needs a moment to
    /// close.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), table: Mutex::default() })
    }

    /// A place. If all are taken, the connection that has been idle longest loses its place.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Newcomer> {
        let mut table = self.table.lock();
        if table.connections >= 2 * self.most {
            return None;
        }
        let longest_idle = if table.connections >= self.most { table.idle.pop_front() } else { None };
        let (id, close) = (table.next, Arc::<Flag>::default());
        table.next += 1;
        table.connections += 1;
        table.idle.push_back(Idle { id, since: Instant::now(), close: close.clone() });
        drop(table);
        if let Some(longest_idle) = longest_idle {
            longest_idle.close.raise();
        }
        let (newcomers, busy) = (self.clone(), AtomicUsize::new(0));
        Some(Newcomer { place: Arc::new(NewcomerPlace { newcomers, id, close, busy }) })
    }
}

/// The place of one connection. It is free again when this value and its guards have been dropped.
pub(super) struct Newcomer {
    place: Arc<NewcomerPlace>,
}

struct NewcomerPlace {
    newcomers: Arc<Newcomers>,
    id: u64,
    close: Arc<Flag>,
    /// Requests of an agent in progress; changed under the lock of the table.
    busy: AtomicUsize,
}

impl Newcomer {
    /// Marks a request of an agent as in progress until the guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        let mut table = self.place.newcomers.table.lock();
        self.place.busy.fetch_add(1, Ordering::Relaxed);
        table.idle.retain(|idle| idle.id != self.place.id);
        Busy { place: self.place.clone() }
    }

    /// Resolves when the connection is to be closed. Cancel safe.
    pub(super) fn must_close(&self) -> impl Future<Output = ()> + Send + use<> {
        let (newcomers, id) = (self.place.newcomers.clone(), self.place.id);
        let mut close = self.place.close.listen();
        async move {
            loop {
                let since =
                    newcomers.table.lock().idle.iter().find(|idle| idle.id == id).map(|idle| idle.since);
                let deadline = since.unwrap_or_else(Instant::now) + defaults::HANDSHAKE;
                if deadline <= Instant::now() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = &mut close => return,
                    () = tokio::time::sleep_until(deadline) => {}
                }
            }
        }
    }
}

/// A request of an agent in progress on a newcomer's connection. There may be several at once.
pub(super) struct Busy {
    place: Arc<NewcomerPlace>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let NewcomerPlace { newcomers, id, close, busy } = &*self.place;
        let mut table = newcomers.table.lock();
        if busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            table.idle.push_back(Idle { id: *id, since: Instant::now(), close: close.clone() });
        }
    }
}

impl Drop for NewcomerPlace {
    fn drop(&mut self) {
        let mut table = self.newcomers.table.lock();
        table.connections -= 1;
        table.idle.retain(|idle| idle.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_newcomer_loses_its_place_to_the_next() {
        let newcomers = Newcomers::new(2);
        let [first, second] = [newcomers.enter().unwrap(), newcomers.enter().unwrap()];
        let busy = first.busy();
        drop(first.busy());
        let third = newcomers.enter().unwrap();
        assert!(second.must_close().now_or_never().is_some(), "it was idle longest");
        assert!(first.must_close().now_or_never().is_none() && third.must_close().now_or_never().is_none());
        let fourth = newcomers.enter().unwrap();
        assert!(newcomers.enter().is_none(), "the connections that lost their places are still open");
        drop((second, third));
        drop(busy);
        let fifth = newcomers.enter().unwrap();
        assert!(fourth.must_close().now_or_never().is_some() && first.must_close().now_or_never().is_none());
        drop((first, fourth, fifth));
        let table = newcomers.table.lock();
        assert_eq!((table.connections, table.idle.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_without_an_agents_request_is_closed_in_time() {
        let newcomers = Newcomers::new(2);
        let (idle, busy) = (newcomers.enter().unwrap(), newcomers.enter().unwrap());
        let request = busy.busy();
        let began = Instant::now();
        idle.must_close().await;
        assert_eq!(began.elapsed(), defaults::HANDSHAKE);
        let closed = tokio::time::timeout(10 * defaults::HANDSHAKE, busy.must_close()).await;
        assert!(closed.is_err(), "its agent waits for a request");
        drop(request);
        let began = Instant::now();
        busy.must_close().await;
        assert_eq!(began.elapsed(), defaults::HANDSHAKE);
    }
}

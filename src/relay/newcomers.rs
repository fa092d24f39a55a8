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
    inside: usize,
    /// The newcomers without a request of an agent in progress, the longest idle first.
    idle: VecDeque<Idle>,
}

struct Idle {
    id: u64,
    since: Instant,
    leave: Arc<Flag>,
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
        if table.inside >= 2 * self.most {
            return None;
        }
        let longest = if table.inside >= self.most { table.idle.pop_front() } else { None };
        let (id, leave) = (table.next, Arc::<Flag>::default());
        table.next += 1;
        table.inside += 1;
        table.idle.push_back(Idle { id, since: Instant::now(), leave: leave.clone() });
        drop(table);
        if let Some(longest) = longest {
            longest.leave.raise();
        }
        let (all, busy) = (self.clone(), AtomicUsize::new(0));
        Some(Newcomer { place: Arc::new(NewcomerPlace { all, id, leave, busy }) })
    }
}

/// The place of one connection. It is free again when this value and its guards have been dropped.
pub(super) struct Newcomer {
    place: Arc<NewcomerPlace>,
}

struct NewcomerPlace {
    all: Arc<Newcomers>,
    id: u64,
    leave: Arc<Flag>,
    /// Requests of an agent in progress; changed under the lock of the table.
    busy: AtomicUsize,
}

impl Newcomer {
    /// Marks a request of an agent as in progress until the guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        let mut table = self.place.all.table.lock();
        self.place.busy.fetch_add(1, Ordering::Relaxed);
        table.idle.retain(|idle| idle.id != self.place.id);
        Busy { place: self.place.clone() }
    }

    /// Resolves when the connection is to be closed. Cancel safe.
    pub(super) fn leaves(&self) -> impl Future<Output = ()> + Send + use<> {
        let (all, id, mut leave) = (self.place.all.clone(), self.place.id, self.place.leave.listen());
        async move {
            loop {
                let since = all.table.lock().idle.iter().find(|idle| idle.id == id).map(|idle| idle.since);
                let until = since.unwrap_or_else(Instant::now) + defaults::HANDSHAKE;
                if until <= Instant::now() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = &mut leave => return,
                    () = tokio::time::sleep_until(until) => {}
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
        let NewcomerPlace { all, id, leave, busy } = &*self.place;
        let mut table = all.table.lock();
        if busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            table.idle.push_back(Idle { id: *id, since: Instant::now(), leave: leave.clone() });
        }
    }
}

impl Drop for NewcomerPlace {
    fn drop(&mut self) {
        let mut table = self.all.table.lock();
        table.inside -= 1;
        table.idle.retain(|idle| idle.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_newcomer_loses_its_place_to_the_next() {
        let all = Newcomers::new(2);
        let [first, second] = [all.enter().unwrap(), all.enter().unwrap()];
        let busy = first.busy();
        drop(first.busy());
        let third = all.enter().unwrap();
        assert!(second.leaves().now_or_never().is_some(), "it was idle longest");
        assert!(first.leaves().now_or_never().is_none() && third.leaves().now_or_never().is_none());
        let fourth = all.enter().unwrap();
        assert!(all.enter().is_none(), "the connections that lost their places are still open");
        drop((second, third));
        drop(busy);
        let fifth = all.enter().unwrap();
        assert!(fourth.leaves().now_or_never().is_some() && first.leaves().now_or_never().is_none());
        drop((first, fourth, fifth));
        let table = all.table.lock();
        assert_eq!((table.inside, table.idle.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_without_an_agents_request_is_closed_in_time() {
        let all = Newcomers::new(2);
        let (idle, busy) = (all.enter().unwrap(), all.enter().unwrap());
        let request = busy.busy();
        let began = Instant::now();
        idle.leaves().await;
        assert_eq!(began.elapsed(), defaults::HANDSHAKE);
        let stays = tokio::time::timeout(10 * defaults::HANDSHAKE, busy.leaves()).await;
        assert!(stays.is_err(), "its agent waits for a request");
        drop(request);
        let began = Instant::now();
        busy.leaves().await;
        assert_eq!(began.elapsed(), defaults::HANDSHAKE);
    }
}

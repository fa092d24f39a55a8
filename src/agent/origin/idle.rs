//! Idle connections: the most recently used last, closed when they have been idle for too long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::net::Scope;

/// A bounded list of idle connections. When it is full, the least recently used connection is closed. A task closes
/// old connections; it runs only while the list has connections.
pub(super) struct IdleList<T> {
    list: Mutex<IdleListState<T>>,
    most: usize,
    idle_for: Duration,
    scope: Scope,
}

struct IdleListState<T> {
    idle: VecDeque<IdleConnection<T>>,
    swept: bool,
}

struct IdleConnection<T> {
    connection: T,
    since: Instant,
}

impl<T: Send + 'static> IdleList<T> {
    /// A list of at most `most` connections, none of which is idle for longer than `idle_for`.
    pub(super) fn new(most: usize, idle_for: Duration, scope: Scope) -> Arc<Self> {
        let list = Mutex::new(IdleListState { idle: VecDeque::new(), swept: false });
        Arc::new(Self { list, most, idle_for, scope })
    }

    /// Takes the connection that was used last among those that `matches` accepts, and returns how long it was idle.
    pub(super) fn take(&self, mut matches: impl FnMut(&T) -> bool) -> Option<(T, Duration)> {
        let idle = &mut self.list.lock().idle;
        let index = idle.iter().rposition(|idle| matches(&idle.connection))?;
        let IdleConnection { connection, since } = idle.remove(index)?;
        let idle_for = since.elapsed();
        (idle_for < self.idle_for).then_some((connection, idle_for))
    }

    /// Puts a connection in the list. After a stop of the scope the connection is closed instead.
    pub(super) fn put(self: &Arc<Self>, connection: T) {
        let mut list = self.list.lock();
        // Checked under the lock: either the sweep of a stop has not taken the lock yet and will clear this connection,
        // or the stop is visible here.
        if self.scope.is_stopping() {
            return;
        }
        if list.idle.len() >= self.most {
            list.idle.pop_front();
        }
        list.idle.push_back(IdleConnection { connection, since: Instant::now() });
        if !std::mem::replace(&mut list.swept, true) {
            drop(list);
            self.scope.spawn(self.clone().sweep());
        }
    }

    /// Closes the least recently used connection. `false` if no connection is idle.
    pub(super) fn close_oldest(&self) -> bool {
        self.list.lock().idle.pop_front().is_some()
    }

    /// Closes old connections until none is left. When the scope stops, closes all connections, so that the stop need
    /// not wait for them.
    async fn sweep(self: Arc<Self>) {
        loop {
            let stopping = tokio::time::timeout(self.idle_for, self.scope.stopping()).await.is_ok();
            let mut list = self.list.lock();
            if stopping {
                return list.idle.clear();
            }
            while list.idle.front().is_some_and(|idle| idle.since.elapsed() >= self.idle_for) {
                list.idle.pop_front();
            }
            if list.idle.is_empty() {
                list.swept = false;
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.lock().idle.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn no_connection_returns_after_a_stop() {
        let scope = Scope::new();
        let connections = IdleList::new(1, SECOND, scope.clone());
        let returning = connections.clone();
        let mut list = connections.list.lock();
        list.swept = true;
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            returning.put(());
        });
        let stat = std::path::Path::new("/proc").join(receiver.recv().unwrap()).join("stat");
        // A sleeping thread is waiting for the lock.
        let deadline = Instant::now() + 20 * SECOND;
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            assert!(Instant::now() < deadline, "the thread does not wait for the lock");
            std::thread::yield_now();
        }
        // As the sweep does when the scope stops.
        scope.request_stop();
        list.idle.clear();
        drop(list);
        thread.join().unwrap();
        assert_eq!(connections.len(), 0, "a connection returned after the sweep");
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_connection_makes_room_and_old_ones_are_closed() {
        let connections = IdleList::new(2, 10 * SECOND, Scope::new());
        for number in 0..3 {
            connections.put(number);
            tokio::time::sleep(SECOND).await;
        }
        assert!(connections.take(|number| *number == 0).is_none());
        assert_eq!(connections.take(|_| true), Some((2, SECOND)));
        connections.put(2);
        // The sweep runs every ten seconds.
        tokio::time::sleep(8 * SECOND).await;
        assert_eq!(connections.len(), 2);
        tokio::time::sleep(SECOND).await;
        assert!(connections.take(|number| *number == 1).is_none(), "older than allowed");
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(connections.len(), 0);
    }
}

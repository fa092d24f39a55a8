//! Idle connections to the origin: one last-in, first-out stack per core, so that a connection stays on the core whose
//! runtime watches its socket. One task per core closes connections that have been idle for too long; it runs only
//! while the stack has connections.

use std::collections::VecDeque;
use std::sync::Arc;

use http::response;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::login::binds_connection;
use crate::defaults;
use crate::http1::client::{Connection, Home};
use crate::message::Request;
use crate::net::{Core, Io, Scope};

/// The number of stacks. More cores than this share stacks, which costs a wake-up between cores and nothing else.
const STACKS: usize = 64;

pub(super) struct Pool {
    stacks: Box<[Mutex<Stack>]>,
    scope: Scope,
}

#[derive(Default)]
struct Stack {
    idle: VecDeque<IdleConnection>,
    swept: bool,
}

struct IdleConnection {
    connection: Box<Connection>,
    since: Instant,
}

impl IdleConnection {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= defaults::ORIGIN_IDLE_FOR
    }
}

impl Pool {
    pub(super) fn new(scope: Scope) -> Arc<Self> {
        Arc::new(Self { stacks: (0..STACKS).map(|_| Mutex::default()).collect(), scope })
    }

    /// The connection of this core that was used last, if it is young and open.
    pub(super) fn take(self: &Arc<Self>) -> Option<Leased> {
        let core = Core::current().place(STACKS);
        let mut stack = self.stacks[core].lock();
        while let Some(mut idle) = stack.idle.pop_back() {
            if idle.is_old() {
                // The remaining connections are older.
                stack.idle.clear();
                break;
            }
            if idle.connection.is_open() {
                let rested = idle.since.elapsed() >= defaults::ORIGIN_RESTED;
                return Some(Leased { connection: idle.connection, lease: self.lease(core), rested });
            }
        }
        None
    }

    /// A lease of a fresh connection on `io`.
    pub(super) fn fresh(self: &Arc<Self>, io: Io) -> Leased {
        let lease = self.lease(Core::current().place(STACKS));
        Leased { connection: Connection::new(io), lease, rested: false }
    }

    fn lease(self: &Arc<Self>, core: usize) -> ConnectionLease {
        ConnectionLease { pool: self.clone(), core, bound: false }
    }

    fn put(self: &Arc<Self>, core: usize, connection: Box<Connection>) {
        let mut stack = self.stacks[core].lock();
        // Checked under the lock: either the sweep of a stop has not taken the lock yet and will clear this connection,
        // or the stop is visible here.
        if self.scope.is_stopping() {
            return;
        }
        if stack.idle.len() >= defaults::ORIGIN_IDLE {
            stack.idle.pop_front();
        }
        stack.idle.push_back(IdleConnection { connection, since: Instant::now() });
        if !std::mem::replace(&mut stack.swept, true) {
            drop(stack);
            self.scope.spawn(self.clone().sweep(core));
        }
    }

    /// Closes old connections until none is left. When the scope stops, closes all connections, so that the stop need
    /// not wait for them.
    async fn sweep(self: Arc<Self>, core: usize) {
        loop {
            let stopping =
                tokio::time::timeout(defaults::ORIGIN_IDLE_FOR, self.scope.stopping()).await.is_ok();
            let mut stack = self.stacks[core].lock();
            if stopping {
                return stack.idle.clear();
            }
            while stack.idle.front().is_some_and(IdleConnection::is_old) {
                stack.idle.pop_front();
            }
            if stack.idle.is_empty() {
                stack.swept = false;
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.stacks.iter().map(|stack| stack.lock().idle.len()).sum()
    }
}

/// A connection to send one request on.
pub(super) struct Leased {
    pub(super) connection: Box<Connection>,
    pub(super) lease: ConnectionLease,
    /// The connection was idle for so long that the origin may be about to close it.
    pub(super) rested: bool,
}

/// Returns a connection to the pool when its exchange is over. A connection whose exchange was cut short, or that a
/// login is tied to, does not return.
pub(super) struct ConnectionLease {
    pool: Arc<Pool>,
    core: usize,
    /// A login is tied to the connection, so the origin may treat later requests as requests of the same visitor. The
    /// connection is closed after its exchange.
    bound: bool,
}

impl ConnectionLease {
    /// Notes that this request is sent on the connection.
    pub(super) fn note_request(&mut self, request: &Request) {
        self.bound |= binds_connection(request.headers());
    }
}

impl Home for ConnectionLease {
    fn answered(&mut self, head: &response::Parts) -> bool {
        self.bound |= binds_connection(&head.headers);
        !self.bound
    }

    fn put_back(self, connection: Box<Connection>) {
        self.pool.put(self.core, connection);
    }

    fn scope(&self) -> &Scope {
        &self.pool.scope
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connection() -> Box<Connection> {
        Connection::new(Io::other(tokio::io::duplex(1024).0))
    }

    #[tokio::test]
    async fn no_connection_returns_to_the_pool_after_a_stop() {
        let scope = Scope::new();
        let pool = Pool::new(scope.clone());
        let (connection, returning) = (connection(), pool.clone());
        let mut stack = pool.stacks[0].lock();
        stack.swept = true;
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            returning.put(0, connection);
        });
        let stat = std::path::Path::new("/proc").join(receiver.recv().unwrap()).join("stat");
        // A sleeping thread is waiting for the lock.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            assert!(Instant::now() < deadline, "the thread does not wait for the lock");
            std::thread::yield_now();
        }
        // As the sweep does when the scope stops.
        scope.request_stop();
        stack.idle.clear();
        drop(stack);
        thread.join().unwrap();
        assert_eq!(pool.idle(), 0, "a connection returned after the sweep");
    }
}

//! Idle connections to the origin: last in, first out, one stack per core, so that a connection stays on the core
//! whose runtime drives it. One task per core closes what has been idle for too long, and only while there is any.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;
use crate::message::Request;
use crate::message::interim::Heads;
use crate::net::inserts::Inserts;
use crate::net::{Scope, cores};
use crate::session::h1::trailers::Trailing;

/// What requests on a connection are sent with.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Trailing>,
    pub(super) heads: Arc<Heads>,
    pub(super) inserts: Inserts,
}

/// More cores than this share stacks, which costs a wake-up between them and nothing else.
const STACKS: usize = 64;

pub(super) struct Pool {
    stacks: Box<[Mutex<Stack>]>,
    scope: Scope,
}

#[derive(Default)]
struct Stack {
    idle: VecDeque<Idle>,
    swept: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= defaults::ORIGIN_IDLE_FOR
    }
}

impl Pool {
    pub(super) fn new(scope: Scope) -> Arc<Self> {
        Arc::new(Self { stacks: (0..STACKS).map(|_| Mutex::default()).collect(), scope })
    }

    /// The connection of this core that was used last, if it is young and open.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        let core = cores::current() % STACKS;
        let mut stack = self.stacks[core].lock();
        while let Some(idle) = stack.idle.pop_back() {
            if idle.is_old() {
                // What lies below is older still.
                stack.idle.clear();
                break;
            }
            if !idle.connection.sender.is_closed() {
                let connection = Some(idle.connection);
                let rested = idle.since.elapsed() >= defaults::ORIGIN_RESTED;
                return Some(Lease { connection, pool: self.clone(), core, rested, answered: false });
            }
        }
        None
    }

    /// Takes charge of a fresh connection, driven by this core.
    pub(super) fn lease(self: &Arc<Self>, connection: Connection) -> Lease {
        let core = cores::current() % STACKS;
        Lease { connection: Some(connection), pool: self.clone(), core, rested: false, answered: false }
    }

    fn put(self: &Arc<Self>, core: usize, connection: Connection) {
        if self.scope.is_stopping() {
            return;
        }
        let mut stack = self.stacks[core].lock();
        if stack.idle.len() >= defaults::ORIGIN_IDLE {
            stack.idle.pop_front();
        }
        stack.idle.push_back(Idle { connection, since: Instant::now() });
        if !std::mem::replace(&mut stack.swept, true) {
            drop(stack);
            self.scope.spawn(self.clone().sweep(core));
        }
    }

    /// Closes the old, until nothing is left or the scope stops; then everything, so that stopping need not wait.
    async fn sweep(self: Arc<Self>, core: usize) {
        loop {
            let stopping =
                tokio::time::timeout(defaults::ORIGIN_IDLE_FOR, self.scope.stopping()).await.is_ok();
            let mut stack = self.stacks[core].lock();
            if stopping {
                return stack.idle.clear();
            }
            while stack.idle.front().is_some_and(Idle::is_old) {
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

/// One connection in use. Dropped after an answer, it goes back to the pool as soon as the connection is between two
/// messages; one whose exchange was cut short never is, and is closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    core: usize,
    /// It was idle for so long that the origin may be about to close it.
    pub(super) rested: bool,
    answered: bool,
}

impl Lease {
    /// Sends a request. `None` without a connection, which there is until the drop. Dropping the future cancels the request and closes the connection: HTTP/1.1 has no other way.
    pub(super) async fn send(
        &mut self,
        request: Request,
    ) -> Option<Result<http::Response<Incoming>, TrySendError<http::Request<Trailing>>>> {
        let Connection { sender, heads, inserts } = self.connection.as_mut()?;
        let request = request.map(|body| Trailing::new(body, Some(inserts)));
        let sent = heads.exchange(|| sender.try_send_request(request)).await;
        self.answered = sent.is_ok();
        Some(sent)
    }

    /// This connection is somebody else's now.
    pub(super) fn forget(mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let Some(mut connection) = connection.filter(|c| self.answered && !c.sender.is_closed()) else {
            return;
        };
        if connection.sender.is_ready() {
            return self.pool.put(self.core, connection);
        }
        // Either the answer was cut short, and the connection is about to close, or it came before the end of the
        // upload. hyper knows which.
        if tokio::runtime::Handle::try_current().is_ok() {
            let (pool, core) = (self.pool.clone(), self.core);
            self.pool.scope.spawn(async move {
                tokio::select! {
                    biased;
                    () = pool.scope.stopping() => {}
                    ready = connection.sender.ready() => if ready.is_ok() { pool.put(core, connection) },
                }
            });
        }
    }
}

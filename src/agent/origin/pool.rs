//! Idle connections to the origin: last in, first out, one stack per core, so that a connection stays on the core
//! whose runtime drives it. One task per core closes what has been idle for too long, and only while there is any.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::login::binds_connection;
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
                let pool = self.clone();
                return Some(Lease { connection, pool, core, rested, answered: false, bound: false });
            }
        }
        None
    }

    /// Takes charge of a fresh connection, driven by this core.
    pub(super) fn lease(self: &Arc<Self>, connection: Connection) -> Lease {
        let core = cores::current() % STACKS;
        let (connection, pool) = (Some(connection), self.clone());
        Lease { connection, pool, core, rested: false, answered: false, bound: false }
    }

    fn put(self: &Arc<Self>, core: usize, connection: Connection) {
        let mut stack = self.stacks[core].lock();
        // Under the lock: the sweep of a stop, which takes it once, has not passed yet, or else the stop is seen here.
        if self.scope.is_stopping() {
            return;
        }
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

/// Why there is no answer.
pub(super) struct NotAnswered {
    /// The request, if not one byte of it was written.
    pub(super) unsent: Option<Request>,
    /// What happened on the connection; `None` if there was none.
    pub(super) error: Option<hyper::Error>,
}

/// One connection in use. Dropped after an answer, it goes back to the pool as soon as the connection is between two
/// messages; one whose exchange was cut short never is, and is closed. So is one that a login was tied to.
pub(super) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    core: usize,
    /// It was idle for so long that the origin may be about to close it.
    pub(super) rested: bool,
    answered: bool,
    /// The origin may take what follows on the connection as one visitor's: it is closed instead.
    bound: bool,
}

impl Lease {
    /// Sends a request. Dropping the future cancels the request and closes the connection: HTTP/1.1 has no other way.
    pub(super) async fn send(&mut self, request: Request) -> Result<http::Response<Incoming>, NotAnswered> {
        self.bound |= binds_connection(request.headers());
        let sent = match &mut self.connection {
            Some(Connection { sender, heads, inserts }) => {
                let request = request.map(|body| Trailing::new(body, Some(inserts)));
                heads.exchange(|| sender.try_send_request(request)).await
            }
            // There is one until the drop.
            None => return Err(NotAnswered { unsent: Some(request), error: None }),
        };
        self.answered = sent.is_ok();
        self.bound |= sent.as_ref().is_ok_and(|response| binds_connection(response.headers()));
        sent.map_err(|mut error: TrySendError<http::Request<Trailing>>| NotAnswered {
            unsent: error.take_message().map(|request| request.map(Trailing::into_inner)),
            error: Some(error.into_error()),
        })
    }

    /// This connection is somebody else's now.
    pub(super) fn forget(mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let reusable = self.answered && !self.bound;
        let Some(mut connection) = connection.filter(|c| reusable && !c.sender.is_closed()) else {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Body;

    async fn connection() -> Connection {
        let (near, _far) = tokio::io::duplex(1024);
        let opened = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(near)).await;
        Connection { sender: opened.unwrap().0, heads: Arc::default(), inserts: Inserts::default() }
    }

    #[tokio::test]
    async fn no_connection_is_parked_behind_a_stop() {
        let scope = Scope::new();
        let pool = Pool::new(scope.clone());
        let (connection, returning) = (connection().await, pool.clone());
        let mut stack = pool.stacks[0].lock();
        stack.swept = true;
        let (sends, receives) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sends.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            returning.put(0, connection);
        });
        let stat = std::path::Path::new("/proc").join(receives.recv().unwrap()).join("stat");
        // The thread waits for the lock when it sleeps.
        let until = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            assert!(Instant::now() < until, "the thread does not wait for the lock");
            std::thread::yield_now();
        }
        // As the sweep does when the scope stops.
        scope.ask_to_stop();
        stack.idle.clear();
        drop(stack);
        thread.join().unwrap();
        assert_eq!(pool.idle(), 0, "a connection was parked after the sweep");
    }

    #[tokio::test]
    async fn a_lease_without_a_connection_gives_the_request_back() {
        let pool = Pool::new(Scope::new());
        let mut lease =
            Lease { connection: None, pool, core: 0, rested: false, answered: false, bound: false };
        let request = http::Request::get("/a").body(Body::empty()).unwrap();
        let sent = tokio::time::timeout(defaults::CONNECT, lease.send(request)).await;
        let mut error = sent.expect("an end").err().unwrap();
        assert_eq!(error.unsent.take().unwrap().uri(), "/a");
    }
}

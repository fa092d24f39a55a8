//! Idle connections to the origin: one list per core, so that a connection stays on the core whose runtime watches its
//! socket, and a list of the connections that are private to one visitor connection each.

use std::sync::Arc;
use std::time::Duration;

use http::response;

use super::idle::IdleList;
use crate::defaults;
use crate::http1::client::{Connection, Home};
use crate::message::Request;
use crate::message::login::{self, VisitorMark};
use crate::net::{Core, Io, Scope};

/// The number of lists. More cores than this share lists, which costs a wake-up between cores and nothing else.
const LISTS: usize = 64;

pub(super) struct Pool {
    shared: Box<[Arc<IdleList<Box<Connection>>>]>,
    private: Arc<IdleList<(VisitorMark, Box<Connection>)>>,
    scope: Scope,
}

impl Pool {
    pub(super) fn new(scope: Scope) -> Arc<Self> {
        let list = |_| IdleList::new(defaults::ORIGIN_IDLE, defaults::ORIGIN_IDLE_FOR, scope.clone());
        let shared = (0..LISTS).map(list).collect();
        let private =
            IdleList::new(defaults::ORIGIN_PRIVATE, defaults::ORIGIN_PRIVATE_IDLE_FOR, scope.clone());
        Arc::new(Self { shared, private, scope })
    }

    /// A connection for a request of `visitor`: the visitor's private connection, else the connection of this core
    /// that was used last.
    pub(super) fn take(self: &Arc<Self>, visitor: Option<VisitorMark>) -> Option<Leased> {
        if let Some(visitor) = visitor {
            while let Some(((_, mut connection), idle_for)) =
                self.private.take(|(owner, _)| *owner == visitor)
            {
                if connection.is_open() {
                    return Some(self.leased(connection, Some(visitor), true, Some(idle_for)));
                }
            }
        }
        let core = Core::current().place(LISTS);
        while let Some((mut connection, idle_for)) = self.shared[core].take(|_| true) {
            if connection.is_open() {
                return Some(self.leased(connection, visitor, false, Some(idle_for)));
            }
        }
        None
    }

    /// A lease of a fresh connection on `io`, for a request of `visitor`.
    pub(super) fn fresh(self: &Arc<Self>, io: Io, visitor: Option<VisitorMark>) -> Leased {
        self.leased(Connection::new(io), visitor, false, None)
    }

    fn leased(
        self: &Arc<Self>,
        connection: Box<Connection>,
        visitor: Option<VisitorMark>,
        private: bool,
        idle_for: Option<Duration>,
    ) -> Leased {
        let core = Core::current().place(LISTS);
        let lease = ConnectionLease { pool: self.clone(), core, visitor, private };
        let rested = idle_for.is_some_and(|idle_for| idle_for >= defaults::ORIGIN_RESTED);
        Leased { connection, lease, rested }
    }

    /// Closes the connection that is idle for the longest time on some core. A private connection, whose visitor would
    /// have to log in again, is closed only if no other is idle. `false` if no connection is idle.
    pub(super) fn close_oldest(&self) -> bool {
        self.shared.iter().any(|list| list.close_oldest()) || self.private.close_oldest()
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shared.iter().map(|list| list.len()).sum()
    }
}

/// A connection to send one request on.
pub(super) struct Leased {
    pub(super) connection: Box<Connection>,
    pub(super) lease: ConnectionLease,
    /// The connection was idle for so long that the origin may be about to close it.
    pub(super) rested: bool,
}

/// Returns a connection to the pool when its exchange is over. A connection whose exchange was cut short does not
/// return.
pub(super) struct ConnectionLease {
    pool: Arc<Pool>,
    core: usize,
    visitor: Option<VisitorMark>,
    /// A login is tied to the connection, so the origin may treat later requests as requests of the same visitor. The
    /// connection serves this visitor alone; without a mark of the visitor it is closed after its exchange.
    private: bool,
}

impl ConnectionLease {
    /// Notes that this request is sent on the connection.
    pub(super) fn note_request(&mut self, request: &Request) {
        self.private |= login::is_login(request.headers());
    }
}

impl Home for ConnectionLease {
    fn answered(&mut self, head: &response::Parts) -> bool {
        self.private |= login::is_challenge(&head.headers);
        !self.private || self.visitor.is_some()
    }

    fn put_back(self, connection: Box<Connection>) {
        match (self.private, self.visitor) {
            (false, _) => self.pool.shared[self.core].put(connection),
            (true, Some(visitor)) => self.pool.private.put((visitor, connection)),
            (true, None) => {}
        }
    }

    fn scope(&self) -> &Scope {
        &self.pool.scope
    }
}

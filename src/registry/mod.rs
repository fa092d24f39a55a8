//! Which routes exist, which agents hold them, and which sessions serve them. Every public request does a look-up,
//! which takes no lock. Every change takes one lock, for as long as the routes of one agent need and never across an
//! await; no change visits the routes of other agents.

mod agents;
mod claim;
pub mod directory;
mod select;
mod target;
mod terms;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use claim::Claim;
pub use directory::Directory;
pub use target::{Served, Target};
pub use terms::{Bound, Quota, Right, Terms, Unavailable};

use self::agents::{AgentEntry, Holding};
use self::terms::Charged;
use crate::domain::{AgentId, Route};
use crate::session::Session;

/// The number of leases that one claim ends at most, so that leases do not pile up between two runs of `tidy`.
const LEASES_AT_ONCE: usize = 64;

/// The routes of one relay.
pub struct Registry {
    hosts: papaya::HashMap<Box<str>, Arc<Target>>,
    paths: papaya::HashMap<Box<str>, Arc<Target>>,
    books: Mutex<Books>,
    lease: Duration,
    next_session: AtomicU64,
    /// Cancelled when no agent is admitted any more.
    closed: CancellationToken,
}

/// The state that only changes use, and no look-up.
#[derive(Default)]
struct Books {
    agents: HashMap<AgentId, AgentEntry>,
    charged: Charged,
    leases: BinaryHeap<Reverse<Lease>>,
}

/// When a route without a claim becomes free. Compared by time alone.
struct Lease {
    ends: Instant,
    target: Arc<Target>,
}

impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        self.ends == other.ends
    }
}

impl Eq for Lease {}

impl PartialOrd for Lease {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Lease {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ends.cmp(&other.ends)
    }
}

impl Registry {
    /// An empty registry. A route stays held for `lease` after its last claim has ended.
    pub fn new(lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            hosts: papaya::HashMap::new(),
            paths: papaya::HashMap::new(),
            books: Mutex::default(),
            lease,
            next_session: AtomicU64::new(1),
            closed: CancellationToken::new(),
        })
    }

    /// Announces that no agent is admitted any more: requests that wait for an agent stop waiting, and no request
    /// begins to wait.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The target of a host, in lower case and without a port.
    pub fn find_host(&self, host: &str) -> Option<Arc<Target>> {
        self.hosts.pin().get(host).cloned()
    }

    /// The target of a first path segment.
    pub fn find_path(&self, segment: &str) -> Option<Arc<Target>> {
        self.paths.pin().get(segment).cloned()
    }

    fn find(&self, route: &Route) -> Option<Arc<Target>> {
        let (table, key) = self.place(route);
        table.pin().get(key).cloned()
    }

    fn place<'a>(&self, route: &'a Route) -> (&papaya::HashMap<Box<str>, Arc<Target>>, &'a str) {
        match route {
            Route::Host(host) => (&self.hosts, host.as_str()),
            Route::Path(name) => (&self.paths, name.as_str()),
        }
    }

    /// Claims all routes of the terms for `owner`, or none, and counts one connection of `owner`.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub fn claim(self: &Arc<Self>, owner: &AgentId, terms: Terms) -> Result<Claim, Unavailable> {
        let now = Instant::now();
        let mut books = self.books.lock();
        self.end_leases(&mut books, now, LEASES_AT_ONCE);
        self.judge(&books, owner, &terms, now)?;
        let mut targets = Vec::with_capacity(terms.routes.len());
        for route in &terms.routes {
            match self.find(route) {
                // A probe takes no route from the present owner.
                Some(target) if target.owner == *owner || terms.probe => {
                    targets.push(target);
                    continue;
                }
                Some(target) => self.lose(&mut books, &target),
                None => {}
            }
            targets.push(self.hold(&mut books, route, owner, &terms));
        }
        let rules = terms.rules.as_ref();
        let changed = !terms.probe && targets.iter().any(|target| !target.served().has_rules(rules));
        let entry = books.agents.entry(owner.clone()).or_default();
        entry.connections += 1;
        for target in &targets {
            if let Some(holding) = entry.routes.get_mut(&target.route) {
                holding.claims += 1;
            }
            // If no session serves the route, the rules take effect before the first request waits for this agent.
            if !terms.probe && !target.served().sessions.iter().any(|s| s.is_usable()) {
                target.change(|served| served.rule(rules));
            }
        }
        Ok(Claim { registry: self.clone(), owner: owner.clone(), terms, targets, changed, used: false })
    }

    fn judge(&self, books: &Books, owner: &AgentId, terms: &Terms, now: Instant) -> Result<(), Unavailable> {
        let taken = |route: &&Route| {
            let Some(target) = self.find(route).filter(|target| target.owner != *owner) else { return false };
            let holding = books.holding(&target);
            // An agent with a token takes a route that is held without one.
            let gives_way =
                |h: &Holding| h.is_free(now) || matches!(terms.right, Right::Granted) && h.charged.is_some();
            !holding.is_none_or(gives_way)
        };
        let fresh = AgentEntry::default();
        let entry = books.agents.get(owner).unwrap_or(&fresh);
        entry.judge_process(terms)?;
        if let Some(taken) = terms.routes.iter().find(taken) {
            return Err(Unavailable::Taken(taken.clone()));
        }
        if let Right::Open(quota) = &terms.right {
            let judged = books.charged.judge(quota, entry.routes.len(), entry.more(terms));
            judged.map_err(Unavailable::Full)?;
        }
        entry.judge(terms)
    }

    /// Enters a route that is free.
    fn hold(&self, books: &mut Books, route: &Route, owner: &AgentId, terms: &Terms) -> Arc<Target> {
        let target = Target::new(route.clone(), owner.clone(), self.closed.clone());
        let charged = terms.right.charged();
        charged.into_iter().for_each(|address| books.charged.add(address));
        let holding = Holding::new(target.clone(), charged);
        books.agents.entry(owner.clone()).or_default().routes.insert(route.clone(), holding);
        let (table, key) = self.place(route);
        table.pin().insert(key.into(), target.clone());
        target
    }

    /// Takes a route from its owner, and cuts the sessions that serve it.
    fn lose(&self, books: &mut Books, target: &Arc<Target>) {
        for session in &target.served().sessions {
            tracing::info!(
                session = %session.id, agent = %session.agent, route = %target.route,
                "session cut: another agent claims its route"
            );
            session.cut();
        }
        self.forget(books, target);
    }

    /// Takes a route from an owner that may not keep it, as [`Registry::tidy`] would a moment later. Returns whether
    /// there was such an owner.
    pub fn evict(&self, route: &Route, may_stay: impl Fn(&AgentId, &Route) -> bool) -> bool {
        let held = self.find(route).filter(|target| !may_stay(&target.owner, route));
        if let Some(target) = &held {
            self.lose(&mut self.books.lock(), target);
        }
        held.is_some()
    }

    /// Removes a route from all tables.
    fn forget(&self, books: &mut Books, target: &Arc<Target>) {
        if books.holding(target).is_none() {
            return;
        }
        let (table, key) = self.place(&target.route);
        table.pin().remove(key);
        if let Some(entry) = books.agents.get_mut(&target.owner) {
            let charged = entry.routes.remove(&target.route).and_then(|holding| holding.charged);
            charged.into_iter().for_each(|address| books.charged.remove(address));
            books.clear(&target.owner);
        }
    }

    /// Ends up to `most` expired leases. Returns whether more may be left.
    fn end_leases(&self, books: &mut Books, now: Instant, most: usize) -> bool {
        for _ in 0..most {
            let Some(Reverse(lease)) = books.leases.peek().filter(|lease| lease.0.ends <= now) else {
                return false;
            };
            let target = lease.target.clone();
            books.leases.pop();
            let Some(holding) = books.holding_mut(&target) else { continue };
            holding.is_queued = false;
            if holding.is_free(now) {
                self.forget(books, &target);
            } else if let (0, Some(ends)) = (holding.claims, holding.free_at) {
                // The route was claimed and released again, so its lease ends later.
                holding.is_queued = true;
                books.leases.push(Reverse(Lease { ends, target }));
            }
        }
        true
    }

    /// Releases the routes and the connection of a claim.
    fn release(&self, claim: &Claim) {
        let now = Instant::now();
        let mut books = self.books.lock();
        let books = &mut *books;
        let mut free = Vec::new();
        if let Some(entry) = books.agents.get_mut(&claim.owner) {
            entry.connections = entry.connections.saturating_sub(1);
            for target in &claim.targets {
                let held = entry.routes.get_mut(&target.route);
                let Some(holding) = held.filter(|held| Arc::ptr_eq(&held.target, target)) else { continue };
                holding.claims = holding.claims.saturating_sub(1);
                if claim.used {
                    holding.free_at = Some(now + self.lease);
                }
                if holding.is_free(now) {
                    free.push(target);
                } else if let (0, Some(ends), false) = (holding.claims, holding.free_at, holding.is_queued) {
                    holding.is_queued = true;
                    books.leases.push(Reverse(Lease { ends, target: target.clone() }));
                }
            }
        }
        for target in free {
            self.forget(books, target);
        }
        books.clear(&claim.owner);
    }

    /// Every session, once. Visits all routes.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.each(|target| all.extend(target.served().sessions.iter().cloned()));
        all.sort_unstable_by_key(|s| s.id);
        all.dedup_by_key(|s| s.id);
        all
    }

    /// Calls `visit` with every target, while other threads add and remove targets.
    fn each(&self, mut visit: impl FnMut(&Arc<Target>)) {
        for table in [&self.hosts, &self.paths] {
            table.pin().values().for_each(&mut visit);
        }
    }

    /// Removes routes whose lease has ended, and cuts the sessions of agents that may not hold their routes. Visits all
    /// routes, and takes the lock only to remove some: it is for a thread that serves no requests.
    pub fn tidy(&self, may_stay: impl Fn(&AgentId, &Route) -> bool) {
        while self.end_leases(&mut self.books.lock(), Instant::now(), LEASES_AT_ONCE) {}
        let mut seen = HashSet::new();
        let mut unentitled = Vec::new();
        self.each(|target| {
            for session in target.served().sessions.iter().filter(|session| seen.insert(session.id)) {
                if !session.routes.iter().all(|route| may_stay(&session.agent, route)) {
                    tracing::info!(
                        session = %session.id, agent = %session.agent,
                        "session cut: its agent may no longer hold its routes"
                    );
                    session.cut();
                }
            }
            // A lease is only for an owner that may still hold the route.
            if !may_stay(&target.owner, &target.route) {
                unentitled.push(target.clone());
            }
        });
        for target in unentitled {
            let mut books = self.books.lock();
            if books.holding(&target).is_some_and(|holding| holding.claims == 0) {
                self.forget(&mut books, &target);
            }
        }
    }
}

impl Books {
    /// The holding of a target, unless another target has taken its place.
    fn holding(&self, target: &Arc<Target>) -> Option<&Holding> {
        let holding = self.agents.get(&target.owner)?.routes.get(&target.route)?;
        Arc::ptr_eq(&holding.target, target).then_some(holding)
    }

    fn holding_mut(&mut self, target: &Arc<Target>) -> Option<&mut Holding> {
        let holding = self.agents.get_mut(&target.owner)?.routes.get_mut(&target.route)?;
        Arc::ptr_eq(&holding.target, target).then_some(holding)
    }

    /// Removes an agent without routes, sessions and connections.
    fn clear(&mut self, agent: &AgentId) {
        if self.agents.get(agent).is_some_and(AgentEntry::is_empty) {
            self.agents.remove(agent);
        }
    }
}

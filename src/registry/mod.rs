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

/// The most expired leases that one claim ends, so that leases do not pile up between two runs of `tidy`.
const LEASES_AT_ONCE: usize = 64;

/// The routes of one relay.
pub struct Registry {
    hosts: papaya::HashMap<Box<str>, Arc<Target>>,
    /// The key is the host that the hosts of the target are one label below.
    below: papaya::HashMap<Box<str>, Arc<Target>>,
    paths: papaya::HashMap<Box<str>, Arc<Target>>,
    state: Mutex<RegistryState>,
    lease: Duration,
    next_session: AtomicU64,
    /// Cancelled when no agent is admitted any more.
    closed: CancellationToken,
}

/// The state for claims and leases. No look-up reads this state.
#[derive(Default)]
struct RegistryState {
    agents: HashMap<AgentId, AgentEntry>,
    charged: Charged,
    leases: BinaryHeap<Reverse<Lease>>,
}

/// The lease of a route without a claim. Leases are compared by their end alone.
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
            below: papaya::HashMap::new(),
            paths: papaya::HashMap::new(),
            state: Mutex::default(),
            lease,
            next_session: AtomicU64::new(1),
            closed: CancellationToken::new(),
        })
    }

    /// Closes the registry, because no agent is admitted any more: requests that wait for an agent stop waiting, and no
    /// request begins to wait.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The target of a host, in lower case and without a port.
    pub fn find_host(&self, host: &str) -> Option<Arc<Target>> {
        self.hosts.pin().get(host).cloned()
    }

    /// The target of all hosts one label below a host, which is in lower case and without a port.
    pub fn find_below(&self, parent: &str) -> Option<Arc<Target>> {
        self.below.pin().get(parent).cloned()
    }

    /// The target of a first path segment.
    pub fn find_path(&self, segment: &str) -> Option<Arc<Target>> {
        self.paths.pin().get(segment).cloned()
    }

    fn find(&self, route: &Route) -> Option<Arc<Target>> {
        let (table, key) = self.table_and_key(route);
        table.pin().get(key).cloned()
    }

    fn table_and_key<'a>(&self, route: &'a Route) -> (&papaya::HashMap<Box<str>, Arc<Target>>, &'a str) {
        match route {
            Route::Host(host) => (&self.hosts, host.as_str()),
            Route::Below(host) => (&self.below, host.as_str()),
            Route::Path(name) => (&self.paths, name.as_str()),
        }
    }

    /// Claims all routes of the terms for `owner`, or none, and counts one connection of `owner`.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub fn claim(self: &Arc<Self>, owner: &AgentId, terms: Terms) -> Result<Claim, Unavailable> {
        let now = Instant::now();
        let mut state = self.state.lock();
        self.end_leases(&mut state, now, LEASES_AT_ONCE);
        self.judge(&state, owner, &terms, now)?;
        let mut targets = Vec::with_capacity(terms.routes.len());
        for route in &terms.routes {
            match self.find(route) {
                // A probe takes no route from the present owner.
                Some(target) if target.owner == *owner || terms.probe => {
                    targets.push(target);
                    continue;
                }
                Some(target) => self.revoke(&mut state, &target),
                None => {}
            }
            targets.push(self.insert(&mut state, route, owner, &terms));
        }
        let rules = terms.rules.as_ref();
        let changed = !terms.probe && targets.iter().any(|target| !target.served().has_rules(rules));
        let entry = state.agents.entry(owner.clone()).or_default();
        entry.connections += 1;
        for target in &targets {
            if let Some(holding) = entry.routes.get_mut(&target.route) {
                holding.claims += 1;
            }
            // If no session serves the route, the rules take effect before the first request waits for this agent.
            if !terms.probe && !target.served().sessions.iter().any(|s| s.is_usable()) {
                target.change(|served| served.set_rules(rules));
            }
        }
        Ok(Claim { registry: self.clone(), owner: owner.clone(), terms, targets, changed, used: false })
    }

    fn judge(
        &self,
        state: &RegistryState,
        owner: &AgentId,
        terms: &Terms,
        now: Instant,
    ) -> Result<(), Unavailable> {
        let taken = |route: &&Route| {
            let Some(target) = self.find(route).filter(|target| target.owner != *owner) else { return false };
            let holding = state.holding(&target);
            // An agent with a token takes a route that is held without one.
            let is_available =
                |h: &Holding| h.is_free(now) || matches!(terms.right, Right::Granted) && h.charged.is_some();
            !holding.is_none_or(is_available)
        };
        let fresh = AgentEntry::default();
        let entry = state.agents.get(owner).unwrap_or(&fresh);
        entry.judge_process(terms)?;
        if let Some(taken) = terms.routes.iter().find(taken) {
            return Err(Unavailable::Taken(taken.clone()));
        }
        if let Right::Open(quota) = &terms.right {
            let judged = state.charged.judge(quota, entry.routes.len(), entry.additional_routes(terms));
            judged.map_err(Unavailable::Full)?;
        }
        entry.judge(terms)
    }

    /// Adds a free route for a new owner.
    fn insert(
        &self,
        state: &mut RegistryState,
        route: &Route,
        owner: &AgentId,
        terms: &Terms,
    ) -> Arc<Target> {
        let target = Target::new(route.clone(), owner.clone(), self.closed.clone());
        let charged = terms.right.charged();
        charged.into_iter().for_each(|address| state.charged.add(address));
        let holding = Holding::new(target.clone(), charged);
        state.agents.entry(owner.clone()).or_default().routes.insert(route.clone(), holding);
        let (table, key) = self.table_and_key(route);
        table.pin().insert(key.into(), target.clone());
        target
    }

    /// Takes a route from its owner, and cuts the sessions that serve it.
    fn revoke(&self, state: &mut RegistryState, target: &Arc<Target>) {
        for session in &target.served().sessions {
            tracing::info!(
                session = %session.id, agent = %session.agent, route = %target.route,
                "session cut: another agent claims its route"
            );
            session.cut();
        }
        self.remove(state, target);
    }

    /// Takes a route from an owner that may not keep it, as [`Registry::tidy`] would a moment later. Returns whether
    /// there was such an owner.
    pub fn evict(&self, route: &Route, may_keep: impl Fn(&AgentId, &Route) -> bool) -> bool {
        let target = self.find(route).filter(|target| !may_keep(&target.owner, route));
        if let Some(target) = &target {
            self.revoke(&mut self.state.lock(), target);
        }
        target.is_some()
    }

    /// Removes a route from all tables.
    fn remove(&self, state: &mut RegistryState, target: &Arc<Target>) {
        if state.holding(target).is_none() {
            return;
        }
        let (table, key) = self.table_and_key(&target.route);
        table.pin().remove(key);
        if let Some(entry) = state.agents.get_mut(&target.owner) {
            let charged = entry.routes.remove(&target.route).and_then(|holding| holding.charged);
            charged.into_iter().for_each(|address| state.charged.remove(address));
            state.clear(&target.owner);
        }
    }

    /// Ends up to `most` expired leases. Returns whether more may remain.
    fn end_leases(&self, state: &mut RegistryState, now: Instant, most: usize) -> bool {
        for _ in 0..most {
            let Some(Reverse(lease)) = state.leases.peek().filter(|lease| lease.0.ends <= now) else {
                return false;
            };
            let target = lease.target.clone();
            state.leases.pop();
            let Some(holding) = state.holding_mut(&target) else { continue };
            holding.is_queued = false;
            if holding.is_free(now) {
                self.remove(state, &target);
            } else if let (0, Some(ends)) = (holding.claims, holding.free_at) {
                // The route was claimed and released again, so its lease ends later.
                holding.is_queued = true;
                state.leases.push(Reverse(Lease { ends, target }));
            }
        }
        true
    }

    /// Releases the routes and the connection of a claim.
    fn release(&self, claim: &Claim) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut free = Vec::new();
        if let Some(entry) = state.agents.get_mut(&claim.owner) {
            entry.connections = entry.connections.saturating_sub(1);
            for target in &claim.targets {
                let holding = entry.routes.get_mut(&target.route);
                let holding = holding.filter(|holding| Arc::ptr_eq(&holding.target, target));
                let Some(holding) = holding else { continue };
                holding.claims = holding.claims.saturating_sub(1);
                if claim.used {
                    holding.free_at = Some(now + self.lease);
                }
                if holding.is_free(now) {
                    free.push(target);
                } else if let (0, Some(ends), false) = (holding.claims, holding.free_at, holding.is_queued) {
                    holding.is_queued = true;
                    state.leases.push(Reverse(Lease { ends, target: target.clone() }));
                }
            }
        }
        for target in free {
            self.remove(state, target);
        }
        state.clear(&claim.owner);
    }

    /// Every session, once. Visits all routes.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        self.for_each_target(|target| all.extend(target.served().sessions.iter().cloned()));
        all.sort_unstable_by_key(|s| s.id);
        all.dedup_by_key(|s| s.id);
        all
    }

    /// Calls `visit` with every target, while other threads add and remove targets.
    fn for_each_target(&self, mut visit: impl FnMut(&Arc<Target>)) {
        for table in [&self.hosts, &self.below, &self.paths] {
            table.pin().values().for_each(&mut visit);
        }
    }

    /// Removes routes whose lease has ended, and cuts the sessions of agents that may not keep their routes. Visits all
    /// routes, and takes the lock only to remove some. Must run on a thread that serves no requests.
    pub fn tidy(&self, may_keep: impl Fn(&AgentId, &Route) -> bool) {
        while self.end_leases(&mut self.state.lock(), Instant::now(), LEASES_AT_ONCE) {}
        let mut seen = HashSet::new();
        let mut unentitled = Vec::new();
        self.for_each_target(|target| {
            for session in target.served().sessions.iter().filter(|session| seen.insert(session.id)) {
                if !session.routes.iter().all(|route| may_keep(&session.agent, route)) {
                    tracing::info!(
                        session = %session.id, agent = %session.agent,
                        "session cut: its agent may no longer hold its routes"
                    );
                    session.cut();
                }
            }
            // Only an owner that may keep the route has a lease.
            if !may_keep(&target.owner, &target.route) {
                unentitled.push(target.clone());
            }
        });
        for target in unentitled {
            let mut state = self.state.lock();
            if state.holding(&target).is_some_and(|holding| holding.claims == 0) {
                self.remove(&mut state, &target);
            }
        }
    }
}

impl RegistryState {
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

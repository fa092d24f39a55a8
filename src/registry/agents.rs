//! The routes, sessions and connections of one agent at this relay. Every limit of an agent is checked here, at a cost
//! that grows only with the state of that agent.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::terms::{Terms, is_fenced_by};
use super::{Right, Target, Unavailable};
use crate::defaults;
use crate::domain::{Instance, Route};
use crate::session::Session;

/// Fenced processes that a route remembers; the oldest is forgotten first.
const FENCED: usize = 64;

/// One route that an agent holds.
pub(super) struct Holding {
    pub(super) target: Arc<Target>,
    /// The address that is charged for the route, if the route is held without a token.
    pub(super) charged: Option<IpAddr>,
    pub(super) claims: usize,
    /// When its lease ends; `None` while no connection has used the route.
    pub(super) free_at: Option<Instant>,
    /// Whether the route is in the queue of leases. The queue has each route at most once.
    pub(super) is_queued: bool,
    /// Processes that have lost this route to another process. A further claim does not return it to them.
    fenced: VecDeque<Instance>,
}

impl Holding {
    pub(super) fn new(target: Arc<Target>, charged: Option<IpAddr>) -> Self {
        Self { target, charged, claims: 0, free_at: None, is_queued: false, fenced: VecDeque::new() }
    }

    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.claims == 0 && self.free_at.is_none_or(|at| at <= now)
    }

    fn fence(&mut self, instance: &Instance) {
        if self.fenced.len() == FENCED {
            self.fenced.pop_front();
        }
        self.fenced.push_back(instance.clone());
    }

    /// Whether a session that this claim will not fence serves the route with other rules.
    fn has_conflicting_rules(&self, terms: &Terms) -> bool {
        let served = self.target.served();
        !served.has_rules(terms.rules.as_ref()) && served.sessions.iter().any(|s| terms.conflicts(s))
    }

    /// Whether the process of these terms may not serve the route: a newer boot of the process serves it, another
    /// process has taken it, or another process serves it exclusively. Only the first two stop an exclusive process.
    fn fences(&self, terms: &Terms) -> bool {
        let instance = terms.instance.as_ref();
        let stops = |s: &Arc<Session>| match (&s.instance, instance) {
            (Some(present), Some(arriving)) if present.id == arriving.id => present.boot > arriving.boot,
            (present, arriving) => s.exclusive && !terms.exclusive && present.as_ref() != arriving,
        };
        instance.is_some_and(|instance| self.fenced.contains(instance))
            || self.target.served().sessions.iter().any(stops)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct AgentEntry {
    pub(super) routes: HashMap<Route, Holding>,
    pub(super) sessions: Vec<Arc<Session>>,
    /// Counted from the claim on: a connection in its handshake counts like an open one.
    pub(super) connections: usize,
}

impl AgentEntry {
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.sessions.is_empty() && self.connections == 0
    }

    /// The number of routes in the terms that the agent does not hold yet.
    pub(super) fn additional_routes(&self, terms: &Terms) -> usize {
        terms.routes.iter().filter(|route| !self.routes.contains_key(*route)).count()
    }

    /// The holdings of the routes in the terms.
    fn holdings<'a>(&'a self, terms: &'a Terms) -> impl Iterator<Item = &'a Holding> {
        terms.routes.iter().filter_map(|route| self.routes.get(route))
    }

    /// Checks that this process may have one more connection.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub(super) fn judge_process(&self, terms: &Terms) -> Result<(), Unavailable> {
        if !terms.probe && self.holdings(terms).any(|holding| holding.fences(terms)) {
            return Err(Unavailable::Fenced);
        }
        match terms.connections {
            Some(most) if self.connections >= most => Err(Unavailable::TooManyConnections(self.connections)),
            _ => Ok(()),
        }
    }

    /// Checks that the agent may have these routes, beside the routes that it holds.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub(super) fn judge(&self, terms: &Terms) -> Result<(), Unavailable> {
        let granted = matches!(terms.right, Right::Granted);
        let additional = self.additional_routes(terms);
        if granted && additional > 0 && self.routes.len() + additional > defaults::ROUTES_PER_AGENT {
            return Err(Unavailable::TooManyRoutes(self.routes.len()));
        }
        if terms.probe {
            return Ok(());
        }
        if let Some(holding) = self.holdings(terms).find(|holding| holding.has_conflicting_rules(terms)) {
            return Err(Unavailable::OtherRules(holding.target.route.clone()));
        }
        match terms.too_many(&self.sessions) {
            Some(sessions) => Err(Unavailable::TooMany(sessions)),
            None => Ok(()),
        }
    }

    /// Fences a process: none of its sessions may serve these routes again.
    pub(super) fn fence(&mut self, terms: &Terms, instance: &Instance) {
        for route in &terms.routes {
            if let Some(holding) = self.routes.get_mut(route) {
                holding.fence(instance);
            }
        }
    }
}

/// The decision about a connection that joins.
pub(super) struct JoinDecision {
    /// Sessions of earlier processes, which this connection replaces.
    pub(super) fenced: Vec<Arc<Session>>,
    /// The session that the connection joins; `None` for a new session.
    pub(super) session: Option<Arc<Session>>,
    /// Whether the connection is cut because its claim is outdated. Since the claim, a newer boot or an agent with
    /// other rules has joined, the token has reached its limit of sessions, or an agent with a better right has taken a
    /// route.
    pub(super) is_outdated: bool,
}

/// Decides about a connection of this agent on these terms. `changed`: whether its rules for visitors differed from the
/// rules in force at the time of its claim.
pub(super) fn decide(entry: &AgentEntry, terms: &Terms, changed: bool) -> JoinDecision {
    let mut present: Vec<Arc<Session>> = Vec::new();
    for holding in entry.holdings(terms) {
        present.extend(holding.target.served().sessions.iter().cloned());
    }
    present.sort_unstable_by_key(|session| session.id);
    present.dedup_by_key(|session| session.id);
    let instance = terms.instance.as_ref();
    let newer = present.iter().any(|s| is_fenced_by(instance, s.instance.as_ref(), false));
    let is_outdated = newer
        || entry.additional_routes(terms) > 0
        || entry.holdings(terms).any(|holding| holding.has_conflicting_rules(terms))
        || terms.too_many(&entry.sessions).is_some();
    let rules = terms.rules.as_ref();
    let changed = changed || entry.holdings(terms).any(|holding| !holding.target.served().has_rules(rules));
    // A request that waits in a session was admitted by the earlier rules, so changed rules need a new session.
    let session = present.iter().find(|session| !changed && terms.fit(session)).cloned();
    present.retain(|other| is_fenced_by(other.instance.as_ref(), instance, terms.exclusive));
    JoinDecision { fenced: present, session, is_outdated }
}

//! Which routes exist, whose they are, and which sessions speak for them. Read for every public request, so reading
//! takes no lock: the table is replaced as a whole when it changes.

mod claim;
mod select;
mod terms;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use claim::Claim;
pub use terms::{Bound, Quota, Right, Terms, Unavailable};

use crate::defaults;
use crate::domain::{AgentId, Instance, Route};
use crate::policy::{Gate, Rules};
use crate::session::{Session, Waiting};

/// Fenced processes that a route remembers; the oldest is forgotten first.
const FENCED: usize = 64;

/// The routes of one relay.
pub struct Registry {
    table: ArcSwap<Table>,
    /// Held while the table or a claim changes; never across an await.
    changing: Mutex<()>,
    lease: Duration,
    next_session: AtomicU64,
    /// Cancelled when no agent is let in any more.
    closed: CancellationToken,
}

#[derive(Default, Clone)]
struct Table {
    hosts: HashMap<Box<str>, Arc<Target>>,
    paths: HashMap<Box<str>, Arc<Target>>,
}

impl Table {
    fn get(&self, route: &Route) -> Option<&Arc<Target>> {
        match route {
            Route::Host(host) => self.hosts.get(host.as_str()),
            Route::Path(name) => self.paths.get(name.as_str()),
        }
    }

    fn insert(&mut self, target: Arc<Target>) {
        match &target.route {
            Route::Host(host) => self.hosts.insert(host.as_str().into(), target),
            Route::Path(name) => self.paths.insert(name.as_str().into(), target),
        };
    }

    fn retain(&mut self, keep: impl Fn(&Target) -> bool) {
        self.hosts.retain(|_, target| keep(target));
        self.paths.retain(|_, target| keep(target));
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.hosts.values().chain(self.paths.values())
    }
}

/// Where the requests of one route go.
pub struct Target {
    /// The route.
    pub route: Route,
    /// Whose it is.
    pub owner: AgentId,
    /// The address that is charged for it, where it is held without a token.
    charged: Option<IpAddr>,
    sessions: ArcSwap<Vec<Arc<Session>>>,
    held: Mutex<Held>,
    /// The processes that another has taken this route from; they do not get it back by trying again.
    fenced: Mutex<VecDeque<Instance>>,
    arrived: Notify,
    waiting: AtomicUsize,
    polled: AtomicBool,
    gate: ArcSwapOption<Gate>,
    closed: CancellationToken,
}

struct Held {
    claims: usize,
    free_at: Option<Instant>,
    /// Somebody with a better right has it now, and this is no longer in the table.
    lost: bool,
}

impl Registry {
    /// An empty registry. Routes stay held for `lease` after their last claim went.
    pub fn new(lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            changing: Mutex::default(),
            lease,
            next_session: AtomicU64::new(1),
            closed: CancellationToken::new(),
        })
    }

    /// No agent is let in any more: requests that wait for one stop waiting, and none begins to wait.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The target of a host, in lower case and without a port.
    pub fn find_host(&self, host: &str) -> Option<Arc<Target>> {
        self.table.load().hosts.get(host).cloned()
    }

    /// The target of a first path segment.
    pub fn find_path(&self, segment: &str) -> Option<Arc<Target>> {
        self.table.load().paths.get(segment).cloned()
    }

    /// Claims all of `routes` for `owner`, or none.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub fn reserve(
        self: &Arc<Self>,
        routes: Box<[Route]>,
        owner: &AgentId,
        terms: Terms,
    ) -> Result<Claim, Unavailable> {
        let _changing = self.changing.lock();
        let mut table = Table::clone(&self.table.load());
        let now = Instant::now();
        table.retain(|target| !target.is_free(now));
        self.judge(&table, &routes, owner, &terms)?;
        for route in &routes {
            match table.get(route) {
                // To ask takes nothing from anybody.
                Some(target) if target.owner == *owner || terms.probe => continue,
                Some(target) => target.lose(),
                None => {}
            }
            let charged = terms.right.charged();
            table.insert(Target::new(route.clone(), owner.clone(), charged, self.closed.clone()));
        }
        let targets: Vec<_> = routes.iter().filter_map(|r| table.get(r).cloned()).collect();
        let changed = !terms.probe && targets.iter().any(|target| !target.has_rules(terms.rules.as_ref()));
        for target in &targets {
            target.held.lock().claims += 1;
            // Where nobody serves, the rules can be in force before the first request waits for this agent.
            if !terms.probe && !target.sessions.load().iter().any(|s| s.is_usable()) {
                target.rule(terms.rules.as_ref());
            }
        }
        self.table.store(Arc::new(table));
        Ok(Claim::new(self.clone(), routes, targets, (terms, changed)))
    }

    fn judge(
        &self,
        table: &Table,
        routes: &[Route],
        owner: &AgentId,
        terms: &Terms,
    ) -> Result<(), Unavailable> {
        let own = |target: &&Arc<Target>| target.owner == *owner;
        let taken = |target: &Arc<Target>| !own(&target) && !terms.right.takes(target);
        if let Some(taken) = routes.iter().find(|route| table.get(route).is_some_and(taken)) {
            return Err(Unavailable::Taken(taken.clone()));
        }
        let more = routes.iter().filter(|route| table.get(route).filter(own).is_none()).count();
        match &terms.right {
            Right::Open(quota) => {
                quota.judge(table.all().map(|target| &**target), owner, more).map_err(Unavailable::Full)?;
            }
            Right::Granted => {
                let held = table.all().filter(own).count();
                if more > 0 && held + more > defaults::ROUTES_PER_AGENT {
                    return Err(Unavailable::TooManyRoutes(held));
                }
            }
        }
        if terms.probe {
            return Ok(());
        }
        // What is taken from another begins anew, whatever its rules were.
        let differs = |r: &&Route| table.get(r).filter(own).is_some_and(|t| t.is_served_otherwise(terms));
        if let Some(route) = routes.iter().find(differs) {
            return Err(Unavailable::OtherRules(route.clone()));
        }
        match terms.too_many(&self.sessions(), owner, routes) {
            Some(sessions) => Err(Unavailable::TooMany(sessions)),
            None => Ok(()),
        }
    }

    /// Every session, once.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let table = self.table.load();
        let mut all: Vec<_> = table.all().flat_map(|t| t.sessions.load().to_vec()).collect();
        all.sort_by_key(|s| s.id);
        all.dedup_by_key(|s| s.id);
        all
    }

    /// Forgets what nobody holds any more, and cuts the sessions of those that may not hold their routes.
    pub fn tidy(&self, may_stay: impl Fn(&AgentId, &Route) -> bool) {
        for session in self.sessions() {
            if !session.routes.iter().all(|route| may_stay(&session.agent, route)) {
                tracing::info!(session = %session.id, agent = %session.agent, "it has no right to its routes any more: session cut");
                session.cut();
            }
        }
        let now = Instant::now();
        // A lease is for an owner who may come back.
        let is_free = |target: &Target| {
            target.is_free(now) || !may_stay(&target.owner, &target.route) && target.is_unclaimed()
        };
        if self.table.load().all().any(|target| is_free(target)) {
            let _changing = self.changing.lock();
            let mut table = Table::clone(&self.table.load());
            table.retain(|target| !is_free(target));
            self.table.store(Arc::new(table));
        }
    }

    /// Whether a process is fenced from these routes: a newer boot of it stands there, another process has taken them
    /// from it, or another has them for itself alone. An exclusive process is stopped only by the first two.
    pub fn is_fenced(
        &self,
        routes: &[Route],
        owner: &AgentId,
        instance: Option<&Instance>,
        exclusive: bool,
    ) -> bool {
        let table = self.table.load();
        let fences = |s: &Arc<Session>| {
            s.agent == *owner
                && match (&s.instance, instance) {
                    (Some(present), Some(arriving)) if present.id == arriving.id => {
                        present.boot > arriving.boot
                    }
                    (present, arriving) => s.exclusive && !exclusive && present.as_ref() != arriving,
                }
        };
        routes.iter().filter_map(|route| table.get(route)).any(|target| {
            let taken_from = instance.is_some_and(|i| target.fenced.lock().contains(i));
            (taken_from && target.owner == *owner) || target.sessions.load().iter().any(fences)
        })
    }
}

impl Target {
    fn new(route: Route, owner: AgentId, charged: Option<IpAddr>, closed: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            route,
            owner,
            charged,
            sessions: ArcSwap::default(),
            held: Mutex::new(Held { claims: 0, free_at: None, lost: false }),
            fenced: Mutex::default(),
            arrived: Notify::new(),
            waiting: AtomicUsize::new(0),
            polled: AtomicBool::new(false),
            gate: ArcSwapOption::empty(),
            closed,
        })
    }

    /// The gate that its visitors pass; none when everybody may come in.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.load().as_ref().cloned()
    }

    fn has_rules(&self, rules: Option<&Arc<Rules>>) -> bool {
        self.gate.load().as_ref().map(|gate| gate.rules()) == rules
    }

    /// Whether somebody serves it, and goes on, with other rules than these.
    fn is_served_otherwise(&self, terms: &Terms) -> bool {
        !self.has_rules(terms.rules.as_ref()) && self.sessions.load().iter().any(|s| terms.conflicts(s))
    }

    /// Puts the rules in force. Whoever was let in by others before, and waits, has to ask again.
    fn rule(&self, rules: Option<&Arc<Rules>>) {
        if !self.has_rules(rules) {
            self.gate.store(rules.map(|rules| Arc::new(Gate::new(rules.clone()))));
        }
    }

    fn fence(&self, instance: &Instance) {
        let mut fenced = self.fenced.lock();
        if fenced.len() == FENCED {
            fenced.pop_front();
        }
        fenced.push_back(instance.clone());
    }

    /// Gives it up to somebody with a better right.
    fn lose(&self) {
        self.held.lock().lost = true;
        for session in self.sessions.load().iter() {
            tracing::info!(session = %session.id, agent = %session.agent, route = %self.route, "a token claims its name: session cut");
            session.cut();
        }
    }

    fn is_lost(&self) -> bool {
        self.held.lock().lost
    }

    fn is_unclaimed(&self) -> bool {
        self.held.lock().claims == 0
    }

    fn is_free(&self, now: Instant) -> bool {
        let held = self.held.lock();
        held.claims == 0 && held.free_at.is_none_or(|at| at <= now)
    }

    /// Whether an agent that polls has ever been here: one that is told each visitor's address and port.
    pub fn is_polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// Its sessions now.
    pub fn sessions(&self) -> Arc<Vec<Arc<Session>>> {
        self.sessions.load_full()
    }

    /// The session for the next request, which is none of `tried`; waits a moment for one if the agent has just
    /// gone and may come back. Cancel safe.
    pub async fn session(&self, tried: &[crate::domain::SessionId]) -> Option<Arc<Session>> {
        if let Some(session) = select::pick(&self.sessions.load(), tried) {
            return Some(session);
        }
        let _waiting = Waiting::enter(&self.waiting)?;
        let wait = async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                if let Some(session) = select::pick(&self.sessions.load(), tried) {
                    return session;
                }
                arrived.await;
            }
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            found = tokio::time::timeout(defaults::WAIT_AGENT, wait) => found.ok(),
        }
    }
}

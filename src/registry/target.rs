//! The target of the requests of one route.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::select;
use crate::defaults;
use crate::domain::{AgentId, Epoch, Route, SessionId};
use crate::policy::{Rules, VisitorPolicy};
use crate::session::{Session, WaitingPlace};

/// One route of one owner. Read for every public request; changed only by the registry.
pub struct Target {
    /// The route.
    pub route: Route,
    /// The agent that holds the route.
    pub owner: AgentId,
    served: ArcSwap<Served>,
    arrived: Notify,
    waiting: AtomicUsize,
    polled: AtomicBool,
    closed: CancellationToken,
}

/// The sessions and the policy of a route. They are one value, so that the rules that admit a visitor and the sessions
/// that get its request are read together.
#[derive(Default, Clone)]
pub struct Served {
    /// Its sessions.
    pub sessions: Vec<Arc<Session>>,
    /// The gate that a visitor must pass; `None` admits every visitor.
    pub policy: Option<Arc<VisitorPolicy>>,
    /// Grows with each change of the policy.
    pub epoch: Epoch,
}

impl Served {
    pub(super) fn has_rules(&self, rules: Option<&Arc<Rules>>) -> bool {
        self.policy.as_ref().map(|policy| policy.rules()) == rules
    }

    /// Puts the rules in force. A request that earlier rules admitted and that still waits gets no session.
    pub(super) fn set_rules(&mut self, rules: Option<&Arc<Rules>>) {
        if !self.has_rules(rules) {
            self.epoch = self.epoch.next();
            self.policy = rules.map(|rules| Arc::new(VisitorPolicy::new(rules.clone(), self.epoch)));
        }
    }
}

impl Target {
    pub(super) fn new(route: Route, owner: AgentId, closed: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            route,
            owner,
            served: ArcSwap::default(),
            arrived: Notify::new(),
            waiting: AtomicUsize::new(0),
            polled: AtomicBool::new(false),
            closed,
        })
    }

    /// The current sessions and policy.
    pub fn served(&self) -> arc_swap::Guard<Arc<Served>> {
        self.served.load()
    }

    /// Changes the sessions and the policy. The registry must be locked: of two concurrent changes one would be lost.
    pub(super) fn change(&self, change: impl FnOnce(&mut Served)) {
        let mut served = Served::clone(&self.served.load());
        change(&mut served);
        self.served.store(Arc::new(served));
    }

    /// Wakes the requests that wait for a session.
    pub(super) fn wake_waiting(&self) {
        self.arrived.notify_waiters();
    }

    /// Records that an agent that polls serves the route.
    pub(super) fn mark_polled(&self) {
        self.polled.store(true, Ordering::Relaxed);
    }

    /// Whether an agent that polls has ever served the route: such an agent gets each visitor's address and port.
    pub fn is_polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// The session for a request; `Some(None)` when the rules have changed since its admission.
    fn pick(&self, tried: &[SessionId], epoch: Epoch) -> Option<Option<Arc<Session>>> {
        let served = self.served.load();
        if served.epoch != epoch {
            return Some(None);
        }
        select::pick(&served.sessions, tried).map(Some)
    }

    /// As [`Target::session`], without a wait: for a request that an agent cannot take although it is connected.
    pub fn other_session(&self, tried: &[SessionId], epoch: Epoch) -> Option<Arc<Session>> {
        self.pick(tried, epoch).flatten()
    }

    /// The session for a request that was admitted at `epoch`, but none of `tried`. Waits a moment if the agent has
    /// just disconnected and may reconnect. `None` also when the rules have changed since the admission. Cancel safe.
    pub async fn session(&self, tried: &[SessionId], epoch: Epoch) -> Option<Arc<Session>> {
        let pick = || self.pick(tried, epoch);
        if let Some(picked) = pick() {
            return picked;
        }
        let _waiting = WaitingPlace::enter(&self.waiting)?;
        let wait = async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                if let Some(picked) = pick() {
                    return picked;
                }
                arrived.await;
            }
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            found = tokio::time::timeout(defaults::WAIT_AGENT, wait) => found.ok().flatten(),
        }
    }
}

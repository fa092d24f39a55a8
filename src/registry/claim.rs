//! Claims: routes that are held until the claim is dropped, and the step by which a link joins its session.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::agents::decide;
use super::{Registry, Target, Terms};
use crate::domain::{AgentId, Route, SessionId};
use crate::session::carrier::Carrier;
use crate::session::{Core, Kind, Link, Session};

/// Routes that are held, and a connection that is counted. A drop starts the lease of the routes.
#[must_use = "dropping it frees the routes"]
pub struct Claim {
    pub(super) registry: Arc<Registry>,
    pub(super) owner: AgentId,
    pub(super) terms: Terms,
    pub(super) targets: Vec<Arc<Target>>,
    /// Whether its rules for visitors differ from those in force before the claim.
    pub(super) changed: bool,
    /// Whether a link has joined. If none has, the end of the claim starts no lease.
    pub(super) used: bool,
}

impl Claim {
    /// The claimed routes.
    pub fn routes(&self) -> &[Route] {
        &self.terms.routes
    }

    /// Adds a fresh link to the session of its process, and creates the session for the first link. A newer boot
    /// of a process, and an exclusive process, cut the others. Returns the link, and a guard that removes the link on
    /// drop.
    pub fn join(
        mut self,
        carrier: Box<dyn Carrier>,
        (kind, core): (Kind, Core),
    ) -> (Arc<Link>, impl Any + Send + use<>) {
        self.used = true;
        let registry = self.registry.clone();
        let (terms, agent) = (&self.terms, &self.owner);
        let mut state = registry.state.lock();
        let entry = state.agents.entry(agent.clone()).or_default();
        let decision = decide(entry, terms, self.changed);
        for other in &decision.fenced {
            tracing::info!(session = %other.id, %agent, "session cut: a newer process serves its routes");
            if let Some(instance) = &other.instance {
                entry.fence(terms, instance);
            }
            other.cut();
        }
        let session = decision.session.unwrap_or_else(|| {
            let id = SessionId(registry.next_session.fetch_add(1, Ordering::Relaxed));
            let (instance, routes) = (terms.instance.clone(), terms.routes.clone());
            Session::new(id, agent.clone(), instance, terms.exclusive, routes, terms.answer_timeout)
        });
        let link = Link::new(carrier, kind, core, session.freed());
        if decision.is_outdated {
            link.cut();
        }
        session.add(link.clone());
        if !entry.sessions.iter().any(|known| known.id == session.id) {
            entry.sessions.push(session.clone());
        }
        for target in &self.targets {
            if kind == Kind::Envelope {
                target.mark_polled();
            }
            target.change(|served| {
                if !decision.is_outdated {
                    served.set_rules(terms.rules.as_ref());
                }
                if !served.sessions.iter().any(|known| known.id == session.id) {
                    served.sessions.push(session.clone());
                }
            });
            target.wake_waiting();
        }
        drop(state);
        (link.clone(), Joined { session, link, claim: self })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.release(self);
    }
}

/// A link in its session.
struct Joined {
    session: Arc<Session>,
    link: Arc<Link>,
    claim: Claim,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut state = self.claim.registry.state.lock();
        self.link.drain();
        if self.session.remove(&self.link) > 0 {
            return;
        }
        let session_id = self.session.id;
        if let Some(entry) = state.agents.get_mut(&self.claim.owner) {
            entry.sessions.retain(|session| session.id != session_id);
        }
        for target in &self.claim.targets {
            target.change(|served| served.sessions.retain(|session| session.id != session_id));
        }
    }
}

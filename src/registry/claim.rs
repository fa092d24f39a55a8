//! Routes held until dropped, and the way of a link into its session.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::terms::is_fenced_by;
use super::{Registry, Target, Terms};
use crate::domain::{AgentId, Route, SessionId};
use crate::session::carrier::Carrier;
use crate::session::{Kind, Link, Session};

/// Routes that are held. Dropping it starts their lease.
pub struct Claim {
    registry: Arc<Registry>,
    routes: Box<[Route]>,
    targets: Vec<Arc<Target>>,
    terms: Terms,
    /// Its rules for visitors are not those of before.
    changed: bool,
    /// A link has come of it. Without one the routes are as free as they were before.
    used: bool,
}

impl Claim {
    pub(super) fn new(
        registry: Arc<Registry>,
        routes: Box<[Route]>,
        targets: Vec<Arc<Target>>,
        (terms, changed): (Terms, bool),
    ) -> Self {
        Self { registry, routes, targets, terms, changed, used: false }
    }

    /// Puts a fresh link into the session of its process, making one if it is the first. A newer boot of the same
    /// process, and an exclusive process, cut the others. Returns the link, and what takes it out again on drop.
    pub fn join(
        mut self,
        agent: &AgentId,
        carrier: Box<dyn Carrier>,
        (kind, core): (Kind, usize),
    ) -> (Arc<Link>, impl Any + Send + use<>) {
        self.used = true;
        let Terms { instance, exclusive, .. } = self.terms.clone();
        let registry = self.registry.clone();
        let _changing = registry.changing.lock();
        let present: Vec<_> = self.targets.iter().flat_map(|t| t.sessions.load().to_vec()).collect();
        for other in present.iter().filter(|s| s.agent == *agent) {
            if is_fenced_by(other.instance.as_ref(), instance.as_ref(), exclusive) {
                tracing::info!(session = %other.id, agent = %agent, "a newer process took its place: session cut");
                if let Some(instance) = &other.instance {
                    self.targets.iter().for_each(|target| target.fence(instance));
                }
                other.cut();
            }
        }
        // Its offer was judged a moment ago: a newer boot may have come in since, or one with other rules, or as many
        // as its token may have, or somebody with a better right.
        let outdated = present
            .iter()
            .any(|s| s.agent == *agent && is_fenced_by(instance.as_ref(), s.instance.as_ref(), false))
            || self.targets.iter().any(|target| target.is_lost() || target.is_served_otherwise(&self.terms))
            || self.terms.too_many(&registry.sessions(), agent, &self.routes).is_some();
        let rules = self.terms.rules.as_ref();
        let changed = self.changed || self.targets.iter().any(|target| !target.has_rules(rules));
        if !outdated {
            self.targets.iter().for_each(|target| target.rule(rules));
        }
        let mine = |s: &&Arc<Session>| s.agent == *agent && s.instance == instance && s.routes == self.routes;
        // Whoever waits in a session was let in by the rules of before.
        let session = match present.iter().filter(|_| !changed).find(mine) {
            Some(session) => session.clone(),
            None => {
                let id = SessionId(registry.next_session.fetch_add(1, Ordering::Relaxed));
                Session::new(id, agent.clone(), instance, exclusive, self.routes.clone())
            }
        };
        let link = Link::new(carrier, kind, core, session.freed());
        if outdated {
            link.cut();
        }
        session.add(link.clone());
        for target in &self.targets {
            if kind == Kind::Envelope {
                target.polled.store(true, Ordering::Relaxed);
            }
            let known = target.sessions.load().iter().any(|s| s.id == session.id);
            if !known {
                target.sessions.rcu(|all| all.iter().chain([&session]).cloned().collect::<Vec<_>>());
            }
            target.arrived.notify_waiters();
        }
        (link.clone(), Joined { session, link, claim: self })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let free_at = Instant::now() + self.registry.lease;
        for target in &self.targets {
            let mut held = target.held.lock();
            held.claims = held.claims.saturating_sub(1);
            if self.used {
                held.free_at = Some(free_at);
            }
        }
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
        let _changing = self.claim.registry.changing.lock();
        self.link.drain();
        if self.session.remove(&self.link) > 0 {
            return;
        }
        for target in &self.claim.targets {
            let gone = self.session.id;
            target.sessions.rcu(|all| all.iter().filter(|s| s.id != gone).cloned().collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Name;
    use crate::session::carrier::Fake;

    #[tokio::test(start_paused = true)]
    async fn a_lease_follows_the_clock_of_the_runtime() {
        let lease = Duration::from_secs(60);
        let registry = Registry::new(lease);
        let route = Route::Path(Name::parse("a").unwrap());
        let agent = |id: &str| AgentId(id.into());
        let reserve = |id: &str| registry.reserve([route.clone()].into(), &agent(id), Terms::default());
        let carrier = Fake::carrier(1, |_, _| unreachable!("nothing is sent"));
        let (link, joined) = reserve("first").unwrap().join(&agent("first"), carrier, (Kind::H1, 0));
        drop((link, joined));
        tokio::time::advance(lease - Duration::from_secs(1)).await;
        assert!(reserve("second").is_err(), "the lease of the first has not ended");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(reserve("second").is_ok(), "the lease of the first has ended");
    }
}

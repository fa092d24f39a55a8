//! The terms on which an agent requests and holds routes: its right, its limits, its rules for visitors.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::domain::{AnswerTimeout, Instance, Route};
use crate::policy::Rules;
use crate::session::Session;

/// The terms on which an agent requests routes.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The requested routes.
    pub routes: Box<[Route]>,
    /// The right by which the routes are requested.
    pub right: Right,
    /// The process of the agent, if the agent sent its instance.
    pub instance: Option<Instance>,
    /// Whether the process fences every other process of its token and routes.
    pub exclusive: bool,
    /// Whether this is a probe, which serves nothing.
    pub probe: bool,
    /// The rules for visitors; `None` admits every visitor.
    pub rules: Option<Arc<Rules>>,
    /// The most sessions that its owner may have.
    pub sessions: Option<NonZeroU32>,
    /// The most connections that its owner may have.
    pub connections: Option<usize>,
    /// How long a visitor waits for the head of an answer.
    pub answer_timeout: AnswerTimeout,
}

impl Terms {
    /// Whether a session is usable, and is not fenced by this process.
    pub(super) fn conflicts(&self, other: &Session) -> bool {
        other.is_usable() && !is_fenced_by(other.instance.as_ref(), self.instance.as_ref(), self.exclusive)
    }

    /// Whether a connection on these terms can join a session of the same owner.
    pub(super) fn fit(&self, session: &Session) -> bool {
        session.instance == self.instance
            && session.routes == self.routes
            && session.answer_timeout == self.answer_timeout
    }

    /// The number of the owner's sessions, if one more on these terms would be too many.
    pub(super) fn too_many(&self, sessions: &[Arc<Session>]) -> Option<usize> {
        let most = self.sessions?.get() as usize;
        let others = sessions.iter().filter(|s| self.conflicts(s) && !self.fit(s));
        Some(others.count()).filter(|others| *others >= most)
    }
}

pub(super) fn is_fenced_by(present: Option<&Instance>, arriving: Option<&Instance>, exclusive: bool) -> bool {
    match (present, arriving) {
        (Some(old), Some(new)) if old.id == new.id => old.boot < new.boot,
        (present, arriving) => exclusive && present != arriving,
    }
}

/// The right by which routes are requested.
#[derive(Debug, Clone, Default)]
pub enum Right {
    /// A token or a certificate, which also takes routes from a holder that has neither.
    #[default]
    Granted,
    /// Neither a token nor a certificate: free routes only, within bounds.
    Open(Quota),
}

impl Right {
    pub(super) fn charged(&self) -> Option<IpAddr> {
        match self {
            Self::Granted => None,
            Self::Open(quota) => Some(quota.address),
        }
    }
}

/// How many routes may be held without a token, including leased routes.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// The address that is charged.
    pub address: IpAddr,
    /// The bound for one agent.
    pub per_agent: usize,
    /// The bound for one address, over all its agents.
    pub per_address: usize,
    /// The bound for all.
    pub total: usize,
}

/// The routes that are held without a token.
#[derive(Debug, Default)]
pub(super) struct Charged {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
}

impl Charged {
    pub(super) fn add(&mut self, address: IpAddr) {
        *self.by_address.entry(address).or_default() += 1;
        self.total += 1;
    }

    pub(super) fn remove(&mut self, address: IpAddr) {
        if let Entry::Occupied(mut count) = self.by_address.entry(address) {
            *count.get_mut() -= 1;
            self.total -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Checks that an agent that holds `of_agent` routes may hold `additional` routes.
    pub(super) fn judge(&self, quota: &Quota, of_agent: usize, additional: usize) -> Result<(), Bound> {
        let of_address = self.by_address.get(&quota.address).copied().unwrap_or_default();
        match () {
            // An agent may always claim again the routes that it holds, even if a bound is reached.
            () if additional == 0 => Ok(()),
            () if of_agent + additional > quota.per_agent => Err(Bound::Agent(quota.per_agent)),
            () if of_address + additional > quota.per_address => Err(Bound::Address(quota.per_address)),
            () if self.total + additional > quota.total => Err(Bound::Total),
            () => Ok(()),
        }
    }
}

/// The bound that is reached, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The bound for one agent.
    Agent(usize),
    /// The bound for one address.
    Address(usize),
    /// The bound for all.
    Total,
}

/// Why routes cannot be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Another agent holds this route, or its lease has not ended yet.
    #[error("{0} belongs to another agent")]
    Taken(Route),
    /// Another agent serves this route with other rules for its visitors: under either set of rules, one of the agents
    /// would get visitors that its own rules exclude.
    #[error("{0} is served with other rules for its visitors")]
    OtherRules(Route),
    /// The process is fenced: a newer boot of the process serves, or another process has replaced it.
    #[error("another process of this owner now serves the routes")]
    Fenced,
    /// The owner has as many connections as it may have.
    #[error("there are {0} connections of this agent already")]
    TooManyConnections(usize),
    /// The owner has as many sessions as it may have.
    #[error("there are {0} sessions of this token already")]
    TooMany(usize),
    /// The owner holds this many routes, and may not hold the requested ones besides.
    #[error("this token holds {0} routes already")]
    TooManyRoutes(usize),
    /// The bound for routes without a token is reached.
    #[error("no more routes may be held without a token")]
    Full(Bound),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AgentId, Name};
    use crate::registry::Registry;

    #[test]
    fn each_bound_applies_independently() {
        let [first, second]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let quota = |address| Quota { address, per_agent: 2, per_address: 3, total: 4 };
        let mut charged = Charged::default();
        charged.add(first);
        charged.add(first);
        assert_eq!(charged.judge(&quota(first), 2, 0), Ok(()));
        assert_eq!(charged.judge(&quota(second), 2, 1), Err(Bound::Agent(2)));
        assert_eq!(charged.judge(&quota(first), 0, 1), Ok(()));
        assert_eq!(charged.judge(&quota(first), 0, 2), Err(Bound::Address(3)));
        charged.add(first);
        charged.add(first);
        assert_eq!(charged.judge(&quota(second), 0, 1), Err(Bound::Total));
        assert_eq!(charged.judge(&quota(first), 1, 0), Ok(()), "a route that is held is not lost");
        (0..4).for_each(|_| charged.remove(first));
        assert!(charged.by_address.is_empty());
        assert_eq!(charged.judge(&quota(second), 0, 2), Ok(()), "a released route is not counted");
    }

    #[test]
    fn a_token_takes_an_open_route_and_a_probe_does_not() {
        let registry = Registry::new(std::time::Duration::from_secs(60));
        let route = Route::Path(Name::parse("a").unwrap());
        let claim = |agent: &str, right: Right, probe| {
            let terms = Terms { routes: [route.clone()].into(), right, probe, ..Terms::default() };
            registry.claim(&AgentId(agent.into()), terms).map_err(|error| error.to_string())
        };
        let owner = || registry.find_path("a").unwrap().owner.0.to_string();
        let quota = Quota { address: [192, 0, 2, 1].into(), per_agent: 1, per_address: 1, total: 1 };
        let _open = claim("open", Right::Open(quota), false).unwrap();
        drop(claim("named", Right::Granted, true).unwrap());
        assert_eq!(owner(), "open");
        let _named = claim("named", Right::Granted, false).unwrap();
        assert_eq!(owner(), "named");
        assert!(claim("another", Right::Granted, false).is_err());
        assert!(claim("open", Right::Open(quota), false).is_err());
    }
}

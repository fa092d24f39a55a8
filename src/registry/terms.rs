//! On what terms routes are asked for and held: by which right, beside whom, with which rules for visitors.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::Target;
use crate::domain::{AgentId, Instance, Route};
use crate::policy::Rules;
use crate::session::Session;

/// On what terms an agent asks for routes.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// By which right.
    pub right: Right,
    /// The process that asks, if it says.
    pub instance: Option<Instance>,
    /// It fences every other process of its token and routes.
    pub exclusive: bool,
    /// It only asks, and will serve nothing.
    pub probe: bool,
    /// The rules for visitors; nothing means everybody.
    pub rules: Option<Arc<Rules>>,
    /// The most sessions that its owner may have.
    pub sessions: Option<NonZeroU32>,
}

impl Terms {
    /// Whether a session stands on other terms, and is not to be fenced by this process.
    pub(super) fn conflicts(&self, other: &Session) -> bool {
        other.is_usable() && !is_fenced_by(other.instance.as_ref(), self.instance.as_ref(), self.exclusive)
    }

    /// The sessions of an owner, when one more for these routes would be too many.
    pub(super) fn too_many(
        &self,
        sessions: &[Arc<Session>],
        owner: &AgentId,
        routes: &[Route],
    ) -> Option<usize> {
        let most = self.sessions?.get() as usize;
        let others = sessions.iter().filter(|s| {
            s.agent == *owner && self.conflicts(s) && !(s.instance == self.instance && *s.routes == *routes)
        });
        Some(others.count()).filter(|others| *others >= most)
    }
}

pub(super) fn is_fenced_by(present: Option<&Instance>, arriving: Option<&Instance>, exclusive: bool) -> bool {
    match (present, arriving) {
        (Some(old), Some(new)) if old.id == new.id => old.boot < new.boot,
        (present, arriving) => exclusive && present != arriving,
    }
}

/// By which right routes are asked for.
#[derive(Debug, Clone, Default)]
pub enum Right {
    /// By a token or a certificate, which also takes them from a holder who has neither.
    #[default]
    Granted,
    /// With neither: what is free, within bounds.
    Open(Quota),
}

impl Right {
    pub(super) fn takes(&self, target: &Target) -> bool {
        matches!(self, Self::Granted) && target.charged.is_some()
    }

    pub(super) fn charged(&self) -> Option<IpAddr> {
        match self {
            Self::Granted => None,
            Self::Open(quota) => Some(quota.address),
        }
    }
}

/// How many routes may be held without a token, leases among them.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// The address that is charged.
    pub address: IpAddr,
    /// For one agent.
    pub per_agent: usize,
    /// For one address, over all its agents.
    pub per_address: usize,
    /// For all.
    pub total: usize,
}

impl Quota {
    /// Looks whether `more` routes fit beside those that are held.
    pub(super) fn judge<'a>(
        &self,
        held: impl Iterator<Item = &'a Target>,
        owner: &AgentId,
        more: usize,
    ) -> Result<(), Bound> {
        let (mut of_agent, mut of_address, mut all) = (more, more, more);
        for target in held.filter(|target| target.charged.is_some()) {
            of_agent += usize::from(target.owner == *owner);
            of_address += usize::from(target.charged == Some(self.address));
            all += 1;
        }
        match () {
            // What stands already may be claimed again, however full it is.
            () if more == 0 => Ok(()),
            () if of_agent > self.per_agent => Err(Bound::Agent(self.per_agent)),
            () if of_address > self.per_address => Err(Bound::Address(self.per_address)),
            () if all > self.total => Err(Bound::Total),
            () => Ok(()),
        }
    }
}

/// Which bound is reached, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// That of one agent.
    Agent(usize),
    /// That of one address.
    Address(usize),
    /// That of all.
    Total,
}

/// Why routes cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// This one is held by another agent, or was until a moment ago.
    #[error("{0} belongs to another agent")]
    Taken(Route),
    /// Another agent serves this one with other rules for its visitors: whichever of the two were in force, the other
    /// agent would be served to visitors that it did not let in.
    #[error("{0} is served with other rules for its visitors")]
    OtherRules(Route),
    /// The owner has as many sessions as it may have.
    #[error("there are {0} sessions of this token already")]
    TooMany(usize),
    /// The owner holds so many routes, and may not hold as many more as are asked for.
    #[error("this token holds {0} routes already")]
    TooManyRoutes(usize),
    /// More than may be held without a token.
    #[error("no more routes may be held without a token")]
    Full(Bound),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::Name;
    use crate::registry::Registry;

    fn held(count: usize, owner: impl Fn(usize) -> String, from: IpAddr) -> Vec<Arc<Target>> {
        let route = |n| Route::Path(Name::parse(&format!("n{n}")).unwrap());
        (0..count)
            .map(|n| Target::new(route(n), AgentId(owner(n).into()), Some(from), CancellationToken::new()))
            .collect()
    }

    #[test]
    fn each_bound_holds_for_itself() {
        let [here, there]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let quota = |address| Quota { address, per_agent: 2, per_address: 3, total: 4 };
        let judge = |held: &[Arc<Target>], who: &str, from, more| {
            quota(from).judge(held.iter().map(|t| &**t), &AgentId(who.into()), more)
        };
        let two = held(2, |_| "a".into(), here);
        assert_eq!(judge(&two, "a", here, 0), Ok(()));
        assert_eq!(judge(&two, "a", there, 1), Err(Bound::Agent(2)));
        assert_eq!(judge(&two, "b", here, 1), Ok(()));
        assert_eq!(judge(&two, "b", here, 2), Err(Bound::Address(3)));
        let four = held(4, |n| format!("a{n}"), here);
        assert_eq!(judge(&four, "b", there, 1), Err(Bound::Total));
        assert_eq!(judge(&four, "a0", here, 0), Ok(()), "what stands is not lost");
        let tokens: Vec<_> = (0..9)
            .map(|n| {
                let route = Route::Path(Name::parse(&format!("t{n}")).unwrap());
                Target::new(route, AgentId("t".into()), None, CancellationToken::new())
            })
            .collect();
        assert_eq!(judge(&tokens, "b", here, 1), Ok(()), "tokens are not counted");
    }

    #[test]
    fn what_is_named_is_taken_and_not_by_asking() {
        let registry = Registry::new(std::time::Duration::from_secs(60));
        let route = Route::Path(Name::parse("a").unwrap());
        let reserve = |who: &str, right: Right, probe| {
            let terms = Terms { right, probe, ..Terms::default() };
            registry
                .reserve([route.clone()].into(), &AgentId(who.into()), terms)
                .map_err(|why| why.to_string())
        };
        let owner = || registry.find_path("a").unwrap().owner.0.to_string();
        let quota = Quota { address: [192, 0, 2, 1].into(), per_agent: 1, per_address: 1, total: 1 };
        let _open = reserve("open", Right::Open(quota), false).unwrap();
        drop(reserve("named", Right::Granted, true).unwrap());
        assert_eq!(owner(), "open");
        let _named = reserve("named", Right::Granted, false).unwrap();
        assert_eq!(owner(), "named");
        assert!(reserve("another", Right::Granted, false).is_err());
        assert!(reserve("open", Right::Open(quota), false).is_err());
    }
}

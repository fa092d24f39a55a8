//! On what terms routes are held: by the right of a token, or by whoever came first, within bounds.

use std::net::IpAddr;

use super::Target;
use crate::domain::{AgentId, Route};

/// On what terms routes are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Terms<'a> {
    /// By a token. What it names exactly it takes, also from a holder who has no token.
    Token {
        /// The routes that it names exactly.
        takes: &'a [Route],
    },
    /// Without a token: what is free, within bounds.
    Open(Quota),
}

impl Terms<'_> {
    pub(super) fn take(&self, target: &Target) -> bool {
        matches!(self, Self::Token { takes } if target.charged.is_some() && takes.contains(&target.route))
    }

    pub(super) fn charged(&self) -> Option<IpAddr> {
        match self {
            Self::Token { .. } => None,
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

/// Why routes were not reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A route belongs to somebody else: the first such.
    #[error("{0} belongs to another agent")]
    Taken(Route),
    /// More than may be held without a token.
    #[error("no more routes may be held without a token")]
    Full(Bound),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::Name;

    fn held(count: usize, owner: impl Fn(usize) -> String, from: IpAddr) -> Vec<Arc<Target>> {
        let route = |n| Route::Path(Name::parse(&format!("n{n}")).unwrap());
        (0..count).map(|n| Target::new(route(n), AgentId(owner(n).into()), Some(from))).collect()
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
                Target::new(Route::Path(Name::parse(&format!("t{n}")).unwrap()), AgentId("t".into()), None)
            })
            .collect();
        assert_eq!(judge(&tokens, "b", here, 1), Ok(()), "tokens are not counted");
    }
}

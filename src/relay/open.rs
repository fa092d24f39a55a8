//! Open registration: the grants, the checks and the quota of agents without a token.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::names::Names;
use crate::defaults;
use crate::domain::{AgentId, Facts, Offer, Refusal, RefusalKind, Wanted};
use crate::policy::{Grants, Tokens, Verified, open};
use crate::registry::{Bound, Quota};

/// The identity of an agent without a token. Its grants allow every name; [`check`] decides about each name of an
/// offer.
pub(super) fn verified(id: AgentId) -> Verified {
    Verified { id, grants: Grants::any().into(), second_grants: None }
}

/// Checks that an agent without a token may claim every route of an offer.
pub(super) fn check(offer: &Offer, names: &Names, tokens: &Tokens) -> Result<(), Refusal> {
    for wanted in &offer.wanted {
        let wanted = names.resolve(wanted);
        let message = match &wanted {
            Wanted::Host(host) | Wanted::Origin(host) => {
                format!("the host {host} needs a token that lists it; without a token choose a --name")
            }
            Wanted::Below(below) => {
                format!("{below} needs a token that lists it; without a token choose a --name")
            }
            Wanted::Name(name) if open::is_reserved(name) => {
                format!("the name {:?} needs a token; try another --name", name.as_str())
            }
            Wanted::Name(name) if tokens.names_exactly(name) => {
                format!("the name {:?} belongs to a token; try another --name", name.as_str())
            }
            Wanted::Name(_) => continue,
        };
        return Err(Refusal::new(RefusalKind::Forbidden, message));
    }
    Ok(())
}

/// The refusal for an agent that has reached a bound.
pub(super) fn over_quota(bound: Bound, lease: Duration) -> Refusal {
    let (kind, message) = match bound {
        Bound::Agent(most) => {
            (RefusalKind::TooMany, format!("an agent without a token may hold at most {most} names"))
        }
        Bound::Address(most) => {
            (RefusalKind::TooMany, format!("one address may hold at most {most} names without a token"))
        }
        Bound::Total => {
            (RefusalKind::Full, "this relay has no more names for agents without a token".to_owned())
        }
    };
    let mut refusal = Refusal::new(kind, message);
    // A name becomes free when the lease of its last holder ends.
    refusal.retry_after = Some(lease.max(defaults::RETRY_AFTER));
    refusal
}

/// The bounds for an agent at this remote address.
pub(super) fn quota(facts: &Facts) -> Quota {
    Quota {
        address: charged(facts.remote.ip()),
        per_agent: defaults::OPEN_NAMES_PER_AGENT,
        per_address: defaults::OPEN_NAMES_PER_ADDRESS,
        total: defaults::OPEN_NAMES,
    }
}

/// The address that is charged: for IPv6 its /64, the least that a subscriber has (RFC 6177 §2).
fn charged(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_charged_as_one_address() {
        let same = |a: &str, b: &str| charged(a.parse().unwrap()) == charged(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }
}

//! Names, hosts and public addresses, as the configuration alone determines them, before any agent has claimed a route.

use std::sync::Arc;

use http::uri::Authority;

use super::config::{RelayConfig, Routing};
use crate::domain::{Below, ERROR_PAGES, Facts, HostName, Name, Offer, Route, Wanted};
use crate::policy::{Grants, Verified};
use crate::registry::{Registry, Target};

/// The relay's naming.
pub(super) struct Names {
    config: Arc<RelayConfig>,
    own: Vec<HostName>,
}

impl Names {
    /// `loopback` adds the hosts by which a loopback listener is reached.
    pub(super) fn new(config: Arc<RelayConfig>, loopback: bool) -> Self {
        let local = ["localhost", "127.0.0.1", "[::1]"].into_iter().filter(|_| loopback);
        let own = std::iter::once(config.domain.clone())
            .chain(config.authorities.iter().cloned())
            .chain(local.filter_map(|h| HostName::parse(h).ok()))
            .collect();
        Self { config, own }
    }

    /// The relay's own authorities.
    pub(super) fn own(&self) -> &[HostName] {
        &self.own
    }

    /// Whether a host is the relay's own authority.
    pub(super) fn is_own(&self, host: &HostName) -> bool {
        self.own.contains(host)
    }

    /// Whether no agent may claim a host: the relay's own authorities, and all hosts below the domain, which are for
    /// names.
    pub(super) fn is_unclaimable(&self, host: &HostName) -> bool {
        self.is_own(host) || host.is_within(&self.config.domain)
    }

    /// Whether a host belongs to the operator of the relay. The names of the loopback interface do not: all programs of a
    /// machine share them.
    pub(super) fn is_of_relay(&self, host: &HostName) -> bool {
        host.is_within(&self.config.domain) || self.config.authorities.contains(host)
    }

    /// The name that a host below the domain stands for.
    pub(super) fn name_of(&self, host: &HostName) -> Option<Name> {
        let label = host.label_below(&self.config.domain)?;
        (self.config.routing == Routing::Host).then(|| Name::parse(label).ok()).flatten()
    }

    /// Resolves an origin to a name or a host. An agent may reach the relay by any of its own authorities, so a label
    /// below each of them is a name.
    pub(super) fn resolve(&self, wanted: &Wanted) -> Wanted {
        let Wanted::Origin(host) = wanted else { return wanted.clone() };
        let label = self.own.iter().find_map(|own| host.label_below(own));
        match label.and_then(|label| Name::parse(label).ok()) {
            Some(name) => Wanted::Name(name),
            None => Wanted::Host(host.clone()),
        }
    }

    /// The route on which requests for a name or a host arrive.
    pub(super) fn route(&self, wanted: &Wanted) -> Route {
        match wanted {
            Wanted::Host(host) | Wanted::Origin(host) => Route::Host(host.clone()),
            Wanted::Below(Below::Host(host)) => Route::Below(host.clone()),
            Wanted::Below(Below::Name(name)) => match self.host_of(name) {
                Some(host) => Route::Below(host),
                None => Route::Path(name.clone()),
            },
            Wanted::Name(name) => match self.host_of(name).filter(|_| self.config.routing == Routing::Host) {
                Some(host) => Route::Host(host),
                None => Route::Path(name.clone()),
            },
        }
    }

    /// The host of a name. Only a domain near 253 characters has none; no request can reach such a host either.
    fn host_of(&self, name: &Name) -> Option<HostName> {
        HostName::parse(&format!("{name}.{}", self.config.domain)).ok()
    }

    /// Whether the credentials of an agent allow it to claim this.
    pub(super) fn may_claim(&self, verified: &Verified, wanted: &Wanted) -> bool {
        match wanted {
            // One of the relay's own authorities may be a host below the domain; no agent may claim its name.
            Wanted::Name(name) => {
                let is_own = matches!(self.route(wanted), Route::Host(host) if self.is_own(&host));
                verified.allows_name(name) && !is_own
            }
            Wanted::Host(host) => {
                let lists = verified.grants.lists_host(host);
                let is_of_another = !lists && self.config.tokens.lists_host(host);
                verified.allows_host(host) && !is_of_another && !self.is_unclaimable(host)
            }
            Wanted::Below(below) => {
                let is_claimable = match below {
                    Below::Name(_) => self.config.routing == Routing::Host,
                    Below::Host(host) => !self.is_unclaimable(host),
                };
                is_claimable && verified.allows_below(below)
            }
            Wanted::Origin(_) => false,
        }
    }

    /// The request of everything below the parent of a host, which covers the host.
    fn covering(&self, host: &HostName) -> Option<Below> {
        let parent = host.parent()?;
        Some(self.name_of(&parent).map_or(Below::Host(parent), Below::Name))
    }

    /// The target of a host: its own, or else that of all hosts below its parent. Of two tokens, one that lists the host
    /// exactly has precedence, also while none of its agents is connected.
    pub(super) fn find(&self, registry: &Registry, host: &HostName) -> Option<Arc<Target>> {
        registry.find_host(host.as_str()).or_else(|| {
            let (_, parent) = host.as_str().split_once('.')?;
            let target = registry.find_below(parent)?;
            let tokens = &self.config.tokens;
            let lists = || tokens.find(&target.owner).is_some_and(|found| found.grants.lists_host(host));
            (!tokens.lists_host(host) || lists()).then_some(target)
        })
    }

    /// The public URL that the agent gets: scheme and port as in its own request, unless configured.
    pub(super) fn public_url(&self, wanted: &Wanted, facts: &Facts) -> String {
        let port = facts.authority.parse::<Authority>().ok().and_then(|a| a.port_u16());
        let (scheme, domain, port) = self.public_base(facts.tls, port);
        match (wanted, self.config.routing) {
            (Wanted::Host(host) | Wanted::Origin(host), _) => format!("{scheme}://{host}{port}/"),
            (Wanted::Below(below @ Below::Host(_)), _) => format!("{scheme}://{below}{port}/"),
            (Wanted::Below(below @ Below::Name(_)), _) => format!("{scheme}://{below}.{domain}{port}/"),
            (Wanted::Name(name), Routing::Host) => format!("{scheme}://{name}.{domain}{port}/"),
            (Wanted::Name(name), Routing::Path) => format!("{scheme}://{domain}{port}/{name}/"),
        }
    }

    /// The URL below which each error code has a page, for a relay whose own URL has this scheme and port unless
    /// configured.
    pub(super) fn error_pages(&self, tls: bool, port: Option<u16>) -> String {
        let (scheme, domain, port) = self.public_base(tls, port);
        format!("{scheme}://{domain}{port}{ERROR_PAGES}")
    }

    /// Scheme and domain of the public URLs, and their port with its colon unless the port is that of the scheme.
    fn public_base(&self, tls: bool, port: Option<u16>) -> (&str, &str, String) {
        let public = self.config.public_url.as_ref();
        let scheme = public.and_then(|u| u.scheme_str()).unwrap_or(if tls { "https" } else { "http" });
        let port = public.map_or(port, |url| url.port_u16());
        let default = if scheme == "https" { 443 } else { 80 };
        let port = port.filter(|p| *p != default).map(|p| format!(":{p}")).unwrap_or_default();
        (scheme, public.and_then(|u| u.host()).unwrap_or(self.config.domain.as_str()), port)
    }

    /// Whether a live token names a route exactly, so that an agent may claim it later.
    pub(super) fn is_named_by_token(&self, route: &Route) -> bool {
        match route {
            Route::Path(name) => self.config.tokens.names_exactly(name),
            Route::Host(host) => match self.name_of(host) {
                Some(name) => self.config.tokens.names_exactly(&name),
                None => {
                    let covered =
                        self.covering(host).is_some_and(|below| self.config.tokens.lists_below(&below));
                    covered || self.config.tokens.lists_host(host)
                }
            },
            Route::Below(host) => {
                let below = self.name_of(host).map_or_else(|| Below::Host(host.clone()), Below::Name);
                self.config.tokens.lists_below(&below)
            }
        }
    }
}

/// The name for an offer without routes: the suggested name where the token allows any name, or the only prefix of the
/// token and the suggested name. `None` for a token that lists names, which the agent has to choose from.
pub(super) fn suggested(offer: &Offer, verified: &Verified) -> Option<Name> {
    let suggested = offer.suggested.as_ref()?;
    let Grants { any_name, names, prefixes, .. } = &*verified.grants;
    let name = match (any_name, &names[..], &prefixes[..]) {
        (true, ..) => suggested.clone(),
        (false, [], [prefix]) => Name::parse(&format!("{}{suggested}", prefix.as_str())).ok()?,
        _ => return None,
    };
    verified.allows_name(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Tokens;

    fn names(routing: Routing, public: Option<&'static str>) -> Names {
        let mut config = RelayConfig::new(HostName::parse("relay.test").unwrap(), Tokens::in_memory());
        config.routing = routing;
        config.public_url = public.map(http::Uri::from_static);
        Names::new(Arc::new(config), true)
    }

    fn facts(tls: bool, authority: &str) -> Facts {
        let remote = ([127, 0, 0, 1], 1).into();
        Facts {
            remote,
            tls,
            authority: authority.into(),
            server_name: None,
            credential: None,
            certificate: None,
            closed: None,
        }
    }

    #[test]
    fn a_suggested_name_is_for_tokens_that_do_not_list_names() {
        let name = |text: &str| Name::parse(text).unwrap();
        let prefix = |text: &str| crate::policy::Prefix::parse(text).unwrap().unwrap();
        let offer = Offer { suggested: Some(name("bakilo-vemu")), ..Offer::default() };
        let granted = |grants: Grants| {
            let id = crate::domain::AgentId("a".into());
            let verified = Verified { id, grants: grants.into(), second_grants: None };
            suggested(&offer, &verified).map(|name| name.to_string())
        };
        assert_eq!(granted(Grants::any()).as_deref(), Some("bakilo-vemu"));
        let team = Grants { prefixes: vec![prefix("team-*")], ..Grants::default() };
        assert_eq!(granted(team.clone()).as_deref(), Some("team-bakilo-vemu"));
        assert_eq!(granted(Grants { names: vec![name("shop")], ..team }), None);
        assert_eq!(granted(Grants::names([name("a"), name("b")])), None);
        assert_eq!(granted(Grants::default()), None);
    }

    #[test]
    fn public_urls_follow_the_agents_own_request_unless_configured() {
        let shop = Wanted::Name(Name::parse("shop").unwrap());
        let host = Wanted::Host(HostName::parse("www.shop.test").unwrap());
        let url = |routing, public, tls, authority| {
            names(routing, public).public_url(&shop, &facts(tls, authority))
        };
        assert_eq!(url(Routing::Host, None, true, "relay.test"), "https://shop.relay.test/");
        assert_eq!(url(Routing::Host, None, true, "localhost:8443"), "https://shop.relay.test:8443/");
        assert_eq!(url(Routing::Host, None, false, "relay.test:80"), "http://shop.relay.test/");
        assert_eq!(url(Routing::Path, None, true, "[::1]:444"), "https://relay.test:444/shop/");
        assert_eq!(url(Routing::Host, Some("https://pub.test"), false, "x:1"), "https://shop.pub.test/");
        let of_host = names(Routing::Host, None).public_url(&host, &facts(true, "relay.test:8443"));
        assert_eq!(of_host, "https://www.shop.test:8443/");
    }

    #[test]
    fn the_relays_own_hosts_cannot_be_claimed() {
        let names = names(Routing::Host, None);
        for own in ["relay.test", "shop.relay.test", "a.b.relay.test", "localhost", "127.0.0.1", "[::1]"] {
            assert!(names.is_unclaimable(&HostName::parse(own).unwrap()), "{own}");
        }
        assert!(!names.is_unclaimable(&HostName::parse("myrelay.test").unwrap()));
    }

    #[test]
    fn an_origin_below_the_relay_is_a_name() {
        let names = names(Routing::Host, None);
        let resolve = |host: &str| names.resolve(&Wanted::Origin(HostName::parse(host).unwrap()));
        assert_eq!(resolve("shop.localhost"), Wanted::Name(Name::parse("shop").unwrap()));
        assert_eq!(resolve("shop.relay.test"), Wanted::Name(Name::parse("shop").unwrap()));
        assert_eq!(resolve("www.shop.test"), Wanted::Host(HostName::parse("www.shop.test").unwrap()));
    }
}

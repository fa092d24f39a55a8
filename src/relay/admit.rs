//! The admission of agents: verifies the credentials, applies the policy, claims the routes. No other code admits an
//! agent.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::announce::{Announced, Announcer};
use super::config::RelayConfig;
use super::credentials::Credentials;
use super::names::{self, Names};
use super::open;
use super::presence::{AgentConnection, ConnectedAgent, Presence};
use super::shares::Shares;
use crate::defaults;
use crate::domain::{
    AgentId, AnswerLimit, AnswerTimeout, Facts, HostName, Instance, Offer, Refusal, RefusalKind, Route,
    Wanted,
};
use crate::net::{Core, Cores, Scope};
use crate::observe::Metrics;
use crate::policy::{Grants, Rules, Verified, open::is_open};
use crate::registry::directory::Announcement;
use crate::registry::{Claim, Registry, Right, Terms, Unavailable};
use crate::session::carrier::{Carrier, named};
use crate::session::{Kind, ReceiveBudget};
use crate::transport::{Admission, Admissions, Attached, Polling};

/// See the module.
pub(super) struct RelayAdmissions {
    pub(super) config: Arc<RelayConfig>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) names: Arc<Names>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) scope: Scope,
    pub(super) cores: Cores,
    pub(super) shares: Shares,
    pub(super) announcer: Announcer,
    pub(super) presence: Arc<Presence>,
    /// Cancelled when the relay begins to stop: from then on it refuses agents.
    pub(super) draining: CancellationToken,
}

impl RelayAdmissions {
    fn judge(&self, offer: Offer, facts: &Facts, known: Option<&AgentId>) -> Result<Admitted, Refusal> {
        let transport = offer.transport;
        let admitted = self.admit(offer, facts, known);
        admitted.inspect_err(|refusal| log_refusal(transport, facts, refusal))
    }

    /// Judges an offer, and announces its routes to the other relays if this relay grants them.
    async fn admit_and_announce(&self, offer: Offer, facts: &Facts) -> Result<Box<dyn Admission>, Refusal> {
        self.credentials.look_up(facts).await;
        let (transport, probe, exclusive) = (offer.transport, offer.probe, offer.exclusive);
        let mut admitted = self.judge(offer, facts, None)?;
        if !probe {
            let announcement = Announcement {
                owner: admitted.agent.clone(),
                routes: admitted.claim.routes().into(),
                exclusive,
            };
            let announced = self.announcer.announce(announcement).await.map_err(|error| {
                let refusal = error.refusal(|route| self.refusal(&Unavailable::Taken(route.clone())));
                log_refusal(transport, facts, &refusal);
                refusal
            })?;
            admitted.announced = Some(announced);
        }
        Ok(Box::new(admitted))
    }

    fn admit(&self, mut offer: Offer, facts: &Facts, known: Option<&AgentId>) -> Result<Admitted, Refusal> {
        if self.draining.is_cancelled() {
            let mut refusal = Refusal::new(RefusalKind::Draining, "the relay is stopping");
            refusal.retry_after = Some(std::time::Duration::from_secs(1));
            return Err(refusal);
        }
        let verified = match known {
            Some(agent) => self.credentials.verify_again(agent, facts)?,
            None => self.credentials.verify_new(facts, offer.instance.as_ref())?,
        };
        check_transport(&offer, &verified)?;
        if offer.wanted.is_empty() && verified.grants.only_name().is_none() {
            offer.wanted.extend(names::suggested(&offer, &verified).map(Wanted::Name));
        }
        if is_open(&verified.id) {
            open::check(&offer, &self.names, &self.config.tokens)?;
        }
        let wanted = self.wanted(&offer, &verified)?;
        let routes: Box<[Route]> = wanted.iter().map(|w| self.names.route(w)).collect();
        let right = match is_open(&verified.id) {
            true => Right::Open(open::quota(facts)),
            false => Right::Granted,
        };
        let connections = match is_open(&verified.id) {
            true => defaults::OPEN_CONNECTIONS_PER_AGENT,
            false => self.config.connections_per_agent,
        };
        let terms = Terms {
            routes,
            connections: Some(connections),
            answer_timeout: self.answer_timeout(&verified.id, offer.answer_timeout),
            ..terms(&offer, &verified, right)?
        };
        let claim = self.claim(&verified.id, terms).map_err(|error| self.refusal(&error))?;
        let urls = wanted.iter().map(|w| self.names.public_url(w, facts)).collect();
        Ok(Admitted {
            claim,
            announced: None,
            budget: self.shares.of(&verified.id),
            agent: verified.id,
            has_rules: offer.visitors.is_some(),
            transport: offer.transport,
            remote: facts.remote,
            presence: (self.presence.clone(), self.draining.clone()),
            urls,
            wanted,
            cores: self.cores.count(),
            metrics: self.metrics.clone(),
        })
    }

    /// Claims the routes. An owner that may not keep its route loses the route first. An example is an owner whose
    /// token was revoked a moment ago: the agent may connect with a new token before the relay has released the route.
    fn claim(&self, agent: &AgentId, terms: Terms) -> Result<Claim, Unavailable> {
        let taken = match self.registry.claim(agent, terms.clone()) {
            Err(Unavailable::Taken(route)) => route,
            claimed => return claimed,
        };
        let may_keep = |owner: &_, route: &_| self.credentials.may_keep(&self.names, owner, route);
        let mut evicted = false;
        for route in &terms.routes {
            evicted |= self.registry.evict(route, may_keep);
        }
        if evicted { self.registry.claim(agent, terms) } else { Err(Unavailable::Taken(taken)) }
    }

    fn refusal(&self, error: &Unavailable) -> Refusal {
        let label = |route: &Route| match route {
            Route::Path(name) => format!("the name {:?}", name.as_str()),
            Route::Below(host) => format!("everything below {host}"),
            Route::Host(host) => match self.names.name_of(host) {
                Some(name) => format!("the name {:?}", name.as_str()),
                None => format!("the host {host}"),
            },
        };
        match error {
            Unavailable::Taken(route) => {
                let another =
                    if label(route).starts_with("the name") { "; try another --name, or" } else { ":" };
                let message = format!(
                    "{} belongs to another token{another} revoke that token on the relay (ptth token revoke), which \
                     frees it at once",
                    label(route)
                );
                Refusal::new(RefusalKind::Forbidden, message)
            }
            Unavailable::OtherRules(route) => {
                let message = format!(
                    "another agent serves {} with other rules for visitors; give both agents the same rules, \
                     or stop the other agent",
                    label(route)
                );
                // The other agent may be an earlier process of this agent that is about to end.
                let retry_after = Some(defaults::RETRY_SOON);
                Refusal { retry_after, ..Refusal::new(RefusalKind::OtherRules, message) }
            }
            Unavailable::Fenced => {
                let message =
                    "another process with this token now serves its routes; stop one of the two processes";
                Refusal::new(RefusalKind::Fenced, message)
            }
            Unavailable::TooManyConnections(connections) => {
                too_many(format!("this agent has {connections} connections already"))
            }
            Unavailable::TooMany(sessions) => {
                too_many(format!("this token has {sessions} agents connected, and may have no more"))
            }
            Unavailable::TooManyRoutes(used) => {
                let most = defaults::ROUTES_PER_AGENT;
                too_many(format!("this token holds {used} names and hosts, and may hold no more than {most}"))
            }
            Unavailable::Full(bound) => open::over_quota(*bound, self.config.lease),
        }
    }

    /// The names and hosts of the offer. Each is checked against the token; none is granted unless all are.
    fn wanted(&self, offer: &Offer, verified: &Verified) -> Result<Vec<Wanted>, Refusal> {
        let only = verified.grants.only_name().cloned().map(Wanted::Name);
        let requested = match (offer.wanted.is_empty(), only) {
            (false, _) => offer.wanted.clone(),
            (true, Some(only)) => vec![only],
            (true, None) => {
                return Err(Refusal::new(RefusalKind::Malformed, name_required(&verified.grants)));
            }
        };
        if requested.len() > defaults::ROUTES_PER_OFFER {
            let most = defaults::ROUTES_PER_OFFER;
            let message = format!("an agent may request {most} names and hosts; start several agents");
            return Err(Refusal::new(RefusalKind::Malformed, message));
        }
        let mut all = Vec::new();
        for wanted in &requested {
            let wanted = self.names.resolve(wanted);
            if !self.names.may_claim(verified, &wanted) {
                return Err(Refusal::new(RefusalKind::Forbidden, not_granted(&wanted)));
            }
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
        Ok(all)
    }

    /// A warning for each public URL whose host the relay's certificate does not cover. With trusted proxies there are
    /// no warnings: visitors may get the certificate of a proxy, which the relay does not know.
    fn certificate_warnings(&self, urls: &[String]) -> Vec<String> {
        let tls = self.config.tls.as_ref().filter(|_| self.config.trusted_proxies.is_empty());
        let warning = |url: &String| {
            let parsed: http::Uri = url.parse().ok()?;
            // A certificate covers all hosts below another, or none.
            let host = HostName::parse(&parsed.host()?.replace('*', "any")).ok()?;
            let uncovered = parsed.scheme_str() == Some("https") && tls?.covers(&host) == Some(false);
            uncovered.then(|| {
                format!(
                    "the relay has no certificate for {host}: browsers refuse {url} until the operator \
                     of the relay adds one"
                )
            })
        };
        urls.iter().filter_map(warning).collect()
    }

    /// A warning when a requested limit of answers is longer than the agent may have.
    fn timeout_warning(&self, agent: &AgentId, requested: AnswerLimit) -> Option<String> {
        let AnswerTimeout { limit, source } = self.answer_timeout(agent, Some(requested));
        (limit < requested).then(|| {
            format!(
                "the requested answer timeout ({requested}) is longer than the {source} allows: visitors get a 504 \
                 after {limit}; the operator of the relay can issue a token with ptth token new \
                 --answer-timeout-seconds {}",
                requested.seconds()
            )
        })
    }
}

fn log_refusal(transport: &str, facts: &Facts, refusal: &Refusal) {
    tracing::info!(transport, remote = %facts.remote, code = %refusal.kind.code(), %refusal, "agent refused");
}

fn too_many(message: String) -> Refusal {
    let mut refusal = Refusal::new(RefusalKind::TooMany, message);
    refusal.retry_after = Some(defaults::RETRY_AFTER);
    refusal
}

fn not_granted(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Name(name) => format!("this token may not claim the name {:?}", name.as_str()),
        Wanted::Host(host) | Wanted::Origin(host) => format!("this token may not claim the host {host}"),
        Wanted::Below(below) => format!(
            "this token may not claim {below}: --subnames needs a token that lists {below}, at a relay that routes by \
             host"
        ),
    }
}

/// The terms of the offer, within the limits of the token.
fn terms(offer: &Offer, verified: &Verified, right: Right) -> Result<Terms, Refusal> {
    let limits = &verified.grants.limits;
    let rules = offer.visitors.as_deref().map(str::parse::<Rules>).transpose();
    let rules = rules.map_err(|bad| Refusal::new(RefusalKind::Malformed, bad.to_string()))?;
    Ok(Terms {
        right,
        instance: offer.instance.clone(),
        exclusive: offer.exclusive,
        probe: offer.probe,
        rules: rules.unwrap_or_default().within(limits).map(Arc::new),
        sessions: limits.sessions,
        ..Terms::default()
    })
}

fn check_transport(offer: &Offer, verified: &Verified) -> Result<(), Refusal> {
    let limits = &verified.grants.limits;
    if limits.allows_transport(offer.transport) {
        return Ok(());
    }
    let message = format!(
        "this token does not allow the transport {}; choose another with --transport: {}",
        offer.transport,
        limits.transports.join(", ")
    );
    Err(Refusal::new(RefusalKind::Forbidden, message))
}

fn name_required(grants: &Grants) -> String {
    let names = grants.names.iter().map(ToString::to_string);
    let list: Vec<_> = names.chain(grants.prefixes.iter().map(ToString::to_string)).collect();
    match (grants.any_name, list.is_empty()) {
        (true, _) => "any free name may be claimed: choose one with --name".into(),
        (false, true) => "this token may claim no name: choose a host with --host".into(),
        (false, false) => {
            format!("this token may claim several names; choose one with --name: {}", list.join(", "))
        }
    }
}

impl Admissions for RelayAdmissions {
    fn check<'a>(
        &'a self,
        offer: Offer,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<Box<dyn Admission>, Refusal>> {
        Box::pin(self.admit_and_announce(offer, facts))
    }

    fn check_again(
        &self,
        agent: &AgentId,
        offer: Offer,
        facts: &Facts,
    ) -> Result<Box<dyn Admission>, Refusal> {
        let admitted = self.judge(offer, facts, Some(agent))?;
        Ok(Box::new(admitted))
    }

    fn who(&self, facts: &Facts) -> Result<AgentId, Refusal> {
        self.credentials.verify(facts).map(|verified| verified.id)
    }

    fn who_comes<'a>(
        &'a self,
        facts: &'a Facts,
        instance: Option<&'a Instance>,
    ) -> BoxFuture<'a, Result<AgentId, Refusal>> {
        Box::pin(async move {
            self.credentials.look_up(facts).await;
            self.credentials.verify_new(facts, instance).map(|verified| verified.id)
        })
    }

    fn may_go_on(&self, agent: &AgentId, facts: &Facts) -> bool {
        self.credentials.may_go_on(agent, facts)
    }

    fn answer_timeout(&self, agent: &AgentId, requested: Option<AnswerLimit>) -> AnswerTimeout {
        let token = self.config.tokens.find(agent).and_then(|found| found.grants.limits.answer_timeout);
        AnswerTimeout::in_force(self.config.answer.into(), token, requested)
    }

    fn warnings(&self, agent: &AgentId, offer: &Offer, urls: &[String]) -> Vec<String> {
        let mut warnings = self.certificate_warnings(urls);
        warnings.extend(offer.answer_timeout.and_then(|limit| self.timeout_warning(agent, limit)));
        warnings
    }

    fn guessed(&self, facts: &Facts, refusal: Refusal) -> Refusal {
        self.credentials.guessed(facts, refusal)
    }

    fn polling(&self) -> &Polling {
        &self.config.polling
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn cores(&self) -> &Cores {
        &self.cores
    }
}

struct Admitted {
    claim: Claim,
    announced: Option<Announced>,
    budget: Arc<ReceiveBudget>,
    agent: AgentId,
    has_rules: bool,
    transport: &'static str,
    remote: SocketAddr,
    presence: (Arc<Presence>, CancellationToken),
    urls: Vec<String>,
    wanted: Vec<Wanted>,
    cores: usize,
    metrics: Arc<Metrics>,
}

impl Admission for Admitted {
    fn agent(&self) -> &AgentId {
        &self.agent
    }

    fn granted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn urls(&self) -> &[String] {
        &self.urls
    }

    fn is_ruled(&self) -> bool {
        self.has_rules
    }

    fn connections(&self, kind: Kind) -> usize {
        match kind {
            Kind::H1 => defaults::H1_MOST,
            Kind::H2 => self.cores,
            Kind::Envelope => defaults::POLLS_BUSY,
        }
    }

    fn memory(&self) -> usize {
        match is_open(&self.agent) {
            true => defaults::OPEN_MESSAGES,
            false => defaults::MESSAGES,
        }
    }

    fn budget(&self) -> &Arc<ReceiveBudget> {
        &self.budget
    }

    fn attach(self: Box<Self>, carrier: Box<dyn Carrier>, kind: Kind, core: Core) -> Attached {
        let Self { claim, announced, agent, transport, urls, metrics, remote, presence, .. } = *self;
        let (link, joined) = claim.join(named(carrier, transport), (kind, core));
        let counted = metrics.agent_connected(transport, kind.label());
        let agent = ConnectedAgent { agent, remote, transport, urls: urls.join(" ") };
        let (presence, draining) = presence;
        let connection = AgentConnection::new(agent, link.clone(), presence, draining);
        Attached::new(link.is_cut(), (joined, connection, counted, announced)).on(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HostName, Name};
    use crate::policy::Tokens;

    fn admissions_for(config: RelayConfig) -> RelayAdmissions {
        let config = Arc::new(config);
        RelayAdmissions {
            credentials: Arc::new(Credentials::new(config.clone())),
            names: Arc::new(Names::new(config.clone(), false)),
            registry: Registry::new(config.lease),
            metrics: Arc::default(),
            scope: Scope::new(),
            cores: Cores::ambient(),
            shares: Shares::new(ReceiveBudget::new(config.buffers)),
            announcer: Announcer::new(config.directory.clone(), Scope::new(), Cores::ambient()),
            presence: Arc::default(),
            draining: CancellationToken::new(),
            config,
        }
    }

    #[tokio::test]
    async fn concurrent_offers_do_not_exceed_the_connection_limit() {
        let tokens = Tokens::in_memory();
        let (_, secret) = tokens.issue(Grants::names([Name::parse("a").unwrap()])).unwrap();
        let mut config = RelayConfig::new(HostName::parse("relay.test").unwrap(), tokens);
        config.connections_per_agent = 8;
        let admissions = admissions_for(config);
        let facts = Facts {
            remote: ([192, 0, 2, 1], 1).into(),
            tls: true,
            authority: "relay.test".into(),
            server_name: None,
            credential: Some(secret),
            certificate: None,
            closed: None,
        };
        let offer = || admissions.judge(Offer { transport: "ptth10", ..Offer::default() }, &facts, None);
        // Each admission stands for an agent whose 101 is being sent and that has no link yet.
        let mut admitted = Vec::new();
        for _ in 0..8 {
            admitted.push(offer().map_err(|refusal| refusal.to_string()).unwrap());
        }
        assert_eq!(offer().err().map(|refusal| refusal.kind), Some(RefusalKind::TooMany), "one too many");
        admitted.pop();
        assert!(offer().is_ok(), "an admission that was dropped counts no more");
    }
}

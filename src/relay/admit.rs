//! The door for agents: authenticate, ask policy, claim the routes. Nobody else can admit an agent.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::names::Names;
use super::open;
use crate::defaults;
use crate::domain::{AgentId, Facts, Instance, Name, Offer, Refusal, RefusalKind, Route, Wanted};
use crate::net::{Cores, Scope};
use crate::observe::{Metrics, metrics::Counted};
use crate::policy::{Verified, open::Open, open::is_open};
use crate::registry::{Claim, Denied, Registry, Terms};
use crate::session::carrier::Carrier;
use crate::session::{Kind, Windows};
use crate::transport::{Admission, Attached, Door, Polling};

/// See the module.
pub(super) struct Doorkeeper {
    pub(super) config: Arc<Config>,
    /// Tells agents without a token from each other, where registration is open.
    pub(super) open: Option<Open>,
    pub(super) names: Arc<Names>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) scope: Scope,
    pub(super) cores: Cores,
    pub(super) windows: Arc<Windows>,
    /// Cancelled when the relay begins to stop: from then on agents are sent away.
    pub(super) draining: CancellationToken,
}

impl Doorkeeper {
    fn judge(
        &self,
        offer: Offer,
        facts: &Facts,
        known: Option<&AgentId>,
    ) -> Result<Box<dyn Admission>, Refusal> {
        let transport = offer.transport;
        let judged = self.admit(offer, facts, known);
        if let Err(refusal) = &judged {
            self.metrics.refused(refusal.kind.code());
            tracing::info!(transport, remote = %facts.remote, code = refusal.kind.code(), %refusal, "agent refused");
        }
        judged.map(|admitted| Box::new(admitted) as Box<dyn Admission>)
    }

    fn admit(&self, offer: Offer, facts: &Facts, known: Option<&AgentId>) -> Result<Admitted, Refusal> {
        if self.draining.is_cancelled() {
            let mut refusal = Refusal::new(RefusalKind::Draining, "the relay is stopping");
            refusal.retry_after = Some(std::time::Duration::from_secs(1));
            return Err(refusal);
        }
        let verified = match known {
            Some(agent) => self.known(agent)?,
            None => self.newcomer(facts, offer.instance.as_ref())?,
        };
        if is_open(&verified.id) {
            self.open_to(&offer)?;
        }
        let wanted = self.wanted(&offer, &verified)?;
        let routes: Box<[Route]> = wanted.iter().map(|w| self.names.route(w)).collect();
        let fenced = self.registry.is_fenced(&routes, &verified.id, offer.instance.as_ref(), offer.exclusive);
        if fenced && !offer.probe {
            let message =
                "another process of this token has taken the place of this one; stop one of the two";
            return Err(Refusal::new(RefusalKind::Fenced, message));
        }
        self.limit(&verified.id)?;
        let claim = self.claim(routes, &wanted, &verified, facts)?;
        let urls = wanted.iter().map(|w| self.names.public_url(w, facts)).collect();
        Ok(Admitted {
            claim,
            agent: verified.id,
            instance: offer.instance,
            exclusive: offer.exclusive,
            transport: offer.transport,
            urls,
            wanted,
            cores: self.cores.count(),
            metrics: self.metrics.clone(),
        })
    }

    fn claim(
        &self,
        routes: Box<[Route]>,
        wanted: &[Wanted],
        verified: &Verified,
        facts: &Facts,
    ) -> Result<Claim, Refusal> {
        let exact = |w: &&Wanted| matches!(w, Wanted::Name(name) if verified.grants.names.contains(name));
        let takes: Vec<Route> = wanted.iter().filter(exact).map(|w| self.names.route(w)).collect();
        let terms = match is_open(&verified.id) {
            true => Terms::Open(open::quota(facts)),
            false => Terms::Token { takes: &takes },
        };
        self.registry.reserve(routes, &verified.id, &terms).map_err(|denied| match denied {
            Denied::Taken(route) => self.taken(&route),
            Denied::Full(bound) => self.full(bound),
        })
    }

    fn taken(&self, route: &Route) -> Refusal {
        let name = match route {
            Route::Path(name) => Some(name.clone()),
            Route::Host(host) => self.names.name_of(host),
        };
        let message = match (name, route) {
            (Some(name), _) => {
                format!("the name {:?} belongs to another token; try another --name", name.as_str())
            }
            (None, route) => format!("the host {route} belongs to another token"),
        };
        Refusal::new(RefusalKind::Forbidden, message)
    }

    /// An agent that holds proof of an earlier admission.
    fn known(&self, agent: &AgentId) -> Result<Verified, Refusal> {
        if is_open(agent) && self.open.is_some() {
            return Ok(open::verified(agent.clone()));
        }
        self.config
            .tokens
            .find(agent)
            .ok_or_else(|| Refusal::new(RefusalKind::Unauthenticated, "the token of this agent was revoked"))
    }

    /// An agent that asks for the first time; without a token it may be anybody, where registration is open.
    fn newcomer(&self, facts: &Facts, instance: Option<&Instance>) -> Result<Verified, Refusal> {
        match &self.open {
            Some(open) if facts.credential.is_none() => Ok(open::verified(open.anonymous(instance))),
            _ => self.authenticate(facts),
        }
    }

    fn authenticate(&self, facts: &Facts) -> Result<Verified, Refusal> {
        let verified = facts.credential.as_ref().and_then(|secret| {
            let by_secret = || Some(open::verified(self.open.as_ref()?.by_secret(secret)?));
            self.config.tokens.verify(secret).or_else(by_secret)
        });
        verified.ok_or_else(|| {
            let message = match facts.credential {
                None => "an agent needs a token: give one with --token-file or PTTH_TOKEN",
                Some(_) => "the token is not valid here: it is mistyped, revoked, or another relay's",
            };
            Refusal::new(RefusalKind::Unauthenticated, message)
        })
    }

    /// What the offer asks for, held against the token one by one: none is granted unless all are.
    fn wanted(&self, offer: &Offer, verified: &Verified) -> Result<Vec<Wanted>, Refusal> {
        let grants = &verified.grants;
        if offer.wanted.is_empty() {
            return match (&grants.names[..], &grants.hosts[..]) {
                ([only], []) if !grants.any_name => Ok(vec![Wanted::Name(only.clone())]),
                _ => Err(Refusal::new(RefusalKind::Malformed, choose_one(grants.any_name, &grants.names))),
            };
        }
        let granted = |wanted: &Wanted| match wanted {
            // An authority of ours may stand below the domain, where a name would take its place.
            Wanted::Name(name) => {
                grants.allows_name(name)
                    && !matches!(self.names.route(wanted), Route::Host(host) if self.names.is_own(&host))
            }
            Wanted::Host(host) => grants.allows_host(host) && !self.names.is_ours(host),
            Wanted::Origin(_) => false,
        };
        let mut all = Vec::new();
        for wanted in &offer.wanted {
            let wanted = self.names.resolve(wanted);
            if !granted(&wanted) {
                let message = match &wanted {
                    Wanted::Name(name) => format!("this token may not claim the name {:?}", name.as_str()),
                    Wanted::Host(host) | Wanted::Origin(host) => {
                        format!("this token may not claim the host {host}")
                    }
                };
                return Err(Refusal::new(RefusalKind::Forbidden, message));
            }
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
        Ok(all)
    }

    fn limit(&self, agent: &AgentId) -> Result<(), Refusal> {
        let sessions = self.registry.sessions();
        let links: usize = sessions.iter().filter(|s| s.agent == *agent).map(|s| s.links().len()).sum();
        let most = match is_open(agent) {
            true => defaults::OPEN_CONNECTIONS_PER_AGENT,
            false => defaults::CONNECTIONS_PER_AGENT,
        };
        if links < most {
            return Ok(());
        }
        let mut refusal =
            Refusal::new(RefusalKind::TooMany, format!("this agent has {links} connections already"));
        refusal.retry_after = Some(defaults::RETRY_AFTER);
        Err(refusal)
    }
}

fn choose_one(any: bool, names: &[Name]) -> String {
    let list: Vec<_> = names.iter().map(Name::as_str).collect();
    match (any, list.is_empty()) {
        (true, _) => "any name that is free may be claimed: choose one with --name".into(),
        (false, true) => "this token may claim no name: say which host with --host".into(),
        (false, false) => {
            format!("this token may claim several names, choose with --name: {}", list.join(", "))
        }
    }
}

impl Door for Doorkeeper {
    fn check<'a>(
        &'a self,
        offer: Offer,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<Box<dyn Admission>, Refusal>> {
        Box::pin(std::future::ready(self.judge(offer, facts, None)))
    }

    fn check_again(
        &self,
        agent: &AgentId,
        offer: Offer,
        facts: &Facts,
    ) -> Result<Box<dyn Admission>, Refusal> {
        self.judge(offer, facts, Some(agent))
    }

    fn who(&self, facts: &Facts) -> Result<AgentId, Refusal> {
        self.authenticate(facts).map(|verified| verified.id)
    }

    fn is_live(&self, agent: &AgentId) -> bool {
        open::is_live(&self.config, agent)
    }

    fn polling(&self) -> &Polling {
        &self.config.polling
    }

    fn windows(&self) -> &Arc<Windows> {
        &self.windows
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
    agent: AgentId,
    instance: Option<Instance>,
    exclusive: bool,
    transport: &'static str,
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

    fn attach(self: Box<Self>, carrier: Box<dyn Carrier>, kind: Kind, core: usize) -> Attached {
        let Self { claim, agent, instance, exclusive, transport, urls, metrics, .. } = *self;
        tracing::info!(%agent, transport, carrier = %kind, urls = urls.join(" "), "agent connected");
        let (link, joined) = claim.join(&agent, instance, exclusive, carrier, (kind, core));
        let counted = metrics.agent_connected(transport, kind.label());
        let left = Left { agent, transport, kind, _counted: counted };
        Attached::new(link.is_cut(), (joined, left)).on(link)
    }
}

/// Says that an agent's connection has gone.
struct Left {
    agent: AgentId,
    transport: &'static str,
    kind: Kind,
    _counted: Counted,
}

impl Drop for Left {
    fn drop(&mut self) {
        let Self { agent, transport, kind, .. } = self;
        tracing::info!(%agent, transport, carrier = %kind, "agent connection ended");
    }
}

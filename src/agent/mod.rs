//! The agent: dials out from behind a firewall, and answers requests.

mod backoff;
mod builder;
pub mod config;
#[cfg(feature = "cli")]
pub mod doctor;
mod ladder;
mod marked;
pub mod origin;
mod recorded;
mod refusals;
mod supervise;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use self::builder::{Agent, AgentBuilder, BuildError, ForwardError};
use self::config::AgentConfig;
use self::ladder::Ladder;
use self::marked::Marked;
pub use self::recorded::recorded;
use self::refusals::Refusals;
pub use self::supervise::FIRST_CONNECTION;
use self::supervise::Supervisor;
use crate::defaults;
use crate::domain::{Offer, Wanted};
use crate::net::{Cores, Scope};
use crate::session::{Handler, Kind, ReceiveBudget};
use crate::transport::{self, AgentCredentials, Call};

/// The automatic choice: the agent finds a transport that works.
pub const AUTO: &str = "auto";

/// The names of transports that an agent accepts: [`AUTO`] and the name of every rung of the ladder.
pub fn transports() -> impl Iterator<Item = &'static str> {
    let rungs = transport::ALL.iter().flat_map(|t| {
        let plain = Some(t.plain_name()).filter(|plain| *plain != t.name());
        [Some(t.name()), plain].into_iter().flatten()
    });
    [AUTO].into_iter().chain(rungs)
}

/// Why an agent ended: a further attempt would fail too. With several relays, every relay has refused the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The relay refused the token, or the routes requested with it (401, 403).
    #[error("{0}")]
    Refused(String),
    /// The offer is invalid (400, 406), or the transport does not exist.
    #[error("{0}")]
    Usage(String),
    /// The first connection failed for a cause that lasts: the relay's certificate, its host, or the scheme of its URL.
    /// The same failure of a later connection is an outage, and the agent tries again.
    #[error("{0}")]
    Unusable(String),
    /// A newer process of this agent has taken its place (409).
    #[error("{0}")]
    Fenced(String),
    /// The task that keeps the connections to a relay up has panicked: a bug.
    #[error("the task that keeps the connection to a relay has failed; please report this bug with the log")]
    Lost,
}

/// The state of the connections to one relay.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether the relay can send requests.
    pub connected: bool,
    /// The public URLs; kept while disconnected.
    pub urls: Vec<String>,
    /// The warnings that the relay sent when it granted the URLs; kept while disconnected.
    pub warnings: Vec<String>,
    /// The rung of the ladder that the connection is on.
    pub rung: &'static str,
    /// The carrier of the connection.
    pub carrier: Option<Kind>,
}

/// A running agent. Dropping it cuts its connections; [`Serving::stop`] lets requests in flight finish.
#[must_use = "dropping it cuts the connections of the agent"]
pub struct Serving {
    scope: Scope,
    relays: Vec<SupervisedLink>,
    credentials: AgentCredentials,
    _cores: Cores,
}

/// Serves `handler` through every relay of `config`, on `cores`. Must be called within a tokio runtime, on which the
/// agent dials.
///
/// # Errors
/// [`Fatal::Usage`] for a transport that does not exist.
pub fn start(config: &AgentConfig, handler: Arc<dyn Handler>, cores: Cores) -> Result<Serving, Fatal> {
    let transports: Vec<_> = match &*config.transport {
        AUTO => transport::ALL.iter().copied().filter(|t| t.is_automatic()).collect(),
        name => {
            transport::ALL.iter().copied().filter(|t| [t.name(), t.plain_name()].contains(&name)).collect()
        }
    };
    let plain =
        transports.iter().any(|t| t.name() != &*config.transport && t.plain_name() == &*config.transport);
    if transports.is_empty() {
        return Err(Fatal::Usage(format!("there is no transport {:?}", config.transport)));
    }
    let scope = Scope::new();
    let names = config.names.iter().cloned().map(Wanted::Name);
    let mut wanted: Vec<_> = names.chain(config.hosts.iter().cloned().map(Wanted::Host)).collect();
    if config.subnames {
        let below: Vec<_> = wanted.iter().filter_map(Wanted::below).collect();
        wanted.extend(below);
    }
    let offer = Offer {
        wanted,
        instance: Some(config.instance.clone()),
        exclusive: config.exclusive,
        probe: false,
        transport: "",
        suggested: config.suggested.clone(),
        visitors: config.visitors.clone(),
        answer_timeout: config.answer_timeout,
    };
    let budget = ReceiveBudget::new(defaults::AGENT_BUFFERS);
    let credentials = AgentCredentials::new(config.tls.clone(), config.token.clone());
    let refusals = Arc::new(Refusals::new(config.relays.len()));
    let handler: Arc<dyn Handler> = Arc::new(Marked(handler));
    let relays = config.relays.iter().enumerate().map(|(index, relay)| {
        let (status, watcher) = watch::channel(Status::default());
        let (done, end) = oneshot::channel();
        let call = Call {
            relay: relay.clone(),
            credentials: credentials.clone(),
            via: config.proxies.via(relay.host().unwrap_or_default()),
            offer: offer.clone(),
            carriers: if plain { vec![Kind::H1] } else { config.carriers.clone() },
        };
        let supervisor = Supervisor {
            ladder: Ladder::new(&transports, &call, &*config.transport == AUTO, config.climb),
            relay: relay.clone(),
            index,
            refusals: refusals.clone(),
            handler: handler.clone(),
            budget: budget.clone(),
            cores: cores.clone(),
            scope: scope.clone(),
            status,
        };
        scope.spawn(async move {
            let _ = done.send(supervisor.run().await);
        });
        (watcher, end)
    });
    let relays = relays.collect();
    Ok(Serving { relays, credentials, scope: scope.clone(), _cores: cores })
}

impl Serving {
    /// Waits for the first connection to any relay and returns the public URLs of that relay, or an empty list if the
    /// relay announces none. Cancel safe.
    ///
    /// # Errors
    /// [`Fatal`] when every relay has refused the agent.
    pub async fn connected(&mut self) -> Result<Vec<String>, Fatal> {
        let mut watchers: Vec<_> = self.relays.iter().map(|(status, _)| status.clone()).collect();
        let ready = watchers.iter_mut().map(|w| Box::pin(w.wait_for(|s| s.connected)));
        let ready = futures_util::future::select_ok(ready.collect::<Vec<_>>());
        tokio::select! {
            biased;
            fatal = first_end(&mut self.relays) => fatal.map(|()| Vec::new()),
            ready = ready => Ok(ready.map(|(status, _)| status.urls.clone()).unwrap_or_default()),
        }
    }

    /// The status of each relay, in the order of the configuration.
    pub fn status(&self) -> Vec<watch::Receiver<Status>> {
        self.relays.iter().map(|(status, _)| status.clone()).collect()
    }

    /// The token and the TLS configuration for connections to relays. A replacement applies to new connections;
    /// existing connections are unaffected.
    pub fn credentials(&self) -> &AgentCredentials {
        &self.credentials
    }

    /// Waits until the agent ends because every relay has refused it. Cancel safe.
    ///
    /// # Errors
    /// [`Fatal`], always unless the agent was stopped.
    pub async fn ended(&mut self) -> Result<(), Fatal> {
        first_end(&mut self.relays).await
    }

    /// Announces the stop to the relays, and lets requests in flight finish for at most `grace`. Returns the number of
    /// connections that were cut.
    pub async fn stop(self, grace: Duration) -> usize {
        self.scope.stop(grace).await
    }
}

/// The status of one relay, and the result of its supervisor.
type SupervisedLink = (watch::Receiver<Status>, oneshot::Receiver<Result<(), Fatal>>);

async fn first_end(relays: &mut [SupervisedLink]) -> Result<(), Fatal> {
    let ends = relays.iter_mut().map(|(_, end)| end);
    let (end, ..) = futures_util::future::select_all(ends).await;
    // A supervisor always sends its end; a closed channel means that it has panicked.
    end.unwrap_or(Err(Fatal::Lost))
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicked_supervisor_is_reported_as_lost() {
        let (done, end) = oneshot::channel();
        drop(done);
        let (_status, watcher) = watch::channel(Status::default());
        let lost = first_end(&mut [(watcher, end)]).await;
        assert!(matches!(&lost, Err(Fatal::Lost)), "{lost:?}");
    }
}

//! The side behind the firewall: dials out, and answers.

mod backoff;
mod builder;
pub mod config;
pub mod doctor;
mod ladder;
pub mod origin;
mod recorded;
mod refusals;
mod supervise;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use self::builder::{Agent, BuildError, Builder};
use self::config::AgentConfig;
use self::ladder::Ladder;
pub use self::recorded::recorded;
use self::refusals::Refusals;
use self::supervise::Supervisor;
use crate::defaults;
use crate::domain::{Offer, Wanted};
use crate::net::{Cores, Scope};
use crate::session::{Handler, Kind, Windows};
use crate::transport::{self, AgentCredentials, Call};

/// Finds out by itself which transport works.
pub const AUTO: &str = "auto";

/// What can be asked for as the transport: [`AUTO`], and every rung of the ladder by its name.
pub fn transports() -> impl Iterator<Item = &'static str> {
    let rungs = transport::ALL.iter().flat_map(|t| {
        let plain = Some(t.plain_name()).filter(|plain| *plain != t.name());
        [Some(t.name()), plain].into_iter().flatten()
    });
    [AUTO].into_iter().chain(rungs)
}

/// Why an agent gave up: a further try could not succeed. With several relays, every one of them has refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The relay refused the token or what it asked for (401, 403).
    #[error("{0}")]
    Refused(String),
    /// The offer does not make sense as it is (400, 406), or the transport does not exist.
    #[error("{0}")]
    Usage(String),
    /// A newer process of this agent has taken its place (409).
    #[error("{0}")]
    Fenced(String),
    /// What keeps the connection to a relay up broke: a bug.
    #[error("the task that keeps the connection to a relay up broke; please report this with the log")]
    Lost,
}

/// How it stands with one relay.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Whether requests can come.
    pub connected: bool,
    /// The public URLs; kept while disconnected.
    pub urls: Vec<String>,
    /// What the relay warned of when it granted them; kept while disconnected.
    pub warnings: Vec<String>,
    /// The rung of the ladder that the connection is on.
    pub rung: &'static str,
    /// What runs on it.
    pub carrier: Option<Kind>,
}

/// An agent that is serving. Dropping it cuts its connections; [`Serving::stop`] lets what is in flight finish.
pub struct Serving {
    scope: Scope,
    relays: Vec<SupervisedLink>,
    credentials: AgentCredentials,
    _cores: Cores,
}

/// Starts serving `handler` through every relay of `config`, on `cores`. Must be called within a runtime, which
/// does the dialling.
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
    let offer = Offer {
        wanted: names.chain(config.hosts.iter().cloned().map(Wanted::Host)).collect(),
        instance: Some(config.instance.clone()),
        exclusive: config.exclusive,
        probe: false,
        transport: "",
        visitors: config.visitors.clone(),
    };
    let windows = Windows::new(defaults::AGENT_BUFFERS);
    let credentials = AgentCredentials::new(config.tls.clone(), config.token.clone());
    let refusals = Arc::new(Refusals::new(config.relays.len()));
    let relays = config.relays.iter().enumerate().map(|(place, relay)| {
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
            place,
            refusals: refusals.clone(),
            handler: handler.clone(),
            windows: windows.clone(),
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
    /// Waits for the first connection to any relay and returns its public URLs, none if that relay announces none.
    /// Cancel safe.
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

    /// How it stands with each relay, in the order of the configuration.
    pub fn status(&self) -> Vec<watch::Receiver<Status>> {
        self.relays.iter().map(|(status, _)| status.clone()).collect()
    }

    /// What the relays are shown and which of them are trusted: what is replaced here is used from the next connection
    /// on, and connections that stand are untouched.
    pub fn credentials(&self) -> &AgentCredentials {
        &self.credentials
    }

    /// Waits until the agent gives up, since every relay has refused it. Cancel safe.
    ///
    /// # Errors
    /// [`Fatal`], always unless the agent was stopped.
    pub async fn ended(&mut self) -> Result<(), Fatal> {
        first_end(&mut self.relays).await
    }

    /// Stops: tells the relays, lets what is in flight finish for at most `grace`. Returns how many connections had
    /// to be cut.
    pub async fn stop(self, grace: Duration) -> usize {
        self.scope.stop(grace).await
    }
}

/// How it stands with one relay, and what ended it.
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
    async fn a_supervisor_that_is_lost_is_no_orderly_end() {
        let (done, end) = oneshot::channel();
        drop(done);
        let (_status, watcher) = watch::channel(Status::default());
        let lost = first_end(&mut [(watcher, end)]).await;
        assert!(matches!(&lost, Err(Fatal::Lost)), "{lost:?}");
    }
}

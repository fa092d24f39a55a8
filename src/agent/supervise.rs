//! Keeps the connections of an agent to one relay up: dials, serves requests, opens more connections under load, and
//! backs off while the relay cannot be reached.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::ladder::Ladder;
use super::refusals::Refusals;
use super::{Fatal, Status};
use crate::defaults;
use crate::net::dial::DialError;
use crate::net::{Cores, Scope};
use crate::session::{Ended, Handler, Kind, Load, ReceiveBudget, serve_half};
use crate::tls;
use crate::transport::{AgentLink, OpenError, Opened};

/// Capacity of the channel on which connections report their end, above the number that one relay can use.
const ENDS: usize = 256;

/// The log target of the first connection to each relay. A program that prints the URLs itself can leave it out.
pub const FIRST_CONNECTION: &str = "ptth::first_connection";

/// Opens and supervises the connections to one relay.
pub(super) struct Supervisor {
    pub(super) ladder: Ladder,
    pub(super) relay: http::Uri,
    /// The index of the relay in the agent's configuration.
    pub(super) index: usize,
    /// Shared by the supervisors of all relays of this agent.
    pub(super) refusals: Arc<Refusals>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) budget: Arc<ReceiveBudget>,
    pub(super) cores: Cores,
    pub(super) scope: Scope,
    pub(super) status: tokio::sync::watch::Sender<Status>,
}

struct Linked {
    id: u64,
    rung: usize,
    kind: Kind,
    load: Arc<Load>,
}

/// Logs a warning when a connection is dropped before it has finished: when the grace of a stop ends, or when the agent
/// is dropped without a stop.
struct Unfinished {
    relay: http::Uri,
    kind: Kind,
    finished: bool,
}

impl Unfinished {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Self { relay, kind, finished } = self;
        if !*finished {
            tracing::warn!(%relay, carrier = %kind, "a connection was cut before it had finished");
        }
    }
}

/// The state of a running [`Supervisor`].
struct SuperviseState {
    links: Vec<Linked>,
    next_id: u64,
    /// How many connections the relay can use.
    max_links: usize,
    changed: Arc<Notify>,
    backoff: Backoff,
    /// The time before which no connection is opened.
    not_before: Instant,
    /// The error that was logged last; empty after a success.
    last_error: String,
}

impl Supervisor {
    /// Runs until the scope stops, then waits for the requests in flight.
    ///
    /// # Errors
    /// [`Fatal`], when this relay refuses the agent and all other relays have refused it.
    pub(super) async fn run(self) -> Result<(), Fatal> {
        let (ended, mut ends) = mpsc::channel::<(u64, Ended)>(ENDS);
        let mut state = SuperviseState::new();
        let mut opening: Option<BoxFuture<'_, Result<(usize, Opened), OpenError>>> = None;
        let mut climbing: Option<BoxFuture<'_, Option<(usize, Opened)>>> = None;
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            if opening.is_none() && Instant::now() >= state.not_before && state.wants_another() {
                opening = Some(Box::pin(self.ladder.open()));
            }
            if climbing.is_none() && self.ladder.climb_at().is_some_and(|at| at <= Instant::now()) {
                climbing = Some(Box::pin(self.ladder.climb()));
            }
            state.retire_surplus();
            state.set_alarms();
            self.report_disconnected(&state);
            tokio::select! {
                biased;
                () = self.scope.stopping() => break,
                Some((id, end)) = ends.recv() => self.ended(&mut state, id, end),
                opened = if_some(&mut opening) => {
                    opening = None;
                    match opened {
                        Ok((rung, opened)) => self.opened(&mut state, rung, opened, &ended),
                        Err(error) => self.failed(&mut state, &error)?,
                    }
                }
                climbed = if_some(&mut climbing) => {
                    climbing = None;
                    if let Some((rung, opened)) = climbed {
                        self.ladder.climbed(rung);
                        self.opened(&mut state, rung, opened, &ended);
                        // Connections on lower rungs finish their requests in flight and get no new ones.
                        state.links.iter().filter(|l| l.rung > rung).for_each(|l| l.load.retire());
                    }
                }
                () = state.changed.notified() => {}
                () = tokio::time::sleep_until(state.not_before), if state.not_before > Instant::now() => {}
                _ = tick.tick() => {}
            }
        }
        // A connection that is still being opened is dropped: no task would read the requests that the relay sends on
        // it.
        drop((opening, climbing, ended));
        // Each link observes the scope, finishes its requests in flight and reports its end.
        while ends.recv().await.is_some() {}
        Ok(())
    }

    fn opened(
        &self,
        state: &mut SuperviseState,
        rung: usize,
        opened: Opened,
        ended: &mpsc::Sender<(u64, Ended)>,
    ) {
        let Opened { urls, warnings, connections, link } = opened;
        let kind = link.kind();
        let id = state.next_id;
        state.next_id += 1;
        state.max_links = connections.max(1);
        state.last_error.clear();
        self.refusals.admitted(self.index);
        let load = Load::new(state.changed.clone());
        state.links.push(Linked { id, rung, kind, load: load.clone() });
        let name = self.ladder.name(rung);
        if state.active().count() == 1 || self.status.borrow().rung != name {
            let urls_text = match urls.is_empty() {
                true => "none: the relay announced no public URL".into(),
                false => urls.join(" "),
            };
            let warned = (!warnings.is_empty()).then(|| warnings.join("; "));
            macro_rules! log_connected {
                ($target:expr) => {
                    tracing::info!(target: $target, relay = %self.relay, rung = name, carrier = %kind, urls = urls_text, warned, "connected")
                };
            }
            match id {
                0 => log_connected!(FIRST_CONNECTION),
                _ => log_connected!(module_path!()),
            }
            let carrier = Some(kind);
            self.status.send_replace(Status { connected: true, urls, warnings, rung: name, carrier });
        }
        let (handler, scope, ended) = (self.handler.clone(), self.scope.clone(), ended.clone());
        let unfinished = Unfinished { relay: self.relay.clone(), kind, finished: false };
        let core = self.cores.next();
        match link {
            AgentLink::Flipped { kind, mut io } => {
                let (departed, budget) = (io.depart(), self.budget.clone());
                self.scope.spawn_on(core, async move {
                    let end = match departed.and_then(|()| io.arrive()) {
                        Ok(()) => serve_half(io, kind, handler, load, budget, scope).await,
                        Err(error) => Ended::Failed(error.to_string()),
                    };
                    unfinished.finish();
                    let _ = ended.send((id, end)).await;
                });
            }
            AgentLink::Polled(link) => self.scope.spawn_on(core, async move {
                let end = link.serve(handler, load, scope).await;
                unfinished.finish();
                let _ = ended.send((id, end)).await;
            }),
        }
    }

    /// Reports the relay as disconnected when no connection is left on which requests can arrive: the last connection
    /// broke or is leaving.
    fn report_disconnected(&self, state: &SuperviseState) {
        if state.active().next().is_none() && self.status.borrow().connected {
            tracing::info!(relay = %self.relay, "disconnected");
            self.status.send_modify(|s| s.connected = false);
        }
    }

    fn ended(&self, state: &mut SuperviseState, id: u64, end: Ended) {
        let Some(index) = state.links.iter().position(|l| l.id == id) else { return };
        let link = state.links.swap_remove(index);
        let others_active = state.links.iter().any(|l| !l.load.is_leaving());
        if link.load.age() >= defaults::PROVEN {
            state.backoff.reset();
        }
        let upgraded = matches!(end, Ended::Upgraded);
        let early = link.load.age() < defaults::STUMBLE && !link.load.has_served() && !upgraded;
        self.ladder.ended(link.rung, early && !link.load.is_leaving());
        if let Ended::Failed(why) = &end {
            tracing::warn!(relay = %self.relay, why, "a connection to the relay broke");
        }
        // When a visitor disconnects, the `h1` connection that carries its request closes too. Repeated disconnects
        // must not delay the next connection.
        let served_h1 = link.kind == Kind::H1 && link.load.has_served();
        // An early end causes a wait even while other connections are active. Without the wait, a fault that breaks
        // each new connection at once would cause a storm of new connections.
        if early || !others_active && !link.load.is_leaving() && !upgraded && !served_h1 {
            state.not_before = Instant::now() + state.backoff.failed(None);
        }
    }

    fn failed(&self, state: &mut SuperviseState, error: &OpenError) -> Result<(), Fatal> {
        let message = describe(error, &self.relay);
        let unusable = || {
            let lasting = state.next_id == 0 && is_lasting(error);
            lasting.then(|| Fatal::Unusable(format!("{message} (another attempt would fail too)")))
        };
        let retry_after = match error {
            OpenError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        };
        let (wait, next_step) = match refusal(error, &message).or_else(unusable) {
            Some(fatal) => {
                self.refusals.refused(self.index, fatal)?;
                (
                    state.backoff.refused(),
                    "the agent continues with its other relays, and retries this relay from time to time",
                )
            }
            None => (state.backoff.failed(retry_after), "trying again"),
        };
        state.not_before = Instant::now() + wait;
        // A repeated error is logged at debug level, so that each fault is one warning, not one per attempt.
        if state.last_error == message {
            tracing::debug!(wait = ?wait, "{message}");
        } else {
            tracing::warn!("{message}; {next_step}");
            state.last_error = message;
        }
        Ok(())
    }
}

/// The [`Fatal`] of a permanent refusal; `None` for any other error. Permanent refusals end the agent once every
/// relay refuses.
fn refusal(error: &OpenError, message: &str) -> Option<Fatal> {
    let OpenError::Refused { status, retry_after, .. } = error else { return None };
    match status.as_u16() {
        401 | 403 => Some(Fatal::Refused(message.into())),
        400 | 406 => Some(Fatal::Usage(message.into())),
        // Without `Retry-After`, a newer process permanently replaces this process. With `Retry-After` the conflict
        // may end, as when an agent with other rules for visitors leaves.
        409 if retry_after.is_none() => Some(Fatal::Fenced(message.into())),
        _ => None,
    }
}

/// Whether the first connection failed for a cause that another attempt does not cure.
fn is_lasting(error: &OpenError) -> bool {
    match error {
        OpenError::Dial(error) => error.is_lasting(),
        OpenError::NotHttp => true,
        _ => false,
    }
}

/// Resolves with the result of `future`. Never resolves without a future.
async fn if_some<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

impl SuperviseState {
    fn new() -> Self {
        Self {
            links: Vec::new(),
            next_id: 0,
            max_links: 1,
            changed: Arc::new(Notify::new()),
            backoff: Backoff::default(),
            not_before: Instant::now(),
            last_error: String::new(),
        }
    }

    fn active(&self) -> impl Iterator<Item = &Linked> {
        self.links.iter().filter(|l| !l.load.is_leaving())
    }

    /// Whether another connection is useful: always while there is none, with `h2` when every connection is busy, with
    /// `h1` when too few are idle.
    fn wants_another(&self) -> bool {
        let count = self.active().count();
        let Some(first) = self.active().next() else { return true };
        match first.kind {
            _ if count >= self.max_links => false,
            Kind::H2 => self.active().all(|l| l.load.in_flight() > defaults::BUSY),
            // The link of an agent that polls adapts the number of its polls itself.
            Kind::Envelope => false,
            Kind::H1 => {
                count < defaults::H1_MOST
                    && self.active().filter(|l| l.load.in_flight() == 0).count() < defaults::H1_SPARE
            }
        }
    }

    /// Sets the number of requests in flight at which a link wakes this supervisor. Only a load that may need another
    /// connection wakes it, because the check is on the hot path.
    fn set_alarms(&self) {
        let more = self.active().count() < self.max_links;
        for linked in self.active() {
            linked.load.set_alarm(match linked.kind {
                Kind::H1 if more => Some(0),
                Kind::H2 if more => Some(defaults::BUSY),
                _ => None,
            });
        }
    }

    /// Retires idle `h1` connections that are too old, and those beyond the spare ones that have been idle for too
    /// long.
    fn retire_surplus(&self) {
        let mut idle: Vec<_> =
            self.active().filter(|l| l.kind == Kind::H1 && l.load.in_flight() == 0).collect();
        idle.sort_by_key(|l| l.load.age());
        for (index, linked) in idle.iter().enumerate() {
            let surplus = index >= defaults::H1_SPARE && linked.load.idle_for() > defaults::H1_IDLE;
            if surplus || linked.load.age() > defaults::H1_AGE {
                linked.load.retire();
            }
        }
    }
}

/// An error as a message for a person: the fault, the hop, and often a remedy.
fn describe(error: &OpenError, relay: &http::Uri) -> String {
    match error {
        OpenError::Dial(DialError::Tls { target, source }) => match tls::explain_io(source) {
            Some(why) => format!("the certificate of the relay {target} was not accepted: {why}"),
            None => format!("TLS with the relay {target} failed: {source}; check that it is a TLS port"),
        },
        OpenError::Dial(error @ DialError::Resolve { .. }) => format!(
            "cannot reach the relay {relay}: {error}; check the host in --relay, and the DNS of this machine"
        ),
        OpenError::Dial(error) => format!("cannot reach the relay {relay}: {error}"),
        OpenError::Refused { status, message, .. } => {
            format!("relay {relay} refused: {message} ({})", status.as_u16())
        }
        OpenError::Absent { .. } | OpenError::NotHttp | OpenError::Broken(_) => {
            format!("relay {relay}: {error}")
        }
    }
}

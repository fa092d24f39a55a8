//! The open sessions. The first connection of a session is logged as its beginning, and the end of its last connection
//! as its end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{AgentId, SessionId};
use crate::session::Link;

/// See the module.
#[derive(Default)]
pub(super) struct Presence(Mutex<HashMap<SessionId, OpenSession>>);

struct OpenSession {
    connections: usize,
    since: Instant,
}

impl Presence {
    /// Counts a connection. Returns whether it is the first of its session.
    fn enter(&self, session: SessionId) -> bool {
        let mut sessions = self.0.lock();
        let fresh = || OpenSession { connections: 0, since: Instant::now() };
        let open = sessions.entry(session).or_insert_with(fresh);
        open.connections += 1;
        open.connections == 1
    }

    /// Removes a connection. Returns how long the session existed, if this was its last connection.
    fn leave(&self, session: SessionId) -> Option<Duration> {
        let mut sessions = self.0.lock();
        let open = sessions.get_mut(&session)?;
        open.connections -= 1;
        let since = open.since;
        if open.connections > 0 {
            return None;
        }
        sessions.remove(&session);
        Some(since.elapsed())
    }
}

/// The agent of a connection, as the log describes it.
pub(super) struct ConnectedAgent {
    pub(super) agent: AgentId,
    pub(super) remote: SocketAddr,
    pub(super) transport: &'static str,
    /// The public URLs of its names.
    pub(super) urls: String,
}

/// A connection of an agent. Its drop is logged, and with the last connection of a session also the session's end.
pub(super) struct AgentConnection {
    connected: ConnectedAgent,
    link: Arc<Link>,
    presence: Arc<Presence>,
    /// Cancelled when the relay begins to stop.
    draining: CancellationToken,
}

impl AgentConnection {
    pub(super) fn new(
        connected: ConnectedAgent,
        link: Arc<Link>,
        presence: Arc<Presence>,
        draining: CancellationToken,
    ) -> Self {
        let ConnectedAgent { agent, remote, transport, urls } = &connected;
        let (session, carrier) = (link.session(), link.kind());
        if presence.enter(session) {
            tracing::info!(%session, %agent, %remote, transport, %carrier, %urls, "agent connected");
        } else {
            tracing::debug!(%session, %agent, %remote, transport, %carrier, "another connection of an agent opened");
        }
        Self { connected, link, presence, draining }
    }

    fn reason(&self) -> &'static str {
        match () {
            () if self.link.was_cut() => "the relay cut the connection",
            () if self.draining.is_cancelled() => "the relay is stopping",
            () if self.link.is_late() => "the agent did not respond in time",
            () => "the agent closed the connection, or the connection broke",
        }
    }
}

impl Drop for AgentConnection {
    fn drop(&mut self) {
        let ConnectedAgent { agent, remote, transport, urls } = &self.connected;
        let (session, carrier, reason) = (self.link.session(), self.link.kind(), self.reason());
        match self.presence.leave(session) {
            Some(duration) => tracing::info!(
                %session, %agent, %remote, transport, %carrier, %urls, ?duration, reason, "agent connection ended"
            ),
            None => {
                tracing::debug!(%session, %agent, %remote, transport, %carrier, reason, "a connection of an agent closed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_begins_with_its_first_connection_and_ends_with_its_last() {
        let presence = Presence::default();
        let [first, second] = [1, 2].map(SessionId);
        assert_eq!([first, first, second].map(|session| presence.enter(session)), [true, false, true]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(presence.leave(first), None);
        assert_eq!(presence.leave(first), Some(Duration::from_secs(5)));
        assert!(presence.enter(first), "the session begins anew");
    }
}

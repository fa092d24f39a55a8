//! The open sessions. The first connection of a session is logged as its beginning, and the end of the last one as its
//! end.

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
pub(super) struct Presence(Mutex<HashMap<SessionId, Here>>);

struct Here {
    connections: usize,
    since: Instant,
}

impl Presence {
    /// Counts a connection. Returns whether it is the first of its session.
    fn enter(&self, session: SessionId) -> bool {
        let mut sessions = self.0.lock();
        let here = sessions.entry(session).or_insert_with(|| Here { connections: 0, since: Instant::now() });
        here.connections += 1;
        here.connections == 1
    }

    /// Removes a connection. Returns how long the session existed, if this was its last connection.
    fn leave(&self, session: SessionId) -> Option<Duration> {
        let mut sessions = self.0.lock();
        let here = sessions.get_mut(&session)?;
        here.connections -= 1;
        let since = here.since;
        if here.connections > 0 {
            return None;
        }
        sessions.remove(&session);
        Some(since.elapsed())
    }
}

/// The agent of a connection.
pub(super) struct Who {
    pub(super) agent: AgentId,
    pub(super) remote: SocketAddr,
    pub(super) transport: &'static str,
    /// The public URLs of its names.
    pub(super) urls: String,
}

/// A connection of an agent. Its drop is logged, and with the last connection of a session also the session's end.
pub(super) struct Present {
    who: Who,
    link: Arc<Link>,
    presence: Arc<Presence>,
    /// Cancelled when the relay begins to stop.
    draining: CancellationToken,
}

impl Present {
    pub(super) fn new(
        who: Who,
        link: Arc<Link>,
        presence: Arc<Presence>,
        draining: CancellationToken,
    ) -> Self {
        let Who { agent, remote, transport, urls } = &who;
        let (session, carrier) = (link.session(), link.kind());
        if presence.enter(session) {
            tracing::info!(%session, %agent, %remote, transport, %carrier, %urls, "agent connected");
        } else {
            tracing::debug!(%session, %agent, %remote, transport, %carrier, "another connection of an agent opened");
        }
        Self { who, link, presence, draining }
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

impl Drop for Present {
    fn drop(&mut self) {
        let Who { agent, remote, transport, urls } = &self.who;
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
        let [one, other] = [1, 2].map(SessionId);
        assert_eq!([one, one, other].map(|session| presence.enter(session)), [true, false, true]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(presence.leave(one), None);
        assert_eq!(presence.leave(one), Some(Duration::from_secs(5)));
        assert!(presence.enter(one), "it begins anew");
    }
}

//! How the kernel finds that a far end is gone. It asks on a connection that is idle; where something was written, it
//! waits for that to be acknowledged, and by itself for many minutes.
//!
//! `TCP_USER_TIMEOUT` shortens that wait, but it also cuts a far end that lives and only does not read for as long: the
//! kernel does not tell the two apart. So it is short only where the far end always reads, which is where a head is
//! written to an agent, and not while a body follows; and for visitors and origins it is as long as anybody may pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::defaults;

/// Whose silence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// A visitor or an origin: a phone may be out of reach for a while, and nobody waits for it.
    Other,
    /// The other end of a link between relay and agent, where requests would be lost.
    Link,
}

impl FarEnd {
    /// How a connection to it is kept alive.
    pub(super) fn keep_alive(self, stream: &TcpStream) {
        let (idle, every, unread) = match self {
            Self::Other => {
                (defaults::OTHERS_KEEPALIVE_IDLE, defaults::OTHERS_KEEPALIVE_EVERY, defaults::STALLED)
            }
            // Any limit here would also take the place of the number of questions.
            Self::Link => (defaults::KEEPALIVE_IDLE, defaults::KEEPALIVE_EVERY, Duration::ZERO),
        };
        let keepalive = TcpKeepalive::new()
            .with_time(idle)
            .with_interval(every)
            .with_retries(defaults::KEEPALIVE_RETRIES);
        log(SockRef::from(stream).set_tcp_keepalive(&keepalive));
        log(SockRef::from(stream).set_tcp_user_timeout(Some(unread)));
    }
}

/// Says of a connection whether what is written must be acknowledged soon. Takes effect with the next write.
#[derive(Debug, Clone, Default)]
pub struct Impatience(Arc<AtomicBool>);

impl Impatience {
    /// From the next write on.
    pub fn set(&self, impatient: bool) {
        self.0.store(impatient, Ordering::Relaxed);
    }
}

/// What a connection was told last, and what it is to be told.
#[derive(Debug)]
pub(super) struct Patience {
    wanted: Impatience,
    told: bool,
}

impl Patience {
    pub(super) fn new() -> (Self, Impatience) {
        let wanted = Impatience::default();
        (Self { wanted: wanted.clone(), told: false }, wanted)
    }

    /// Looks before a write whether anything has changed.
    pub(super) fn apply(&mut self, stream: Option<&TcpStream>) {
        let wanted = self.wanted.0.load(Ordering::Relaxed);
        if wanted != self.told
            && let Some(stream) = stream
        {
            self.told = wanted;
            let limit = if wanted { defaults::TCP_USER_TIMEOUT } else { Duration::ZERO };
            log(SockRef::from(stream).set_tcp_user_timeout(Some(limit)));
        }
    }
}

pub(super) fn log(set: std::io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "a socket option was refused");
    }
}

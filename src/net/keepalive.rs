//! How the kernel finds that a far end is gone. On an idle connection the kernel sends keep-alive probes. After a write
//! the kernel waits for the acknowledgement, by default for many minutes.
//!
//! `TCP_USER_TIMEOUT` shortens that wait, but it also cuts a live far end that does not read for as long: the kernel
//! does not distinguish the two. So the timeout is short only where the far end always reads: when a head is written to
//! an agent, and not while a body follows. For visitors and origins the timeout is as long as they may pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::defaults;

/// The kind of far end, which decides how long it may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// A visitor or an origin: a phone may be out of reach for a while, and no request waits for it.
    Other,
    /// The other end of a link between relay and agent, where requests would be lost.
    Link,
}

impl FarEnd {
    /// Sets how a connection to this far end is kept alive.
    pub(super) fn keep_alive(self, stream: &TcpStream) {
        let (idle, interval, user_timeout) = match self {
            Self::Other => {
                (defaults::OTHERS_KEEPALIVE_IDLE, defaults::OTHERS_KEEPALIVE_EVERY, defaults::STALLED)
            }
            // A user timeout here would also replace the number of keep-alive probes.
            Self::Link => (defaults::KEEPALIVE_IDLE, defaults::KEEPALIVE_EVERY, Duration::ZERO),
        };
        let keepalive = TcpKeepalive::new()
            .with_time(idle)
            .with_interval(interval)
            .with_retries(defaults::KEEPALIVE_RETRIES);
        log_failure(SockRef::from(stream).set_tcp_keepalive(&keepalive));
        log_failure(SockRef::from(stream).set_tcp_user_timeout(Some(user_timeout)));
    }
}

/// Sets whether the bytes written to a connection must be acknowledged soon. Takes effect with the next write.
#[derive(Debug, Clone, Default)]
pub struct UserTimeoutSwitch(Arc<AtomicBool>);

impl UserTimeoutSwitch {
    /// Takes effect with the next write.
    pub fn set(&self, short: bool) {
        self.0.store(short, Ordering::Relaxed);
    }
}

/// The user timeout of a connection, and the switch that requests another one.
#[derive(Debug)]
pub(super) struct UserTimeout {
    switch: UserTimeoutSwitch,
    is_short: bool,
}

impl UserTimeout {
    pub(super) fn new() -> (Self, UserTimeoutSwitch) {
        let switch = UserTimeoutSwitch::default();
        (Self { switch: switch.clone(), is_short: false }, switch)
    }

    /// Before a write, sets the timeout if the switch has changed.
    pub(super) fn apply(&mut self, stream: Option<&TcpStream>) {
        let short = self.switch.0.load(Ordering::Relaxed);
        if short != self.is_short
            && let Some(stream) = stream
        {
            self.is_short = short;
            let limit = if short { defaults::TCP_USER_TIMEOUT } else { Duration::ZERO };
            log_failure(SockRef::from(stream).set_tcp_user_timeout(Some(limit)));
        }
    }
}

pub(super) fn log_failure(set: std::io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "a socket option was refused");
    }
}

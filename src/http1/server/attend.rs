//! Writes the output of a connection while the far end may still send.

use std::future::Future;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{Server, Service};
use crate::http1::Error;
use crate::net::linger::Linger;

impl<S: Service, F: Future<Output = ()>> Server<'_, S, F> {
    /// Writes the waiting output. Fails when the far end reads nothing for too long.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut connection = self.connection.lock();
        connection.register(cx);
        let before = connection.output.written();
        if let Poll::Ready(written) = connection.poll_flush(cx) {
            connection.blocked_since = None;
            return Poll::Ready(written);
        }
        if connection.body_dropped {
            // The far end may read the answer only after it has sent the whole upload.
            let linger = self.linger.get_or_insert_with(|| Linger::begin(&self.config.linger));
            if linger.has_room() && !connection.body_failed {
                let _ = connection.poll_drain(|bytes| linger.discard(bytes), cx);
            }
        }
        // The time runs only while output waits, not while the answer itself yields nothing.
        let since = match connection.blocked_since {
            Some(since) if connection.output.written() == before => since,
            _ => Instant::now(),
        };
        connection.blocked_since = Some(since);
        self.timer.poll_until(since + self.config.stalled, cx).map(|()| Err(Error::Stalled))
    }
}

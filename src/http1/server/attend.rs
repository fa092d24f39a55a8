//! What a connection does while its answer waits: for its handler, or for the far end to read.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::connection::ProbePlace;
use super::{HalfClose, Server, Service};
use crate::defaults;
use crate::http1::Error;
use crate::net::linger::Linger;

impl<S: Service, F: Future<Output = ()>> Server<'_, S, F> {
    /// Writes the waiting output, and checks whether the far end has left. Resolves only with an error. `place` is what
    /// a probe can be a part of.
    pub(super) fn poll_attend(
        &mut self,
        place: Option<ProbePlace>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Infallible, Error>> {
        if self.connection.lock().poll_attend(cx)?.is_pending() {
            return self.poll_unread(place, cx);
        }
        match self.config.half_close {
            HalfClose::Allowed => return Poll::Pending,
            HalfClose::Probed if self.service.allows_half_close() => {}
            HalfClose::Probed | HalfClose::Cancels => return Poll::Ready(Err(Error::Closed)),
        }
        let mut connection = self.connection.lock();
        if self.check_at.is_none() {
            let Some(place) = place else { return Poll::Ready(Err(Error::Closed)) };
            connection.probe(place);
        }
        if let Poll::Ready(Err(error)) = connection.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let now = Instant::now();
            let check_at = self.check_at.get_or_insert(now);
            if *check_at <= now {
                if connection.io.has_failed() {
                    return Poll::Ready(Err(Error::Closed));
                }
                *check_at = now + defaults::HALF_CLOSED_CHECK;
            }
            ready!(self.timer.poll_until(*check_at, cx));
        }
    }

    /// Checks whether a far end has left whose upload is not read. The end of the stream cannot be read then, because it
    /// follows bytes of the upload, and most of it may not even have arrived. See the module.
    fn poll_unread(
        &mut self,
        place: Option<ProbePlace>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Infallible, Error>> {
        if self.config.half_close != HalfClose::Probed {
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let mut connection = self.connection.lock();
            let Some(unread) = connection.body_unread_for(now) else {
                if connection.decoder.is_done() {
                    return Poll::Pending;
                }
                drop(connection);
                ready!(self.timer.poll_until(now + defaults::UNREAD_CHECK, cx));
                continue;
            };
            if unread >= defaults::UNREAD_CHECK {
                if connection.io.has_failed() {
                    return Poll::Ready(Err(Error::Closed));
                }
                if matches!(place, Some(ProbePlace::Head)) {
                    connection.probe_unread(unread);
                }
                if let Poll::Ready(Err(error)) = connection.poll_flush(cx) {
                    return Poll::Ready(Err(error));
                }
            }
            drop(connection);
            ready!(self.timer.poll_until(now + defaults::UNREAD_CHECK, cx));
        }
    }

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

//! The end of an exchange, and of a connection, whose upload is not wanted to its end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::connection::ServerConnection;
use super::{Server, Service};
use crate::defaults;
use crate::net::linger::Linger;

impl<S: Service, F: Future<Output = ()>> Server<'_, S, F> {
    /// Awaits the end of the request's body, and returns whether the next request can be read. A short rest of a dropped
    /// body is drained here.
    pub(super) async fn settle(&mut self) -> bool {
        let (mut left, mut until) = (defaults::DRAIN_BYTES, None);
        let began = Instant::now();
        poll_fn(|cx| {
            let mut connection = self.connection.lock();
            if connection.decoder.is_done() {
                return Poll::Ready(true);
            }
            if connection.body_failed {
                return Poll::Ready(false);
            }
            connection.register(cx);
            if !connection.body_dropped {
                let until = connection.last_read.max(began) + self.config.stalled;
                return self.timer.poll_until(until, cx).map(|()| false);
            }
            if connection.is_rest_long() {
                return Poll::Ready(false);
            }
            let linger = self.linger.get_or_insert_with(|| Linger::begin(&self.config.linger));
            let until = *until.get_or_insert_with(|| Instant::now() + self.config.drain);
            let discard = |bytes: usize| {
                left = left.saturating_sub(bytes);
                linger.discard(bytes) && left > 0
            };
            match connection.poll_drain(discard, cx) {
                Poll::Ready(drained) => Poll::Ready(drained.is_ok()),
                Poll::Pending => self.timer.poll_until(until, cx).map(|()| false),
            }
        })
        .await
    }

    /// Closes the connection. If the far end may still send, its bytes are discarded for a while. `refused`: the current
    /// request was refused unread.
    pub(super) async fn close(&mut self, refused: bool) {
        let mut linger = self.linger.take().unwrap_or_else(|| Linger::begin(&self.config.linger));
        let (mut shut, mut place) = (false, None);
        poll_fn(|cx| {
            self.check_stop(cx);
            if self.stopping {
                linger.end_by(Instant::now() + defaults::LINGER_STOP);
            }
            let mut connection = self.connection.lock();
            connection.register(cx);
            if !shut {
                match Pin::new(&mut connection.io).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll_until(linger.deadline(), cx),
                }
            }
            if !refused && connection.is_read() {
                return Poll::Ready(());
            }
            let (_place, evicted) = place.get_or_insert_with(|| {
                let place = self.service.linger();
                let evicted = place.evicted();
                (place, evicted)
            });
            if Pin::new(evicted).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match connection.poll_discard(refused, &mut linger, cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => self.timer.poll_until(linger.deadline(), cx),
            }
        })
        .await;
    }
}

impl ServerConnection {
    /// Whether the far end has sent everything that it may send, and all of it was read.
    fn is_read(&self) -> bool {
        self.decoder.is_done() && !self.body_failed && self.input.bytes.is_empty()
    }

    /// Reads and discards up to the end of the body, or up to the end of the stream if the body has no clear end.
    fn poll_discard(&mut self, refused: bool, linger: &mut Linger, cx: &mut Context<'_>) -> Poll<()> {
        if !refused && !self.body_failed && !self.decoder.is_done() {
            let drained = ready!(self.poll_drain(|bytes| linger.discard(bytes), cx));
            if drained.is_ok() || !linger.has_room() {
                return Poll::Ready(());
            }
        }
        loop {
            self.input.bytes.clear();
            match ready!(self.input.poll_fill(&mut self.io, cx)) {
                Ok(read @ 1..) if linger.discard(read) => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

//! The state of a connection that the driver shares with the body of the current request.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::defaults;
use crate::http1::Error;
use crate::http1::body::{BadBody, Decoder, Piece};
use crate::http1::output::{Input, Output};
use crate::message::body::{FrameSource, PolledFrame, RefusedBody};
use crate::net::Io;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The first bytes of every head.
const HEAD_PROBE: &[u8] = b"HTTP/1.";
/// The size of a chunk may begin with zeros (RFC 9112 §7.1).
const CHUNK_PROBE: &[u8] = b"0";

/// What a probe is a part of.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProbePlace {
    /// The next head.
    Head,
    /// The size of the next chunk.
    Chunk,
}

/// See the module.
pub(super) struct ServerConnection {
    pub(super) io: Io,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) decoder: Decoder,
    /// The client waits for a 100 before it sends the body.
    pub(super) awaits_continue: bool,
    /// The body of the request was dropped.
    pub(super) body_dropped: bool,
    /// The body of the request could not be read.
    pub(super) body_failed: bool,
    /// The far end has closed its sending direction.
    pub(super) half_closed: bool,
    /// The reader of the body waits for bytes. It notices the end of the stream itself.
    body_awaited: bool,
    /// How many bytes of the next head were written as probes.
    head_begun: usize,
    /// When bytes of a body were last read.
    pub(super) last_read: Instant,
    /// Since when the waiting output has made no progress.
    pub(super) blocked_since: Option<Instant>,
    pub(super) driver: Option<Waker>,
}

impl ServerConnection {
    pub(super) fn new(io: Io) -> Self {
        Self {
            io,
            input: Input::default(),
            output: Output::default(),
            decoder: Decoder::length(0),
            awaits_continue: false,
            body_dropped: false,
            body_failed: false,
            half_closed: false,
            body_awaited: false,
            head_begun: 0,
            last_read: Instant::now(),
            blocked_since: None,
            driver: None,
        }
    }

    pub(super) fn register(&mut self, cx: &Context<'_>) {
        if !self.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
    }

    fn wake_driver(&self) {
        if let Some(waker) = &self.driver {
            waker.wake_by_ref();
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.output.poll_flush(&mut self.io, cx).map_err(|_| Error::Closed)
    }

    /// Appends the head of an interim or final response, without the bytes that were written as probes.
    pub(super) fn put_head(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let begun = std::mem::take(&mut self.head_begun);
        if begun == 0 {
            return self.output.with(write);
        }
        let mut head = BytesMut::new();
        write(&mut head);
        self.output.put(&head[begun..]);
    }

    /// Writes the waiting output, and watches for the end of the stream while nothing else reads it. `Ready` when the
    /// far end has closed its sending direction.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn poll_attend(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.register(cx);
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        if self.half_closed {
            return Poll::Ready(Ok(()));
        }
        // While the buffer holds bytes of the next request, nothing more is read.
        if !self.decoder.is_done() || !self.input.bytes.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.input.poll_fill(&mut self.io, cx)) {
            Ok(0) => {
                self.half_closed = true;
                Poll::Ready(Ok(()))
            }
            Ok(_) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Error::Closed)),
        }
    }

    /// Writes bytes that a far end which still reads cannot distinguish from the answer, as a far end that has closed
    /// the connection answers them with a reset. To be called once the output is written.
    pub(super) fn probe(&mut self, place: ProbePlace) {
        match place {
            ProbePlace::Head => {
                self.output.put(&HEAD_PROBE[self.head_begun..]);
                self.head_begun = HEAD_PROBE.len();
            }
            ProbePlace::Chunk => self.output.put(CHUNK_PROBE),
        }
    }

    /// How long the body of the current request has not been read, although its reader does not wait for bytes. `None`
    /// while it is read, and while its client waits for a 100.
    pub(super) fn body_unread_for(&self, now: Instant) -> Option<Duration> {
        let unread = !self.decoder.is_done() && !self.body_awaited && !self.awaits_continue;
        unread.then(|| now.saturating_duration_since(self.last_read))
    }

    /// Writes the next byte of the head as a probe, once the body has not been read for as many seconds as double with
    /// each such probe. The last byte is left for the probe of a half-closed connection.
    pub(super) fn probe_unread(&mut self, unread: Duration) {
        let due = unread.as_secs() >= 1 << self.head_begun;
        if due && self.head_begun + 1 < HEAD_PROBE.len() && self.output.is_empty() {
            self.output.put(&HEAD_PROBE[self.head_begun..][..1]);
            self.head_begun += 1;
        }
    }

    /// The next piece of the current request's body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        // The 100 is sent even if the body has arrived already: some clients wait for the 100 nevertheless.
        if std::mem::take(&mut self.awaits_continue) {
            self.put_head(|out| out.extend_from_slice(CONTINUE));
            self.wake_driver();
        }
        loop {
            let next = self.decoder.next(&mut self.input.bytes);
            if next.is_err() {
                self.body_failed = true;
            }
            if let Some(piece) = next? {
                self.body_awaited = false;
                return Poll::Ready(Ok(piece));
            }
            let filled = self.input.poll_fill(&mut self.io, cx);
            self.body_awaited = filled.is_pending();
            match ready!(filled) {
                Ok(1..) => self.last_read = Instant::now(),
                Ok(0) | Err(_) => {
                    self.body_failed = true;
                    return Poll::Ready(Err(Error::Closed));
                }
            }
        }
    }

    /// Whether more of the body is left than is drained to keep the connection.
    pub(super) fn is_rest_long(&self) -> bool {
        self.decoder.left().is_some_and(|left| left > defaults::DRAIN_BYTES as u64)
    }

    /// Reads and discards the rest of an unwanted body. `discard` gets the number of bytes, and returns whether more may
    /// be read.
    ///
    /// # Errors
    /// [`Error::Unread`] when no more may be read.
    pub(super) fn poll_drain(
        &mut self,
        mut discard: impl FnMut(usize) -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        while !self.decoder.is_done() {
            if let Piece::Data(data) = ready!(self.poll_piece(cx))?
                && !discard(data.len())
            {
                return Poll::Ready(Err(Error::Unread));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The body of a request. Polling it reads the connection.
pub(super) struct Incoming {
    pub(super) connection: Arc<Mutex<ServerConnection>>,
    pub(super) done: bool,
}

impl FrameSource for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if self.done {
            return Poll::Ready(None);
        }
        let polled = ready!(self.connection.lock().poll_piece(cx));
        let frame = match polled {
            Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(Piece::End(trailers)) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(Error::Body(BadBody::Trailers)) => Some(Err(RefusedBody::Trailers.into())),
            Err(Error::Body(BadBody::Chunk | BadBody::Extensions)) => Some(Err(RefusedBody::Chunk.into())),
            Err(error) => Some(Err(error.into())),
        };
        self.done = true;
        // From now on the driver watches for the end of the stream.
        self.connection.lock().wake_driver();
        Poll::Ready(frame)
    }

    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut connection = self.connection.lock();
        let ServerConnection { io, input, .. } = &mut *connection;
        // The end of the stream and an error count too: the next poll for a frame reports them.
        if input.bytes.is_empty() && matches!(ready!(input.poll_fill(io, cx)), Ok(1..)) {
            connection.last_read = Instant::now();
        }
        connection.awaits_continue = false;
        Poll::Ready(())
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.connection.lock().decoder.is_done()
    }

    fn length(&self) -> Option<u64> {
        self.connection.lock().decoder.left()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.done {
            let mut connection = self.connection.lock();
            connection.body_dropped = true;
            connection.wake_driver();
        }
    }
}

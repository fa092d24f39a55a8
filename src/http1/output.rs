//! The buffers of a connection: bytes to be written, and bytes that were read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::write;

/// Pieces up to this size, in bytes, are copied into one buffer: a write of several slices costs as much as the copy.
const COPIED: usize = 4 << 10;
/// The most slices in one write.
const SLICES: usize = 32;
/// The least room for a read, in bytes: a head with a few cookies.
const FIRST_READ: usize = 4 << 10;
/// The most room for a read, in bytes. The room doubles after each read that fills it. A body that is not read keeps about
/// three such reads in memory: in the buffer, on the way, and in the queue of the next connection.
const MOST_READ: usize = 64 << 10;

/// Outgoing bytes, in order. The queue has no bound of its own: its user adds no more of a body at [`Output::FULL`].
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<Bytes>,
    /// Copied pieces, which follow the queue.
    small: BytesMut,
    waiting: usize,
    /// Bytes written since the connection began.
    written: u64,
    /// The stream may still buffer bytes that it has taken, such as a part of a TLS record.
    unflushed: bool,
}

impl Output {
    /// While this many bytes wait, no more of a body is taken.
    pub const FULL: usize = 64 << 10;

    /// The number of bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether no byte waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The number of bytes that the stream has taken since it began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.waiting += bytes.len();
        self.small.extend_from_slice(bytes);
    }

    /// Appends the bytes that `write` writes.
    pub fn with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.small.len();
        write(&mut self.small);
        self.waiting += self.small.len() - before;
    }

    /// Appends `data`; only a small piece is copied.
    pub fn data(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            return self.put(&data);
        }
        if !self.small.is_empty() {
            self.queue.push_back(self.small.split().freeze());
        }
        self.waiting += data.len();
        self.queue.push_back(data);
    }

    /// Appends `data` as one chunk (RFC 9112 §7.1).
    pub fn chunk(&mut self, data: Bytes) {
        self.with(|out| write::chunk_size(out, data.len()));
        self.data(data);
        self.put(b"\r\n");
    }

    /// All waiting bytes, in the order of writing.
    #[cfg(any(test, fuzzing))]
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut all: Vec<u8> = self.queue.iter().flat_map(|piece| piece.to_vec()).collect();
        all.extend_from_slice(&self.small);
        all
    }

    /// Writes all waiting bytes, and flushes the stream.
    pub fn poll_flush<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let wrote = ready!(self.poll_write(io, cx))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(wrote);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<T: AsyncWrite + Unpin>(&self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(io);
        match self.queue.front() {
            None => io.poll_write(cx, &self.small),
            Some(first) if !io.is_write_vectored() => io.poll_write(cx, first),
            Some(_) => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.small[..]]);
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                io.poll_write_vectored(cx, &slices[..count])
            }
        }
    }

    fn advance(&mut self, mut wrote: usize) {
        self.written += wrote as u64;
        self.waiting -= wrote;
        while let Some(first) = self.queue.front_mut() {
            if first.len() > wrote {
                return first.advance(wrote);
            }
            wrote -= first.len();
            self.queue.pop_front();
        }
        self.small.advance(wrote);
    }
}

/// Bytes that were read and not consumed yet.
#[derive(Debug, Default)]
pub struct Input {
    /// The bytes.
    pub bytes: BytesMut,
    /// The room for the next read, in bytes.
    next: usize,
    /// A read had more room than the first.
    grown: bool,
}

impl Input {
    /// An input that begins with `bytes`, which were read already.
    pub fn new(bytes: BytesMut) -> Self {
        Self { bytes, next: FIRST_READ, grown: false }
    }

    /// Frees the memory of large reads between two messages: the connection may be idle from now on.
    pub fn release(&mut self) {
        if self.grown && self.bytes.is_empty() {
            *self = Self::default();
        }
    }

    /// Reads once. Returns the number of bytes, 0 at the end of the stream.
    pub fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.bytes.reserve(self.next.max(FIRST_READ));
        let room = self.bytes.capacity() - self.bytes.len();
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(io), cx, &mut self.bytes))?;
        if read == room {
            (self.next, self.grown) = ((room * 2).min(MOST_READ), true);
        } else if read < room / 4 {
            self.next = FIRST_READ;
        }
        Poll::Ready(Ok(read))
    }
}

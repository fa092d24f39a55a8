//! Bytes that are put in between two messages of a connection that somebody else writes to, or in the place of the end
//! of one.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

/// The end of a body in chunks without trailers (RFC 9112 §7.1).
const END: &[u8] = b"0\r\n\r\n";

/// The handle on one connection. What is put here goes out with the next flush, when the writer has handed over
/// everything of its own; the writer must not begin its next message before [`Inserts::emptied`].
#[derive(Debug, Clone, Default)]
pub struct Inserts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicBool,
    /// Writes are looked at: from [`Inserts::end_with`] until what it was given is out or forgotten.
    ending: AtomicBool,
    bytes: Mutex<BytesMut>,
    end: Mutex<Option<Bytes>>,
    waker: AtomicWaker,
}

impl Inserts {
    /// Puts bytes at the end of those that wait. From within a poll of the connection, which flushes after it. No bytes
    /// wait for that flush all the same.
    pub fn put(&self, bytes: &[u8]) {
        self.0.bytes.lock().extend_from_slice(bytes);
        self.0.waiting.store(true, Ordering::Release);
    }

    /// Resolves when nothing waits, at once if nothing does. Cancel safe.
    pub async fn emptied(&self) {
        poll_fn(|cx| self.poll_emptied(cx)).await;
    }

    /// As [`Inserts::emptied`].
    pub fn poll_emptied(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting() {
            return Poll::Ready(());
        }
        self.0.waker.register(cx.waker());
        if self.is_waiting() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Puts these bytes in the place of the end of a body in chunks, if nothing but that end is what the writer hands
    /// over next. They are forgotten otherwise, for what comes then is no end, or not the one that was meant.
    pub fn end_with(&self, bytes: Bytes) {
        *self.0.end.lock() = Some(bytes);
        self.0.ending.store(true, Ordering::Release);
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// Whether writes are to go by [`Inserts::poll_end`] first.
    pub(super) fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Acquire)
    }

    /// Looks at what is handed over. The length of the end, where that was taken: what stands for it goes out with the
    /// flush, and before anything else. `None` where the writer's own bytes are to be written.
    pub(super) fn poll_end<T: AsyncWrite + Unpin>(
        &self,
        io: &mut T,
        cx: &mut Context<'_>,
        handed: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let end = self.0.end.lock().take();
        let Some(end) = end else {
            ready!(self.poll_write(io, cx))?;
            return Poll::Ready(Ok(None));
        };
        if handed.iter().flat_map(|slice| slice.iter()).eq(END) {
            self.put(&end);
            return Poll::Ready(Ok(Some(END.len())));
        }
        self.0.ending.store(false, Ordering::Release);
        Poll::Ready(Ok(None))
    }

    /// Writes what waits.
    pub(super) fn poll_write<T: AsyncWrite + Unpin>(
        &self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = self.0.bytes.lock();
        while !bytes.is_empty() {
            let wrote = ready!(Pin::new(&mut *io).poll_write(cx, &bytes))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(wrote);
        }
        self.0.waiting.store(false, Ordering::Release);
        if self.0.end.lock().is_none() {
            self.0.ending.store(false, Ordering::Release);
        }
        self.0.waker.wake();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::net::Io;

    const LAST: &[u8] = b"0\r\nx-sum: 294\r\n\r\n";

    /// A connection that takes one byte at a time, and what came out of it in the end.
    fn narrow() -> (Io, Inserts, impl Future<Output = String>) {
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1);
        let mut io = Io::other(near);
        let inserts = io.inserts();
        (io, inserts, async {
            let (mut far, mut text) = (far, String::new());
            far.read_to_string(&mut text).await.unwrap();
            text
        })
    }

    #[tokio::test]
    async fn the_end_of_a_body_is_replaced_once() {
        let (mut io, inserts, got) = narrow();
        let write = async move {
            io.write_all(b"3\r\nabc\r\n").await.unwrap();
            inserts.put(b"");
            assert!(inserts.is_waiting());
            io.flush().await.unwrap();
            inserts.emptied().await;
            inserts.end_with(LAST.into());
            assert_eq!(io.write(END).await.unwrap(), END.len());
            io.flush().await.unwrap();
            assert!(!inserts.is_ending() && !inserts.is_waiting());
            io.write_all(END).await.unwrap();
        };
        let ((), got) = tokio::join!(write, got);
        assert_eq!(got, "3\r\nabc\r\n0\r\nx-sum: 294\r\n\r\n0\r\n\r\n");
    }

    #[tokio::test]
    async fn what_is_written_next_comes_behind_it_without_a_flush() {
        let (mut io, inserts, got) = narrow();
        let write = async move {
            inserts.end_with(LAST.into());
            assert_eq!(io.write(END).await.unwrap(), END.len());
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        };
        let ((), got) = tokio::join!(write, got);
        assert_eq!(got, "0\r\nx-sum: 294\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    }

    #[tokio::test]
    async fn the_end_may_come_in_slices() {
        let (mut io, inserts, got) = narrow();
        let write = async move {
            inserts.end_with(LAST.into());
            let slices = [IoSlice::new(b"0\r"), IoSlice::new(b""), IoSlice::new(b"\n\r\n")];
            assert_eq!(io.write_vectored(&slices).await.unwrap(), END.len());
            io.flush().await.unwrap();
        };
        let ((), got) = tokio::join!(write, got);
        assert_eq!(got.as_bytes(), LAST);
    }

    #[tokio::test]
    async fn what_is_no_end_goes_out_as_it_is_and_disarms() {
        for other in [&b"0\r\n\r"[..], b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"1"]
        {
            let (mut io, inserts, got) = narrow();
            let write = async move {
                inserts.end_with(LAST.into());
                io.write_all(other).await.unwrap();
                assert!(!inserts.is_ending());
                io.write_all(END).await.unwrap();
                io.flush().await.unwrap();
            };
            let ((), got) = tokio::join!(write, got);
            assert_eq!(got.as_bytes(), [other, END].concat());
        }
    }
}

//! Bytes that are put in between two messages of a connection that somebody else writes to.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

/// The handle on one connection. What is put here goes out with the next flush, when the writer has handed over
/// everything of its own; the writer must not begin its next message before [`Inserts::emptied`].
#[derive(Debug, Clone, Default)]
pub struct Inserts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicBool,
    bytes: Mutex<BytesMut>,
    waker: AtomicWaker,
}

impl Inserts {
    /// Puts bytes at the end of those that wait. From within a poll of the connection, which flushes after it.
    pub fn put(&self, bytes: &[u8]) {
        self.0.bytes.lock().extend_from_slice(bytes);
        self.0.waiting.store(true, Ordering::Release);
    }

    /// Resolves when nothing waits, at once if nothing does. Cancel safe.
    pub async fn emptied(&self) {
        poll_fn(|cx| {
            if !self.is_waiting() {
                return Poll::Ready(());
            }
            self.0.waker.register(cx.waker());
            if self.is_waiting() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire)
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
        self.0.waker.wake();
        Poll::Ready(Ok(()))
    }
}

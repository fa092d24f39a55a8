//! A connection whose reads and writes are observed. Nothing is copied, and nothing is held back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::observe::exchange::Bytes;

/// See the module.
pub struct WatchedStream<T, R, W> {
    io: T,
    on_read: R,
    on_write: W,
}

impl<T, R, W> WatchedStream<T, R, W>
where
    R: FnMut(Poll<&[u8]>) -> io::Result<()>,
    W: FnMut(usize),
{
    /// Calls `on_read` after each poll for bytes, with the bytes that arrived: none at the end and after an error. An
    /// error from `on_read` becomes the error of the connection. Calls `on_write` with the length of each write.
    pub fn new(io: T, on_read: R, on_write: W) -> Self {
        Self { io, on_read, on_write }
    }

    fn written(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &polled {
            (self.on_write)(*bytes);
        }
        polled
    }
}

/// Counts the bytes on a visitor's stream.
pub fn counted<T>(stream: T, bytes: &Bytes) -> impl AsyncRead + AsyncWrite + Unpin
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let on_read = |polled: Poll<&[u8]>| {
        if let Poll::Ready(read) = polled {
            bytes.received.fetch_add(read.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    WatchedStream::new(stream, on_read, |wrote| {
        bytes.sent.fetch_add(wrote as u64, Ordering::Relaxed);
    })
}

impl<T, R, W> AsyncRead for WatchedStream<T, R, W>
where
    T: AsyncRead + Unpin,
    R: FnMut(Poll<&[u8]>) -> io::Result<()> + Unpin,
    W: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let observed = (self.on_read)(match &polled {
            Poll::Ready(_) => Poll::Ready(&buf.filled()[before..]),
            Poll::Pending => Poll::Pending,
        });
        polled.map(|read| read.and(observed))
    }
}

impl<T, R, W> AsyncWrite for WatchedStream<T, R, W>
where
    T: AsyncWrite + Unpin,
    R: FnMut(Poll<&[u8]>) -> io::Result<()> + Unpin,
    W: FnMut(usize) + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn each_byte_is_observed_once() {
        // So small that the bytes pass in pieces.
        let (near, mut far) = tokio::io::duplex(2);
        let (mut read, mut ended, mut wrote) = (Vec::new(), 0, 0);
        let observe = |polled: Poll<&[u8]>| {
            if let Poll::Ready(bytes) = polled {
                read.extend_from_slice(bytes);
                ended += usize::from(bytes.is_empty());
            }
            Ok(())
        };
        let mut near = WatchedStream::new(near, observe, |bytes| wrote += bytes);
        let mut got = [0; 4];
        let (received, sent) = tokio::join!(near.read_exact(&mut got), far.write_all(b"abcd"));
        assert_eq!((received.unwrap(), sent.unwrap()), (4, ()));
        near.write_all(b"e").await.unwrap();
        drop(far);
        assert_eq!(near.read(&mut got).await.unwrap(), 0);
        drop(near);
        assert_eq!((&*read, ended, wrote), (&b"abcd"[..], 1, 1));
    }

    #[tokio::test]
    async fn an_observer_can_end_the_stream() {
        let (near, mut far) = tokio::io::duplex(2);
        far.write_all(b"a").await.unwrap();
        let mut near = WatchedStream::new(near, |_| Err(io::ErrorKind::InvalidData.into()), |_| {});
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

//! GOAWAY from the side that sends requests (RFC 9113 §6.8). The clients of the HTTP/2 libraries cannot send GOAWAY
//! while answers are in flight, and their servers do not report a received GOAWAY. A relay that stops must send a
//! GOAWAY, and its agent must detect it, so that the agent has links elsewhere before the last answer is complete. So
//! this module follows the frames on the connection, and inserts a GOAWAY between two of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Io;
use crate::net::flag::{Flag, Listener};

/// The length of the connection preface of a client (RFC 9113 §3.4), in bytes.
const PREFACE: usize = 24;
/// The bytes of a frame's head: length, type, flags, stream (RFC 9113 §4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// A GOAWAY with NO_ERROR and the last stream 0: an agent opens no streams.
const GOAWAY_FRAME: [u8; 17] = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Follows the frames that a client sends.
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over before the next frame's head.
    skip: usize,
    head: [u8; HEAD],
    /// The bytes of `head` that were read.
    filled: usize,
    /// Within a header block, where no other frame may stand (RFC 9113 §6.10).
    in_block: bool,
    seen_goaway: bool,
}

impl Frames {
    const fn new() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], filled: 0, in_block: false, seen_goaway: false }
    }

    /// Whether the connection is between two frames, where another frame may be inserted.
    const fn at_boundary(&self) -> bool {
        self.skip == 0 && self.filled == 0 && !self.in_block
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let pass = self.skip.min(bytes.len());
                self.skip -= pass;
                bytes = &bytes[pass..];
                continue;
            }
            let take = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + take].copy_from_slice(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
            if self.filled == HEAD {
                self.filled = 0;
                self.skip = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                if matches!(self.head[3], HEADERS | PUSH_PROMISE | CONTINUATION) {
                    self.in_block = self.head[4] & END_HEADERS == 0;
                }
                self.seen_goaway |= self.head[3] == GOAWAY;
            }
        }
    }
}

#[derive(Debug, Default)]
struct GoawayState {
    wanted: AtomicBool,
    waker: AtomicWaker,
    received: Arc<Flag>,
}

/// The handle: sends GOAWAY at the relay's end, and reports a received GOAWAY at the agent's end.
#[derive(Debug, Clone)]
pub(super) struct GoAway(Arc<GoawayState>);

impl GoAway {
    /// Requests that a GOAWAY is sent at the next boundary between frames.
    pub(super) fn send(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Resolves once a GOAWAY was received. Cancel safe.
    pub(super) fn received(&self) -> Listener {
        self.0.received.listen()
    }
}

enum Side {
    /// Follows the frames that are written. `left` is the unwritten rest of the inserted frame.
    Sender { frames: Frames, left: &'static [u8], done: bool },
    /// Follows the frames that are read.
    Receiver(Frames),
}

/// A connection whose frames are followed.
pub(super) struct Tapped<T = Io> {
    io: T,
    side: Side,
    shared: Arc<GoawayState>,
}

impl<T> Tapped<T> {
    /// The relay's end.
    pub(super) fn sender(io: T) -> (Self, GoAway) {
        Self::new(io, Side::Sender { frames: Frames::new(), left: &[], done: false })
    }

    /// The agent's end.
    pub(super) fn receiver(io: T) -> (Self, GoAway) {
        Self::new(io, Side::Receiver(Frames::new()))
    }

    fn new(io: T, side: Side) -> (Self, GoAway) {
        let shared = Arc::new(GoawayState::default());
        (Self { io, side, shared: shared.clone() }, GoAway(shared))
    }
}

impl<T: AsyncWrite + Unpin> Tapped<T> {
    /// Writes the GOAWAY if it is wanted and the connection is between two frames. Ready when no part of it is left to
    /// write.
    fn poll_insert(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Side::Sender { frames, left, done } = &mut self.side else { return Poll::Ready(Ok(())) };
        if !*done && frames.at_boundary() && self.shared.wanted.load(Ordering::Acquire) {
            *done = true;
            *left = &GOAWAY_FRAME;
        }
        if left.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !left.is_empty() {
            let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, left))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *left = &left[wrote..];
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn wrote(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        if let Side::Sender { frames, .. } = &mut self.side {
            for buf in bufs {
                let part = count.min(buf.len());
                frames.follow(&buf[..part]);
                count -= part;
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Side::Sender { .. } = this.side {
            // An idle connection only reads, so a wanted GOAWAY must be noticed here.
            this.shared.waker.register(cx.waker());
            if let Poll::Ready(Err(error)) = this.poll_insert(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if let Side::Receiver(frames) = &mut this.side {
            frames.follow(&buf.filled()[before..]);
            if std::mem::take(&mut frames.seen_goaway) {
                this.shared.received.raise();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_insert(cx))?;
        let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.wrote(&[IoSlice::new(buf)], wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_insert(cx))?;
        let wrote = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.wrote(bufs, wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_insert(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// However a stream of frames is cut into pieces, the state at its end is the same.
#[cfg(any(test, fuzzing))]
pub(crate) fn property(bytes: &[u8]) {
    let [size, bytes @ ..] = bytes else { return };
    let (mut whole, mut pieces) = (Frames::new(), Frames::new());
    whole.follow(bytes);
    bytes.chunks(usize::from(*size).max(1)).for_each(|piece| pieces.follow(piece));
    let state = |frames: &Frames| (frames.at_boundary(), frames.seen_goaway, frames.skip, frames.filled);
    assert_eq!(state(&whole), state(&pieces));
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn frame_boundaries_are_found_in_pieces_of_any_size() {
        let data = [&[0, 0, 3, 0, 0, 0, 0, 0, 1][..], b"abc"].concat();
        let all = [PREFACE_BYTES, &data, &GOAWAY_FRAME, &data].concat();
        for cut in 1..=all.len() {
            let mut frames = Frames::new();
            all.chunks(cut).for_each(|part| frames.follow(part));
            assert!(frames.seen_goaway && frames.at_boundary(), "cut at {cut}");
        }
        let mut frames = Frames::new();
        frames.follow(&[PREFACE_BYTES, &[0, 0, 0, HEADERS, 0, 0, 0, 0, 1]].concat());
        assert!(!frames.at_boundary(), "the block continues");
        frames.follow(&[0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 1]);
        assert!(frames.at_boundary());
        let mut frames = Frames::new();
        frames.follow(&[PREFACE_BYTES, &data[..10]].concat());
        assert!(!frames.at_boundary() && !frames.seen_goaway);
    }

    #[tokio::test]
    async fn a_goaway_is_inserted_between_frames_and_received() {
        let (near, far) = tokio::io::duplex(1024);
        let (mut sender, handle) = Tapped::sender(near);
        let (mut receiver, goaway) = Tapped::receiver(far);
        let data = [&[0, 0, 3, 0, 0, 0, 0, 0, 1][..], b"abc"].concat();
        sender.write_all(PREFACE_BYTES).await.unwrap();
        sender.write_all(&data[..10]).await.unwrap();
        handle.send();
        sender.write_all(&data[10..]).await.unwrap();
        sender.flush().await.unwrap();
        drop(sender);
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [PREFACE_BYTES, &data, &GOAWAY_FRAME].concat());
        goaway.received().await;
    }

    #[tokio::test]
    async fn a_requested_goaway_wakes_an_idle_sender() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut sender, handle) = Tapped::sender(near);
        sender.write_all(PREFACE_BYTES).await.unwrap();
        let mut byte = [0];
        let (_, sent) = tokio::join!(
            async {
                handle.send();
                let _ =
                    tokio::time::timeout(std::time::Duration::from_millis(50), sender.read(&mut byte)).await;
            },
            async {
                let mut got = [0; PREFACE + 17];
                far.read_exact(&mut got).await.unwrap();
                got
            }
        );
        assert_eq!(sent[PREFACE..], GOAWAY_FRAME);
    }
}

//! The byte stream under every connection: TCP, TLS on either side, or any other stream. It also holds bytes that were
//! read too early, drops bytes that the far end must not get, records the time of the last read, and moves from one
//! core to another.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::{client, server};

use super::keepalive::{FarEnd, UserTimeout, UserTimeoutSwitch};

/// Anything that can stand in for a socket.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A TCP stream that can leave its runtime and arrive on another.
pub struct Tcp(TcpState);

enum TcpState {
    /// On a runtime.
    Attached(TcpStream),
    /// Between two runtimes.
    Detached(std::net::TcpStream),
    /// A move has failed.
    Lost,
}

impl Tcp {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self(TcpState::Attached(stream))
    }

    fn attached(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.0 {
            TcpState::Attached(stream) => Ok(Pin::new(stream)),
            _ => Err(io::Error::other("the socket is between two runtimes")),
        }
    }

    fn depart(&mut self) -> io::Result<()> {
        if let TcpState::Attached(stream) = std::mem::replace(&mut self.0, TcpState::Lost) {
            self.0 = TcpState::Detached(stream.into_std()?);
        }
        Ok(())
    }

    fn arrive(&mut self) -> io::Result<()> {
        if let TcpState::Detached(stream) = std::mem::replace(&mut self.0, TcpState::Lost) {
            self.0 = TcpState::Attached(TcpStream::from_std(stream)?);
        }
        Ok(())
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.attached()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.attached()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attached()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.attached()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.attached()?.poll_shutdown(cx)
    }
}

enum IoStream {
    Plain(Tcp),
    Server(Box<server::TlsStream<Tcp>>),
    Client(Box<client::TlsStream<Tcp>>),
    Other(Box<dyn Duplex>),
}

/// When bytes last arrived on an [`Io`]. Cheap to read from anywhere.
#[derive(Debug, Clone)]
pub struct LastRead(Arc<Clock>);

#[derive(Debug)]
struct Clock {
    started: Instant,
    millis: AtomicU64,
}

impl LastRead {
    /// Starts with the current time.
    pub fn now() -> Self {
        Self(Arc::new(Clock { started: Instant::now(), millis: AtomicU64::new(0) }))
    }

    /// Records that bytes have arrived.
    pub fn touch(&self) {
        self.0.millis.store(self.0.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Resolves once no bytes have arrived for `limit`. Cancel safe.
    pub async fn silence(&self, limit: Duration) {
        while let Some(left) = limit.checked_sub(self.elapsed()).filter(|left| !left.is_zero()) {
            tokio::time::sleep(left).await;
        }
    }

    /// The time since the last read.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed().saturating_sub(Duration::from_millis(self.0.millis.load(Ordering::Relaxed)))
    }
}

/// One connection. See the module.
pub struct Io {
    stream: IoStream,
    early: Bytes,
    /// How many of the bytes that are written next are dropped.
    dropped: usize,
    /// Present only if [`Io::last_read`] was called: each read then reads the clock too.
    last_read: Option<LastRead>,
    user_timeout: Option<UserTimeout>,
}

impl Io {
    fn new(stream: IoStream) -> Self {
        Self { stream, early: Bytes::new(), dropped: 0, last_read: None, user_timeout: None }
    }

    /// A plain TCP connection.
    pub fn plain(tcp: Tcp) -> Self {
        Self::new(IoStream::Plain(tcp))
    }

    /// The relay's end of a TLS connection.
    pub fn tls_server(stream: server::TlsStream<Tcp>) -> Self {
        Self::new(IoStream::Server(Box::new(stream)))
    }

    /// The agent's end of a TLS connection.
    pub fn tls_client(stream: client::TlsStream<Tcp>) -> Self {
        Self::new(IoStream::Client(Box::new(stream)))
    }

    /// Anything else: a unix socket, an in-memory pipe.
    pub fn other(stream: impl Duplex + 'static) -> Self {
        Self::new(IoStream::Other(Box::new(stream)))
    }

    /// Puts bytes that were already read in front of the stream again.
    #[must_use]
    pub fn with_early(mut self, early: Bytes) -> Self {
        self.early = match self.early.is_empty() {
            true => early,
            false => [early, self.early].concat().into(),
        };
        self
    }

    /// Drops the first `count` bytes that are written: they count as written and are not sent. For a writer that begins
    /// with bytes that the far end already has, or has sent itself, such as the preface of HTTP/2.
    #[must_use]
    pub fn with_dropped(mut self, count: usize) -> Self {
        self.dropped += count;
        self
    }

    /// How many of the next `length` bytes are to be dropped; `None` when nothing is left to drop.
    fn drop_written(&mut self, length: usize) -> Option<usize> {
        let taken = (self.dropped > 0).then(|| length.min(self.dropped))?;
        self.dropped -= taken;
        Some(taken)
    }

    /// A handle on the time of the last read, which is recorded from now on.
    pub(crate) fn last_read(&mut self) -> LastRead {
        self.last_read.get_or_insert_with(LastRead::now).clone()
    }

    /// Marks this connection as a link: from now on the kernel sends keep-alive probes after a short silence.
    pub fn keep_alive(&mut self) {
        if let Some(Tcp(TcpState::Attached(stream))) = self.tcp() {
            FarEnd::Link.keep_alive(stream);
        }
    }

    /// A handle that sets how soon written bytes must be acknowledged.
    pub(crate) fn user_timeout(&mut self) -> UserTimeoutSwitch {
        let (user_timeout, switch) = UserTimeout::new();
        self.user_timeout = Some(user_timeout);
        switch
    }

    fn before_write(&mut self) {
        if let Some(mut user_timeout) = self.user_timeout.take() {
            let stream = match self.tcp() {
                Some(Tcp(TcpState::Attached(stream))) => Some(&*stream),
                _ => None,
            };
            user_timeout.apply(stream);
            self.user_timeout = Some(user_timeout);
        }
    }

    /// The ALPN id that the TLS handshake chose.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            IoStream::Server(tls) => tls.get_ref().1.alpn_protocol(),
            IoStream::Client(tls) => tls.get_ref().1.alpn_protocol(),
            IoStream::Plain(_) | IoStream::Other(_) => None,
        }
    }

    /// The server name of a client's TLS handshake (SNI, RFC 6066 §3), in lower case.
    pub fn server_name(&self) -> Option<&str> {
        match &self.stream {
            IoStream::Server(tls) => tls.get_ref().1.server_name(),
            IoStream::Client(_) | IoStream::Plain(_) | IoStream::Other(_) => None,
        }
    }

    /// The negotiated version of TLS; `None` without TLS.
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.stream {
            IoStream::Server(tls) => tls.get_ref().1.protocol_version(),
            IoStream::Client(tls) => tls.get_ref().1.protocol_version(),
            IoStream::Plain(_) | IoStream::Other(_) => None,
        }
    }

    /// The certificate of the far end, verified in this handshake or in the handshake whose session
    /// this connection resumes.
    pub fn peer(&self) -> Option<&CertificateDer<'static>> {
        let all = match &self.stream {
            IoStream::Server(tls) => tls.get_ref().1.peer_certificates(),
            IoStream::Client(tls) => tls.get_ref().1.peer_certificates(),
            IoStream::Plain(_) | IoStream::Other(_) => None,
        };
        all?.first()
    }

    /// Whether the kernel has an error for this connection, such as a reset of the far end. A read reports a reset only if
    /// the far end had not closed its sending direction before. The error is taken: the next call does not report it.
    pub fn has_failed(&mut self) -> bool {
        match self.tcp() {
            Some(Tcp(TcpState::Attached(stream))) => !matches!(stream.take_error(), Ok(None)),
            _ => false,
        }
    }

    fn tcp(&mut self) -> Option<&mut Tcp> {
        match &mut self.stream {
            IoStream::Plain(tcp) => Some(tcp),
            IoStream::Server(tls) => Some(tls.get_mut().0),
            IoStream::Client(tls) => Some(tls.get_mut().0),
            IoStream::Other(_) => None,
        }
    }

    /// Takes the socket off the current runtime. Nothing may be read or written before [`Io::arrive`].
    ///
    /// # Errors
    /// When the socket cannot be taken off its event queue; the connection is lost then.
    pub fn depart(&mut self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), Tcp::depart)
    }

    /// Puts the socket on the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket; the connection is lost then.
    pub fn arrive(&mut self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), Tcp::arrive)
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            IoStream::Plain($stream) => $call,
            IoStream::Server($stream) => $call,
            IoStream::Client($stream) => $call,
            IoStream::Other($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let take = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..take]);
            self.early.advance(take);
            return Poll::Ready(Ok(()));
        }
        let read = ready!(each!(self, s => Pin::new(s).poll_read(cx, buf)));
        if let Some(last_read) = &self.last_read {
            last_read.touch();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(taken) = self.drop_written(buf.len()) {
            return Poll::Ready(Ok(taken));
        }
        self.before_write();
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(taken) = self.drop_written(bufs.iter().map(|buf| buf.len()).sum()) {
            return Poll::Ready(Ok(taken));
        }
        self.before_write();
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            IoStream::Plain(s) => s.is_write_vectored(),
            IoStream::Server(s) => s.is_write_vectored(),
            IoStream::Client(s) => s.is_write_vectored(),
            IoStream::Other(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::Cores;

    #[tokio::test]
    async fn early_bytes_come_first_and_once() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut io = Io::other(near).with_early("lo ".into()).with_early("hel".into());
        far.write_all(b"world").await.unwrap();
        drop(far);
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }

    /// Writes each piece whole, in two slices or in one, and returns the bytes that the far end receives.
    async fn written(dropped: usize, pieces: &[(Vec<u8>, bool)]) -> Vec<u8> {
        // So small that a write takes only a part of a piece.
        let (near, mut far) = tokio::io::duplex(3);
        let mut io = Io::other(near).with_dropped(dropped / 2).with_dropped(dropped - dropped / 2);
        let write = async move {
            for (piece, sliced) in pieces {
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    let (first, second) = rest.split_at(rest.len() / 2);
                    let taken = match sliced {
                        true => io.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await,
                        false => io.write(rest).await,
                    };
                    rest = &rest[taken.unwrap()..];
                }
            }
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(write, far.read_to_end(&mut got));
        read.unwrap();
        got
    }

    proptest! {
        #[test]
        fn only_the_first_written_bytes_are_dropped(
            dropped in 0_usize..40,
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..12), any::<bool>()), 0..8),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let got = runtime.block_on(written(dropped, &pieces));
            let all: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            prop_assert_eq!(got, all.get(dropped..).unwrap_or_default());
        }
    }

    #[tokio::test]
    async fn an_http2_client_starts_without_its_preface() {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let (near, mut far) = tokio::io::duplex(1024);
        let io = Io::other(near).with_dropped(PREFACE.len());
        let (_requests, connection) = h2::client::handshake(io).await.unwrap();
        // RFC 9113 §4.1: 3 bytes of length, then the type; SETTINGS is 4.
        let mut head = [0; 4];
        tokio::select! {
            ended = connection => panic!("{ended:?}"),
            read = far.read_exact(&mut head) => read.unwrap(),
        };
        assert_eq!((&head[..2], head[3]), (&[0, 0][..], 4), "{head:?}");
    }

    #[test]
    fn a_socket_moves_between_cores_with_its_bytes_in_flight() {
        let cores = Cores::start(2).unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let second = cores.handle(1).clone();
        cores.handle(0).spawn(async move {
            let mut io = Io::plain(Tcp::new(TcpStream::connect(address).await.unwrap()));
            io.write_all(b"a").await.unwrap();
            io.depart().unwrap();
            assert!(io.write_all(b"x").await.is_err());
            second.spawn(async move {
                io.arrive().unwrap();
                io.write_all(b"b").await.unwrap();
                let mut byte = [0];
                io.read_exact(&mut byte).await.unwrap();
                tx.send(byte).unwrap();
            });
        });
        let (mut far, _) = listener.accept().unwrap();
        let mut two = [0; 2];
        std::io::Read::read_exact(&mut far, &mut two).unwrap();
        std::io::Write::write_all(&mut far, b"c").unwrap();
        assert_eq!((&two, rx.recv().unwrap()), (b"ab", *b"c"));
    }
}

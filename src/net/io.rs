//! The byte stream under every connection: TCP, TLS on either side, or any other; with bytes that were read too
//! early, the time of the last read, and the way from one core to another.

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

use super::inserts::Inserts;
use super::silence::{FarEnd, Impatience, Patience};

/// Anything that can stand in for a socket.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A TCP stream that can leave its runtime and arrive on another.
pub struct Tcp(Place);

enum Place {
    Here(TcpStream),
    Between(std::net::TcpStream),
    Lost,
}

impl Tcp {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self(Place::Here(stream))
    }

    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.0 {
            Place::Here(stream) => Ok(Pin::new(stream)),
            _ => Err(io::Error::other("the socket is between two runtimes")),
        }
    }

    fn depart(&mut self) -> io::Result<()> {
        if let Place::Here(stream) = std::mem::replace(&mut self.0, Place::Lost) {
            self.0 = Place::Between(stream.into_std()?);
        }
        Ok(())
    }

    fn arrive(&mut self) -> io::Result<()> {
        if let Place::Between(stream) = std::mem::replace(&mut self.0, Place::Lost) {
            self.0 = Place::Here(TcpStream::from_std(stream)?);
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
        self.here()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}

enum Stream {
    Plain(Tcp),
    Server(Box<server::TlsStream<Tcp>>),
    Client(Box<client::TlsStream<Tcp>>),
    Other(Box<dyn Duplex>),
}

/// When bytes last came in on an [`Io`]. Cheap to ask from anywhere.
#[derive(Debug, Clone)]
pub struct LastRead(Arc<Clock>);

#[derive(Debug)]
struct Clock {
    born: Instant,
    millis: AtomicU64,
}

impl LastRead {
    /// Starts with now.
    pub fn now() -> Self {
        Self(Arc::new(Clock { born: Instant::now(), millis: AtomicU64::new(0) }))
    }

    /// Bytes came in.
    pub fn touch(&self) {
        self.0.millis.store(self.0.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Resolves once nothing has come in for `most`. Cancel safe.
    pub async fn silence(&self, most: Duration) {
        while let Some(left) = most.checked_sub(self.elapsed()).filter(|left| !left.is_zero()) {
            tokio::time::sleep(left).await;
        }
    }

    /// How long ago.
    pub fn elapsed(&self) -> Duration {
        self.0.born.elapsed().saturating_sub(Duration::from_millis(self.0.millis.load(Ordering::Relaxed)))
    }
}

/// One connection. See the module.
pub struct Io {
    stream: Stream,
    early: Bytes,
    /// Only where somebody asked for it: it costs a look at the clock for each read.
    last_read: Option<LastRead>,
    inserts: Option<Inserts>,
    patience: Option<Patience>,
}

impl Io {
    fn new(stream: Stream) -> Self {
        Self { stream, early: Bytes::new(), last_read: None, inserts: None, patience: None }
    }

    /// A plain TCP connection.
    pub fn plain(tcp: Tcp) -> Self {
        Self::new(Stream::Plain(tcp))
    }

    /// The relay's end of a TLS connection.
    pub fn tls_server(stream: server::TlsStream<Tcp>) -> Self {
        Self::new(Stream::Server(Box::new(stream)))
    }

    /// The agent's end of a TLS connection.
    pub fn tls_client(stream: client::TlsStream<Tcp>) -> Self {
        Self::new(Stream::Client(Box::new(stream)))
    }

    /// Anything else: a unix socket, an in-memory pipe.
    pub fn other(stream: impl Duplex + 'static) -> Self {
        Self::new(Stream::Other(Box::new(stream)))
    }

    /// Puts bytes that were already read back in front.
    #[must_use]
    pub fn with_early(mut self, early: Bytes) -> Self {
        self.early = match self.early.is_empty() {
            true => early,
            false => [early, self.early].concat().into(),
        };
        self
    }

    /// A handle on the time of the last read, which is kept from now on.
    pub fn last_read(&mut self) -> LastRead {
        self.last_read.get_or_insert_with(LastRead::now).clone()
    }

    /// A handle to put bytes in between two messages, or in the place of the end of one.
    pub fn inserts(&mut self) -> Inserts {
        self.inserts.get_or_insert_default().clone()
    }

    /// From now on this is a link: the kernel asks soon whether the far end is there.
    pub fn keep_alive(&mut self) {
        if let Some(Tcp(Place::Here(stream))) = self.tcp() {
            FarEnd::Link.keep_alive(stream);
        }
    }

    /// A handle that says how soon what is written must be acknowledged.
    pub fn impatience(&mut self) -> Impatience {
        let (patience, handle) = Patience::new();
        self.patience = Some(patience);
        handle
    }

    fn before_write(&mut self) {
        if let Some(mut patience) = self.patience.take() {
            let stream = match self.tcp() {
                Some(Tcp(Place::Here(stream))) => Some(&*stream),
                _ => None,
            };
            patience.apply(stream);
            self.patience = Some(patience);
        }
    }

    /// The ALPN id that the TLS handshake chose.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Server(tls) => tls.get_ref().1.alpn_protocol(),
            Stream::Client(tls) => tls.get_ref().1.alpn_protocol(),
            Stream::Plain(_) | Stream::Other(_) => None,
        }
    }

    /// The version of TLS that was agreed on; none without TLS.
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.stream {
            Stream::Server(tls) => tls.get_ref().1.protocol_version(),
            Stream::Client(tls) => tls.get_ref().1.protocol_version(),
            Stream::Plain(_) | Stream::Other(_) => None,
        }
    }

    /// The certificate of the far end, verified in the handshake or in one that this connection resumes.
    pub fn peer(&self) -> Option<&CertificateDer<'static>> {
        let all = match &self.stream {
            Stream::Server(tls) => tls.get_ref().1.peer_certificates(),
            Stream::Client(tls) => tls.get_ref().1.peer_certificates(),
            Stream::Plain(_) | Stream::Other(_) => None,
        };
        all?.first()
    }

    fn tcp(&mut self) -> Option<&mut Tcp> {
        match &mut self.stream {
            Stream::Plain(tcp) => Some(tcp),
            Stream::Server(tls) => Some(tls.get_mut().0),
            Stream::Client(tls) => Some(tls.get_mut().0),
            Stream::Other(_) => None,
        }
    }

    /// Takes the socket off the current runtime. Between this and [`Io::arrive`] nothing may be read or written.
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
            Stream::Plain($stream) => $call,
            Stream::Server($stream) => $call,
            Stream::Client($stream) => $call,
            Stream::Other($stream) => $call,
        }
    };
}

impl Io {
    /// See [`Inserts::poll_end`].
    fn poll_end(&mut self, cx: &mut Context<'_>, handed: &[IoSlice<'_>]) -> Poll<io::Result<Option<usize>>> {
        match self.inserts.as_ref().filter(|inserts| inserts.is_ending()) {
            None => Poll::Ready(Ok(None)),
            Some(inserts) => each!(self, s => inserts.poll_end(s, cx, handed)),
        }
    }
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
        self.before_write();
        if let Some(taken) = ready!(self.poll_end(cx, &[IoSlice::new(buf)]))? {
            return Poll::Ready(Ok(taken));
        }
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.before_write();
        if let Some(taken) = ready!(self.poll_end(cx, bufs))? {
            return Poll::Ready(Ok(taken));
        }
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(s) => s.is_write_vectored(),
            Stream::Server(s) => s.is_write_vectored(),
            Stream::Client(s) => s.is_write_vectored(),
            Stream::Other(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(inserts) = this.inserts.as_ref().filter(|inserts| inserts.is_waiting()) {
            ready!(each!(this, s => inserts.poll_write(s, cx)))?;
        }
        each!(this, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_socket_moves_between_cores_with_what_is_in_flight() {
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

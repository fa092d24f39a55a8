//! A fresh connection. The TLS handshake and the first bytes share one deadline; then a transport, HTTP/1 or HTTP/2
//! serves the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Shared;
use super::connection_limit::ConnectionPermit;
use super::forward::Downstream;
use super::handshake::Handshake;
use super::streams::{self, Stream};
use super::transports::ServedTransport;
use super::{public, record, respond};
use crate::defaults;
use crate::domain::Visitor;
use crate::http1::server::{HalfClose, Service};
use crate::http1::write::Case;
use crate::http1::{self, BadHead};
use crate::message::{Request, Response, interim};
use crate::net::Io;
use crate::net::io::Tcp;
use crate::net::linger::{LingerLimits, LingerPlace};
use crate::net::proxy_protocol;
use crate::observe::{Limit, LimitObserver as _, Observers};
use crate::session::h2::UploadPolicy;
use crate::session::h2::refused::Refused;
use crate::session::h2::server::{self, Http2Terms};
use crate::tls::Acceptor;

/// The connection preface of an HTTP/2 client (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The settings and limits of a visitor's HTTP/2 connection.
fn terms(shared: &Shared) -> Http2Terms {
    let (budget, lingering) = (shared.uploads.clone(), shared.lingering.clone());
    Http2Terms {
        uploads: UploadPolicy::Connection {
            budget,
            first: defaults::VISITOR_FIRST_WINDOW,
            most: defaults::VISITOR_WINDOW,
        },
        streams: defaults::VISITOR_STREAMS,
        fields: defaults::FIELDS,
        resets: defaults::VISITOR_RESETS,
        faults: Some(defaults::VISITOR_FAULTS),
        ping_every: defaults::HEAD,
        ping_dead: defaults::VISITOR_PING_DEAD,
        idle: Some(defaults::VISITOR_IDLE),
        linger: Some(Arc::new(move || lingering.enter())),
    }
}

/// A visitor's connection and the relay that serves it.
struct VisitorConnection {
    shared: Arc<Shared>,
    sender: Downstream,
}

impl VisitorConnection {
    fn new(
        shared: Arc<Shared>,
        (visitor, balanced): (Visitor, bool),
        io: &Io,
        connection_permit: ConnectionPermit,
    ) -> Arc<Self> {
        let proxied = shared.config.trusted_proxies.contains(visitor.remote.ip());
        // Each connection has its own reference count: a count that all cores share would move between them with each
        // request.
        let observers = Observers {
            metrics: Some(shared.metrics.clone()),
            sink: shared.config.access_log.clone(),
            error_pages: Some(shared.error_pages.clone()),
        };
        let (handshake, connection_permit) = (Handshake::of(io), Arc::new(connection_permit));
        let sender = Downstream::new(visitor, (proxied, balanced), handshake, connection_permit, observers);
        Arc::new(Self { shared, sender })
    }
}

/// The properties of one listener that its connections need.
pub(super) struct ListenerSettings {
    pub(super) local: SocketAddr,
    pub(super) tls: Option<Arc<Acceptor>>,
    /// The transport of every connection on the listener; `None` for HTTP.
    pub(super) transport: Option<Arc<ServedTransport>>,
}

/// A fresh connection, by its protocol.
enum Negotiated {
    /// A stream of this transport.
    Stream(Io, Arc<ServedTransport>),
    Http1(Io),
    Http2(Io),
}

/// Serves one connection to its end, or until the relay stops and the requests in flight have finished.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    mut visitor: Visitor,
    settings: Arc<ListenerSettings>,
    mut connection_permit: ConnectionPermit,
) {
    let balanced = shared.config.proxy_protocol.contains(visitor.remote.ip());
    let opened = tokio::select! {
        biased;
        () = shared.visitors.stopping() => return,
        opened = tokio::time::timeout(
            defaults::HANDSHAKE,
            negotiate(&shared, stream, &mut visitor, &settings, &mut connection_permit),
        ) => opened,
    };
    let negotiated = match opened {
        Ok(Ok(negotiated)) => negotiated,
        Ok(Err(error)) => {
            tracing::debug!(remote = %visitor.remote, %error, "a connection failed before its first request");
            return;
        }
        Err(_) => return shared.metrics.reached(Limit::Handshake, &visitor.remote),
    };
    match negotiated {
        Negotiated::Http1(io) => {
            serve_h1(VisitorConnection::new(shared, (visitor, balanced), &io, connection_permit), io).await
        }
        Negotiated::Http2(io) => {
            serve_h2(VisitorConnection::new(shared, (visitor, balanced), &io, connection_permit), io).await
        }
        // The stream keeps its connection permit until it is admitted, as a request for an Upgrade does.
        Negotiated::Stream(io, served) => {
            let own_listener = settings.transport.is_some();
            let stream = Stream { handshake: Handshake::of(&io), io, visitor, own_listener };
            streams::accept(&shared, &served, stream).await;
        }
    }
}

/// Reads the PROXY header, performs the TLS handshake, and determines the protocol.
async fn negotiate(
    shared: &Shared,
    mut stream: TcpStream,
    visitor: &mut Visitor,
    settings: &ListenerSettings,
    connection_permit: &mut ConnectionPermit,
) -> io::Result<Negotiated> {
    // A load balancer begins each connection with a PROXY header; the relay accepts that header from no other address.
    if shared.config.proxy_protocol.contains(visitor.remote.ip())
        && let Some(source) = proxy_protocol::read(&mut stream).await?
    {
        visitor.remote = source.remote;
        visitor.tls |= source.tls;
    }
    let address = visitor.remote.ip();
    if !shared.config.trusted_proxies.contains(address)
        && !shared.config.proxy_protocol.contains(address)
        && !connection_permit.try_assign(address)
    {
        shared.metrics.reached(Limit::ConnectionsPerAddress, &address);
        return Err(io::Error::other("the address has reached its limit of connections"));
    }
    let io = match &settings.tls {
        Some(acceptor) => Io::tls_server(acceptor.current().accept(Tcp::new(stream)).await?),
        None => Io::plain(Tcp::new(stream)),
    };
    if let Some(served) = &settings.transport {
        return Ok(Negotiated::Stream(io, served.clone()));
    }
    match io.alpn() {
        Some(b"h2") => Ok(Negotiated::Http2(io)),
        Some(id) => match shared.transports.by_alpn(id).cloned() {
            Some(served) => Ok(Negotiated::Stream(io, served)),
            None => Ok(Negotiated::Http1(io)),
        },
        None if settings.tls.is_some() => Ok(Negotiated::Http1(io)),
        None => sniff(io).await,
    }
}

/// Without TLS there is no ALPN; the preface identifies an HTTP/2 client (RFC 9113 §3.3).
async fn sniff(mut io: Io) -> io::Result<Negotiated> {
    let mut read = BytesMut::with_capacity(4096);
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let h2 = read.starts_with(PREFACE);
    let io = io.with_early(read.freeze());
    Ok(if h2 { Negotiated::Http2(io) } else { Negotiated::Http1(io) })
}

/// The options of a visitor's HTTP/1 connection.
const HTTP1: http1::server::ServerOptions = http1::server::ServerOptions {
    head: defaults::VISITOR_HEAD,
    head_within: Some(defaults::HEAD),
    stalled: defaults::STALLED,
    drain: defaults::DRAIN,
    linger: LingerLimits::DEFAULT,
    keep_alive: true,
    // The Java client of ReverseHttp recognises the field `Link` in this spelling alone. Without that field it repeats
    // its registration for ever.
    case: Case::Title,
    half_close: HalfClose::Probed,
    trailers_on_demand: true,
    date: true,
};

impl Service for VisitorConnection {
    async fn call(&self, request: Request, interim: interim::Sender) -> Response {
        public::answer(&self.shared, &self.sender, request, &interim).await
    }

    fn refuse(&self, bad: BadHead) -> Response {
        record::refused_head(&self.sender, bad)
    }

    /// An agent that polls must not be taken for present for as long as a probe needs: it would be sent a request.
    fn allows_half_close(&self) -> bool {
        !self.sender.serves_agent()
    }

    fn linger(&self) -> LingerPlace {
        self.shared.lingering.enter()
    }
}

async fn serve_h1(connection: Arc<VisitorConnection>, io: Io) {
    let ended = http1::server::serve(io, &*connection, &HTTP1, connection.shared.visitors.stopping()).await;
    // `HeadLate` is the relay's own idle timeout, so the far end has not closed the connection. A working agent may be
    // idle on this connection.
    if !matches!(ended, Err(http1::Error::HeadLate)) {
        connection.sender.closed().store(true, Ordering::Release);
    }
    let limit = match &ended {
        Ok(_) => return,
        Err(http1::Error::HeadLate) => Some(Limit::Head),
        Err(http1::Error::Head(BadHead::Bytes(_) | BadHead::Fields | BadHead::Target)) => Some(Limit::Fields),
        Err(_) => None,
    };
    match (limit, ended) {
        (Some(limit), _) => connection.shared.metrics.reached(limit, &connection.sender.visitor().remote),
        (None, Err(error)) => log(&connection.sender, &error),
        (None, Ok(_)) => {}
    }
}

async fn serve_h2(connection: Arc<VisitorConnection>, mut io: Io) {
    let last_read = io.last_read();
    let answer = |request: Request, interim: interim::Sender| {
        let connection = connection.clone();
        // Boxed, because the future is large and is moved several times before its task runs.
        Box::pin(async move {
            let mut response =
                public::answer(&connection.shared, &connection.sender, request, &interim).await;
            respond::date(response.headers_mut());
            response
        })
    };
    let visitors = &connection.shared.visitors;
    let reached = |limit| connection.shared.metrics.reached(limit, &connection.sender.visitor().remote);
    let (stopping, terms) = (visitors.stopping(), terms(&connection.shared));
    let io = Refused::new(io, || {
        reached(Limit::Fields);
        record::head_too_large(&connection.sender);
    });
    let ended = server::serve(io, last_read, terms, visitors, stopping, reached, answer).await;
    if let Err(error) = ended {
        match error.reached() {
            Some(limit) => reached(limit),
            None => log(&connection.sender, &error),
        }
    }
}

fn log(sender: &Downstream, error: &dyn std::error::Error) {
    tracing::debug!(remote = %sender.visitor().remote, %error, "a connection ended");
}

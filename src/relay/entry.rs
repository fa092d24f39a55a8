//! A fresh connection: TLS and the first bytes under one deadline, then HTTP of the version that it speaks.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::forward::Sender;
use super::public;
use crate::defaults;
use crate::domain::Visitor;
use crate::net::Io;
use crate::net::io::Tcp;
use crate::net::scope::Light;

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A visitor's connection, and what it is connected to.
struct Inside {
    shared: Arc<Shared>,
    sender: Sender,
}

/// Serves one connection to its end, or until the relay stops and what is in flight has finished.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    visitor: Visitor,
    tls: Option<TlsAcceptor>,
    place: OwnedSemaphorePermit,
) {
    let opened = tokio::select! {
        biased;
        () = shared.visitors.stopping() => return,
        opened = tokio::time::timeout(defaults::HANDSHAKE, open(stream, tls)) => opened,
    };
    let (io, h2) = match opened {
        Ok(Ok(open)) => open,
        Ok(Err(error)) => return tracing::debug!(remote = %visitor.remote, %error, "no HTTP on a connection"),
        Err(_) => return tracing::debug!(remote = %visitor.remote, "a handshake took too long"),
    };
    // One count for each connection: one that all cores share would travel between them with each request.
    let inside = Arc::new(Inside { shared, sender: Sender::new(visitor, Arc::new(place)) });
    match h2 {
        true => serve_h2(inside, io).await,
        false => serve_h1(inside, io).await,
    }
}

async fn open(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Io, bool)> {
    let Some(acceptor) = tls else {
        return sniff(Io::plain(Tcp::new(stream))).await;
    };
    let io = Io::tls_server(acceptor.accept(Tcp::new(stream)).await?);
    let h2 = io.alpn() == Some(b"h2");
    Ok((io, h2))
}

/// Without TLS there is no ALPN; an HTTP/2 client shows itself by its preface (RFC 9113 §3.3).
async fn sniff(mut io: Io) -> io::Result<(Io, bool)> {
    let mut read = BytesMut::with_capacity(4096);
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let h2 = read.starts_with(PREFACE);
    Ok((io.with_early(read.freeze()), h2))
}

async fn serve_h1(inside: Arc<Inside>, io: Io) {
    let service = service_fn(|request| {
        let inside = inside.clone();
        async move { Ok::<_, Infallible>(public::answer(&inside.shared, &inside.sender, request).await) }
    });
    let mut builder = http1::Builder::new();
    // The Java client of ReverseHttp knows `Link` in this spelling alone, and registers for ever without it.
    builder.timer(TokioTimer::new()).header_read_timeout(defaults::HEAD).title_case_headers(true);
    // Also what is read ahead of a body, and what waits for the socket.
    builder.max_buf_size(defaults::VISITOR_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        () = inside.shared.visitors.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    log(&inside.sender, ended);
}

async fn serve_h2(inside: Arc<Inside>, mut io: Io) {
    let last_read = io.last_read();
    let service = service_fn(|request| {
        let inside = inside.clone();
        async move { Ok::<_, Infallible>(public::answer(&inside.shared, &inside.sender, request).await) }
    });
    let connection = http2::Builder::new(Light(inside.shared.visitors.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(defaults::VISITOR_STREAM_WINDOW)
        .initial_connection_window_size(defaults::VISITOR_CONNECTION_WINDOW)
        .max_concurrent_streams(defaults::VISITOR_STREAMS)
        .max_header_list_size(defaults::FIELDS)
        .keep_alive_interval(defaults::HEAD)
        // hyper only asks; see the agent's end for why it must not judge.
        .keep_alive_timeout(NEVER)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut dead = pin!(last_read.silence(defaults::HEAD + defaults::VISITOR_PING_DEAD));
    let ended = tokio::select! {
        biased;
        () = dead.as_mut() => return,
        () = inside.shared.visitors.stopping() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = dead => return,
                ended = connection => ended,
            }
        }
        ended = connection.as_mut() => ended,
    };
    log(&inside.sender, ended);
}

fn log(sender: &Sender, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(remote = %sender.visitor().remote, %error, "a connection ended");
    }
}

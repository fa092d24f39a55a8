//! The admin listener: its address, and the data of its pages.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::config::Admin;
use crate::defaults;
use crate::net::{Scope, listener};
use crate::observe::{Metrics, admin};
use crate::registry::Registry;
use crate::session::{Link, Session};

/// Binds the listener. A failure ends the start only if the address is required.
pub(super) fn bind(wanted: Option<Admin>) -> Result<Option<(SocketAddr, StdListener)>, StartError> {
    let Some(Admin { address, required }) = wanted else { return Ok(None) };
    match listener::bind(address, 1) {
        Ok((bound, mut listeners)) => Ok(listeners.pop().map(|l| (bound, l))),
        Err(source) if required => Err(StartError::Listen { address, source }),
        Err(error) => {
            if error.kind() == io::ErrorKind::AddrInUse {
                tracing::warn!(%address, "no admin listener: another program uses the port (see --admin)");
            } else {
                tracing::warn!(%address, %error, "no admin listener");
            }
            Ok(None)
        }
    }
}

/// The data of the pages.
pub(super) struct RelayView {
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) draining: CancellationToken,
}

impl admin::AdminView for RelayView {
    fn is_ready(&self) -> bool {
        !self.draining.is_cancelled()
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn sessions(&self) -> String {
        let sessions = self.registry.sessions();
        let all: Vec<_> = sessions.iter().map(|session| SessionEntry::of(session)).collect();
        // Texts and numbers can always be written to memory.
        serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
    }
}

/// One session on the page `/sessions`.
#[derive(Serialize)]
struct SessionEntry {
    id: String,
    token: String,
    routes: Vec<String>,
    late: bool,
    connections: Vec<ConnectionEntry>,
}

/// One connection of a session.
#[derive(Serialize)]
struct ConnectionEntry {
    carrier: &'static str,
    core: u64,
    in_flight: usize,
}

impl SessionEntry {
    fn of(session: &Session) -> Self {
        let connection = |link: &Arc<Link>| ConnectionEntry {
            carrier: link.kind().label(),
            core: link.core().to_string().parse().unwrap_or_default(),
            in_flight: link.in_flight(),
        };
        Self {
            id: session.id.to_string(),
            token: session.agent.to_string(),
            routes: session.routes.iter().map(ToString::to_string).collect(),
            late: session.is_late(),
            connections: session.links().iter().map(connection).collect(),
        }
    }
}

/// Serves the pages until the scope stops.
pub(super) async fn run(view: RelayView, listener: StdListener, address: SocketAddr, scope: Scope) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%address, %error, "no admin listener"),
    };
    let view = Arc::new(view);
    loop {
        let (stream, _) = tokio::select! {
            biased;
            () = scope.stopping() => return,
            accepted = listener::accept(&listener) => accepted,
        };
        let view = view.clone();
        let local = address.ip().is_loopback();
        scope.spawn(async move { serve(&view, TokioIo::new(stream), local).await });
    }
}

/// Answers one request. The connection ends in time even if its sender does not read the answer.
async fn serve<T: Read + Write + Unpin>(view: &RelayView, io: T, local: bool) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let (method, path) = (request.method(), request.uri().path());
        let response = admin::answer(view, method, path, request.headers(), local);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(defaults::HANDSHAKE).keep_alive(false);
    match tokio::time::timeout(defaults::ADMIN_TIME, builder.serve_connection(io, service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_read_its_answer_is_closed() {
        let registry = Registry::new(defaults::LEASE);
        let view = RelayView { registry, metrics: Arc::default(), draining: CancellationToken::new() };
        let (mut near, far) = tokio::io::duplex(16);
        let request = async {
            near.write_all(b"GET /metrics HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = request => {}
            served = tokio::time::timeout(10 * defaults::ADMIN_TIME, serve(&view, TokioIo::new(far), false)) => {
                assert!(served.is_ok(), "the connection stays open for as long as its peer does not read");
            }
        }
    }
}

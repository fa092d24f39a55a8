//! The accept loop of one listener on one core: takes a connection permit, then spawns a task for the connection. It
//! performs no handshake and never fails.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument as _;

use super::Shared;
use super::connection_limit::ConnectionPermit;
use super::entry::{self, ListenerSettings};
use crate::domain::Visitor;
use crate::net::listener;
use crate::observe::{Limit, LimitObserver as _};

/// Accepts until the relay stops listening.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, settings: Arc<ListenerSettings>) {
    loop {
        let (stream, remote) = tokio::select! {
            biased;
            () = shared.listeners.stopping() => return,
            accepted = listener::accept(&listener) => accepted,
        };
        // Without a connection permit the new connection is closed; open connections stay.
        let Some(connection_permit) = connection_permit(&shared, &stream, &remote) else { continue };
        let visitor = Visitor { remote, local: settings.local, tls: settings.tls.is_some() };
        let (shared, settings, owner) = (shared.clone(), settings.clone(), shared.visitors.clone());
        // The span puts the id of the connection into the log lines of all its tasks.
        let span = tracing::debug_span!(
            "connection", id = %format_args!("{:08x}", rand::random::<u32>()), %remote, listener = %settings.local
        );
        let serve = async move {
            let _counted = shared.metrics.visitor_connected();
            match connection_permit.must_close() {
                None => entry::serve(shared, stream, visitor, settings, connection_permit).await,
                // Boxed, because this case is rare and would enlarge the future of every visitor.
                Some(must_close) => {
                    Box::pin(async move {
                        tokio::select! {
                            biased;
                            () = must_close => {}
                            () = entry::serve(shared, stream, visitor, settings, connection_permit) => {}
                        }
                    })
                    .await;
                }
            }
        };
        owner.spawn(serve.instrument(span));
    }
}

/// A visitor's connection permit. If there is none, a newcomer's connection permit, because the connection may be an
/// agent's.
fn connection_permit(shared: &Shared, stream: &TcpStream, remote: &SocketAddr) -> Option<ConnectionPermit> {
    if !shared.descriptors.is_reserved(stream)
        && let Some(connection_permit) = shared.connection_limit.enter()
    {
        return Some(connection_permit);
    }
    shared.metrics.reached(Limit::Connections, remote);
    if shared.descriptors.is_last(stream) {
        return None;
    }
    shared.newcomers.enter().map(|newcomer| shared.connection_limit.beyond_limit(newcomer))
}

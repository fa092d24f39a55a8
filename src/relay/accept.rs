//! The accept loop of one listener on one core: limit, then spawn. It never handshakes and never fails.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::entry;
use crate::domain::Visitor;
use crate::net::listener;
use crate::observe::Limit;

/// Accepts until the relay stops listening.
pub(super) async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    local: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    loop {
        let (stream, remote) = tokio::select! {
            biased;
            () = shared.listeners.stopping() => return,
            accepted = listener::accept(&listener) => accepted,
        };
        // Full: this one goes, those inside stay.
        let Some(seat) = shared.seats.enter() else {
            shared.metrics.reached(Limit::Connections, &remote);
            continue;
        };
        let visitor = Visitor { remote, local, tls: tls.is_some() };
        let (shared, tls) = (shared.clone(), tls.clone());
        shared.visitors.clone().spawn(async move {
            let _inside = shared.metrics.visitor_connected();
            entry::serve(shared, stream, visitor, tls, seat).await;
        });
    }
}

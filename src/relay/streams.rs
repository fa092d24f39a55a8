//! A stream that belongs to a transport from its first byte: by its ALPN id, or by its listener.

use std::net::SocketAddr;

use super::handshake::Handshake;
use super::transports::ServedTransport;
use super::{Shared, public};
use crate::defaults;
use crate::domain::{Facts, Refusal, RefusalKind, Visitor};
use crate::net::Io;
use crate::observe::{Limit, LimitObserver as _};

/// A fresh stream, and the known facts about its far end.
pub(super) struct Stream {
    pub(super) io: Io,
    pub(super) visitor: Visitor,
    pub(super) handshake: Handshake,
    /// The stream arrived on a listener of the transport's own, which serves no visitors.
    pub(super) own_listener: bool,
}

/// Passes a stream to its transport, and returns when the transport has admitted or refused it. A refused stream is
/// closed.
pub(super) async fn accept(shared: &Shared, served: &ServedTransport, stream: Stream) {
    let (transport, remote) = (served.name, stream.visitor.remote);
    let accepted = tokio::select! {
        biased;
        () = shared.visitors.stopping() => return,
        accepted = tokio::time::timeout(defaults::STREAM, offer(shared, served, stream)) => accepted,
    };
    match accepted {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => {
            shared.metrics.refused(refusal.kind.code().as_str());
            tracing::debug!(transport, %remote, code = %refusal.kind.code(), %refusal, "stream refused");
        }
        Err(_) => shared.metrics.reached(Limit::Handshake, &remote),
    }
}

async fn offer(shared: &Shared, served: &ServedTransport, stream: Stream) -> Result<(), Refusal> {
    let (transport, remote) = (served.name, stream.visitor.remote);
    public::require_tls(shared, &stream.visitor)?;
    if served.needs_certificate && stream.handshake.certificate.is_none() {
        tracing::info!(transport, %remote, "agent refused: its connection has no client certificate");
        let message =
            "an agent needs a client certificate with this transport: give one with --cert and --key";
        return Err(Refusal::new(RefusalKind::Unauthenticated, message));
    }
    let facts = facts(shared, &stream);
    served.side.accept_stream(stream.io, facts).await
}

fn facts(shared: &Shared, stream: &Stream) -> Facts {
    let Stream { visitor, handshake: Handshake { server_name, certificate }, own_listener, .. } = stream;
    let visitors_port = || shared.visitors_port(visitor.tls);
    let port = own_listener.then(visitors_port).flatten().unwrap_or(visitor.local.port());
    let authority = match server_name {
        Some(host) => format!("{host}:{port}"),
        None => SocketAddr::new(visitor.local.ip(), port).to_string(),
    };
    Facts {
        remote: visitor.remote,
        tls: visitor.tls,
        authority: authority.into(),
        server_name: server_name.clone(),
        credential: None,
        certificate: certificate.clone(),
        closed: None,
    }
}

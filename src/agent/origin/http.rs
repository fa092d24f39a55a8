//! Forwarding to an HTTP origin, over hyper's own connections and our own pool.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use http::{StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Target;
use super::connect::{Connector, Probe};
use super::failure::Failure;
use super::outgoing::{Outgoing, Upgrade, check, outgoing};
use super::pool::{Connection, Lease, NotAnswered, Pool};
use crate::agent::recorded::Behind;
use crate::defaults;
use crate::message::expect::Gate;
use crate::message::interim::Heads;
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, BoxError, Request, Response, hop, problem, repeat};
use crate::net::watched::counted;
use crate::net::{Scope, Watched, splice};

/// An origin that speaks HTTP/1.1.
pub(super) struct Web {
    connector: Connector,
    pool: Arc<Pool>,
    scope: Scope,
}

impl Web {
    pub(super) fn new(target: Target, scope: Scope, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { connector: Connector::new(target, tls), pool: Pool::new(scope.clone()), scope }
    }

    pub(super) async fn probe(&self) -> Probe {
        self.connector.probe().await
    }

    /// Answers one request. Dropping the future, or later the body of the answer, cancels the request: its connection
    /// to the origin is closed.
    pub(super) async fn answer(self: Arc<Self>, request: Request) -> Response {
        let html = problem::wants_html(request.headers());
        match self.exchange(request).await {
            Ok(response) => response,
            Err(failure) => failure.response(self.connector.target(), html),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Response, Failure> {
        check(&request)?;
        let Outgoing { request, upgrade, gate } = outgoing(request);
        let (lease, response) = match &gate {
            None => self.send(request).await?,
            Some(gate) => self.send_behind(gate, request).await?,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            lease.forget();
            return switch(response.map(Body::from), upgrade.ok_or(Failure::Unasked)?, &self.scope);
        }
        let (mut parts, incoming) = response.into_parts();
        let _ = hop::strip(&mut parts.headers);
        // The version is that of the hop; with an origin's 1.0 our own server would not chunk.
        parts.version = Version::HTTP_11;
        let mut body = Body::from(incoming);
        // The gate goes with the answer's body, not before: a body refused earlier would end the connection, and the
        // answer with it.
        match gate {
            Some(gate) => body.hold((gate, lease)),
            None => body.hold(lease),
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Idle connections first, the youngest at the front. hyper hands a request back when not one byte of it was
    /// written. One that may have left is repeated if that is harmless and an origin that closes what is idle may not
    /// have seen it (RFC 9112 §9.3.1): on a fresh connection, once.
    async fn send(&self, mut request: Request) -> Result<(Lease, http::Response<Incoming>), Failure> {
        while let Some(mut lease) = self.pool.take() {
            let copy = if lease.rested { repeat::copy(&request) } else { None };
            match lease.send(request).await {
                Ok(response) => return Ok((lease, response)),
                Err(NotAnswered { unsent, error }) => match (unsent, copy) {
                    (Some(unsent), _) => request = unsent,
                    (None, Some(copy)) if error.as_ref().is_some_and(is_end) => {
                        request = copy;
                        break;
                    }
                    (None, _) => return Err(error.into()),
                },
            }
        }
        let mut lease = self.open().await?;
        match lease.send(request).await {
            Ok(response) => Ok((lease, response)),
            Err(NotAnswered { error, .. }) => Err(error.into()),
        }
    }

    /// An origin that does not know `Expect` waits for a body that waits for it; the gate opens after a while.
    async fn send_behind(
        &self,
        gate: &Gate,
        request: Request,
    ) -> Result<(Lease, http::Response<Incoming>), Failure> {
        let mut sending = Box::pin(self.send(request));
        match tokio::time::timeout(defaults::ORIGIN_CONTINUE, &mut sending).await {
            Ok(sent) => sent,
            Err(_) => {
                gate.open();
                sending.await
            }
        }
    }

    async fn open(&self) -> Result<Lease, Failure> {
        let mut io = self.connector.connect().await?;
        let inserts = io.inserts();
        let heads = Arc::new(Heads::default());
        let mut builder = http1::Builder::new();
        builder.max_buf_size(defaults::H1_BUFFER);
        let io = Watched::new(io, heads.clone().watch(), |_| {});
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
        self.scope.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the origin broke");
            }
        });
        Ok(self.pool.lease(Connection { sender, heads, inserts }))
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.pool.idle()
    }
}

/// Passes a 101 on and joins the two streams behind it.
pub(super) fn switch(mut response: Response, upgrade: Upgrade, scope: &Scope) -> Result<Response, Failure> {
    let origin = Tunnel::take(response.extensions_mut()).ok_or(Failure::Unasked)?;
    scope.spawn(join(upgrade.visitor, origin, upgrade.behind));
    let (mut parts, _) = response.into_parts();
    let token = hop::strip(&mut parts.headers).unwrap_or(upgrade.token);
    hop::set_upgrade(&mut parts.headers, token);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Both streams, or neither: one that never comes closes the other.
async fn join(visitor: OnUpgrade, origin: Opening, behind: Option<Behind>) {
    let joined = async {
        let visitor = async { Ok::<_, BoxError>(visitor.await?) };
        let (visitor, mut origin) = futures_util::future::try_join(visitor, origin).await?;
        let mut visitor = TokioIo::new(visitor);
        match &behind {
            None => splice::splice(&mut visitor, &mut origin).await?,
            Some(behind) => splice::splice(&mut counted(visitor, behind.bytes()), &mut origin).await?,
        };
        Ok::<_, BoxError>(())
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}

/// The connection ended before an answer came.
fn is_end(error: &hyper::Error) -> bool {
    let broken = |kind| {
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted].contains(&kind)
    };
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    error.is_incomplete_message() || source.is_some_and(|source| broken(source.kind()))
}

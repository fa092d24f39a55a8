//! Forwarding to an HTTP origin, over a pool of connections.

use std::sync::Arc;

use http::{StatusCode, Version};

use super::OriginTarget;
use super::connect::{Connector, Probe};
use super::failure::OriginFailure;
use super::outgoing::{OriginRequest, Upgrade, check, outgoing};
use super::pool::{Leased, Pool};
use super::trust::OriginTrust;
use crate::agent::recorded::UpgradeRecord;
use crate::http1::client::{self, NotAnswered};
use crate::message::login::VisitorMark;
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, BoxError, Request, Response, hop, interim, page};
use crate::net::watched::counted;
use crate::net::{Scope, splice};

/// An HTTP/1.1 origin.
pub(super) struct Web {
    connector: Connector,
    pool: Arc<Pool>,
    scope: Scope,
}

impl Web {
    pub(super) fn new(target: OriginTarget, scope: Scope, trust: OriginTrust) -> Self {
        Self { connector: Connector::new(target, trust), pool: Pool::new(scope.clone()), scope }
    }

    pub(super) async fn probe(&self) -> Probe {
        self.connector.probe().await
    }

    /// Answers one request. Dropping the future, or later the body of the answer, cancels the request: its connection
    /// to the origin is closed.
    pub(super) async fn answer(self: Arc<Self>, request: Request, interim: interim::Sender) -> Response {
        let html = page::wants_html(request.headers());
        match self.exchange(request, &interim).await {
            Ok(response) => response,
            Err(failure) => failure.response(self.connector.target(), html),
        }
    }

    async fn exchange(&self, request: Request, interim: &interim::Sender) -> Result<Response, OriginFailure> {
        check(&request)?;
        let OriginRequest { request, upgrade } = outgoing(request);
        let mut response = self.send(request, interim).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switch(response, upgrade.ok_or(OriginFailure::Unrequested)?, &self.scope);
        }
        // The version belongs to the hop to the origin and is not passed on.
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }

    /// Sends a request on idle connections, the youngest first, then on a fresh one. If a connection turns out to be
    /// closed before a byte was written, the request is sent on the next connection. A request that may have been
    /// sent is repeated once, on a fresh connection, if a repeat is harmless and the connection was idle for so long
    /// that the origin may have closed it without reading the request (RFC 9112 §9.3.1). A visitor that has logged in
    /// on a private connection gets that connection before any other.
    async fn send(&self, mut request: Request, interim: &interim::Sender) -> Result<Response, OriginFailure> {
        let visitor = request.extensions().get::<VisitorMark>().copied();
        while let Some(idle) = self.pool.take(visitor) {
            let rested = idle.rested;
            match self.send_on(idle, request, interim).await {
                Ok(response) => return Ok(response),
                Err(NotAnswered { unsent: Some(unsent), .. }) => request = *unsent,
                Err(NotAnswered { error, repeatable: Some(again), .. }) if rested && error.is_end() => {
                    request = *again;
                    break;
                }
                Err(NotAnswered { error, .. }) => return Err(error.into()),
            }
        }
        let io = self.connector.connect_for_request(|| self.pool.close_oldest()).await?;
        let fresh = self.pool.fresh(io, visitor);
        self.send_on(fresh, request, interim).await.map_err(|failed| failed.error.into())
    }

    async fn send_on(
        &self,
        leased: Leased,
        request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, NotAnswered> {
        let Leased { connection, mut lease, .. } = leased;
        lease.note_request(&request);
        client::send(connection, request, lease, interim).await.map(|(response, _)| response)
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.pool.idle()
    }
}

/// Passes a 101 on and joins the two streams behind it.
pub(super) fn switch(
    mut response: Response,
    upgrade: Upgrade,
    scope: &Scope,
) -> Result<Response, OriginFailure> {
    let origin = Tunnel::take(response.extensions_mut()).ok_or(OriginFailure::Unrequested)?;
    scope.spawn(join(upgrade.visitor, origin, upgrade.record));
    let (mut parts, _) = response.into_parts();
    let token = hop::strip(&mut parts.headers).unwrap_or(upgrade.token);
    hop::set_upgrade(&mut parts.headers, token);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Joins both streams. If one of them never opens, the other is closed.
async fn join(visitor: Opening, origin: Opening, record: Option<UpgradeRecord>) {
    let joined = async {
        let (mut visitor, mut origin) = futures_util::future::try_join(visitor, origin).await?;
        match &record {
            None => splice::splice(&mut visitor, &mut origin).await?,
            Some(record) => splice::splice(&mut counted(visitor, record.bytes()), &mut origin).await?,
        };
        Ok::<_, BoxError>(())
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}

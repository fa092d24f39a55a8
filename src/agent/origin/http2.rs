//! Forwarding to an HTTP/2-only origin, such as a gRPC service. All requests of a core share one connection.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::uri::Scheme;
use parking_lot::Mutex;

use super::OriginTarget;
use super::connect::{Connector, Probe};
use super::failure::OriginFailure;
use super::http::switch;
use super::idle::IdleList;
use super::outgoing::{check, upgrade};
use super::trust::OriginTrust;
use crate::defaults;
use crate::message::login::{self, VisitorMark};
use crate::message::{Request, Response, authority, hop, interim, page};
use crate::net::{Core, Scope};
use crate::session::SendError;
use crate::session::h2::ReceiveBudget;
use crate::session::h2::client::{self, Http2Client};

/// The number of shared connections. With more cores, several cores share a connection.
const PLACES: usize = 64;

/// A connection that is being opened. All requests of its core wait for it. The attempt is cancelled when the last
/// waiting request is dropped.
type PendingConnection = BoxFuture<'static, Result<Http2Client, Arc<OriginFailure>>>;

/// The connection of one core.
#[derive(Default)]
struct SharedConnection {
    client: Option<Http2Client>,
    opening: Option<WeakShared<PendingConnection>>,
}

impl SharedConnection {
    fn open_client(&self) -> Option<Http2Client> {
        self.client.clone().filter(|client| !client.is_closed())
    }
}

/// An HTTP/2 origin.
pub(super) struct Web2 {
    connector: Connector,
    places: Arc<[Mutex<SharedConnection>]>,
    private: Arc<IdleList<(VisitorMark, Http2Client)>>,
    budget: Arc<ReceiveBudget>,
    scope: Scope,
}

impl Web2 {
    pub(super) fn new(target: OriginTarget, scope: Scope, trust: OriginTrust) -> Self {
        let places = (0..PLACES).map(|_| Mutex::default()).collect();
        Self {
            connector: Connector::new(target, trust),
            places,
            private: IdleList::new(
                defaults::ORIGIN_PRIVATE,
                defaults::ORIGIN_PRIVATE_IDLE_FOR,
                scope.clone(),
            ),
            budget: ReceiveBudget::new(defaults::AGENT_BUFFERS),
            scope,
        }
    }

    pub(super) async fn probe(&self) -> Probe {
        self.connector.probe().await
    }

    /// Answers one request. Dropping the future, or later the body of the answer, resets the stream of the request.
    pub(super) async fn answer(self: Arc<Self>, request: Request, interim: interim::Sender) -> Response {
        let html = page::wants_html(request.headers());
        match self.exchange(request, &interim).await {
            Ok(response) => response,
            Err(failure) => failure.response(self.connector.target(), html),
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        mut request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, OriginFailure> {
        check(&request)?;
        let upgrade = upgrade(&mut request);
        if let Some(upgrade) = &upgrade {
            hop::set_upgrade(request.headers_mut(), upgrade.token.clone());
        }
        let tls = matches!(self.connector.target(), OriginTarget::Http2(place) if place.tls);
        authority::to_absolute_form(&mut request, if tls { Scheme::HTTPS } else { Scheme::HTTP })?;
        let mut response = self.send(request, interim).await?;
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return switch(response, upgrade.ok_or(OriginFailure::Unrequested)?, &self.scope);
        }
        *response.version_mut() = http::Version::HTTP_11;
        Ok(response)
    }

    /// Sends a request on the connection that all requests of this core share. A request with a login that is tied to
    /// its connection gets a connection of its own, which later requests of the same visitor connection use too. After
    /// a challenge for such a login, the connection is no longer shared.
    async fn send(
        self: &Arc<Self>,
        mut request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, OriginFailure> {
        let visitor = request.extensions().get::<VisitorMark>().copied();
        if let Some(visitor) = visitor
            && let Some(client) = self.take_private(visitor)
        {
            self.private.put((visitor, client.clone()));
            match client.exchange(request, interim).await {
                Err(SendError { unsent: Some(again), .. }) => request = *again,
                answered => return answered.map_err(|error| OriginFailure::Http2(error.kind)),
            }
        }
        if login::is_login(request.headers()) {
            let (client, connection) = self.connect().await?;
            self.scope.spawn(connection);
            if let Some(visitor) = visitor {
                self.private.put((visitor, client.clone()));
            }
            return client.exchange(request, interim).await.map_err(|error| OriginFailure::Http2(error.kind));
        }
        let place = Core::current().place(PLACES);
        let response = self.send_shared(request, place, interim).await?;
        if login::is_challenge(response.headers()) {
            self.places[place].lock().client = None;
        }
        Ok(response)
    }

    /// The open connection that is private to `visitor`.
    fn take_private(&self, visitor: VisitorMark) -> Option<Http2Client> {
        loop {
            let ((_, client), _) = self.private.take(|(owner, _)| *owner == visitor)?;
            if !client.is_closed() {
                return Some(client);
            }
        }
    }

    /// A request that a used connection returned unsent is sent on a fresh connection. A request that may have been
    /// sent is repeated once, if a repeat is harmless.
    async fn send_shared(
        self: &Arc<Self>,
        mut request: Request,
        place: usize,
        interim: &interim::Sender,
    ) -> Result<Response, OriginFailure> {
        let open_client = self.places[place].lock().open_client();
        let is_first = open_client.is_none();
        if let Some(client) = open_client {
            match client.exchange(request, interim).await {
                Ok(response) => return Ok(response),
                Err(SendError { unsent: Some(again), .. } | SendError { repeatable: Some(again), .. }) => {
                    request = *again;
                }
                Err(error) => return Err(OriginFailure::Http2(error.kind)),
            }
        }
        let client = self.fresh(place, is_first).await?;
        client.exchange(request, interim).await.map_err(|error| OriginFailure::Http2(error.kind))
    }

    /// Opens a connection for `place`. Requests that need a connection at the same time share the attempt. With
    /// `reuse`, a connection that was opened meanwhile is returned instead. Cancel safe.
    async fn fresh(self: &Arc<Self>, place: usize, reuse: bool) -> Result<Http2Client, OriginFailure> {
        let opening = {
            let mut slot = self.places[place].lock();
            if let Some(client) = slot.open_client().filter(|_| reuse) {
                return Ok(client);
            }
            slot.opening.as_ref().and_then(WeakShared::upgrade).unwrap_or_else(|| {
                let this = self.clone();
                let opening = async move {
                    let opened = this.open(place).await;
                    this.places[place].lock().opening = None;
                    opened.map_err(Arc::new)
                };
                let opening = opening.boxed().shared();
                slot.opening = Shared::downgrade(&opening);
                opening
            })
        };
        opening.await.map_err(OriginFailure::Opening)
    }

    async fn connect(&self) -> Result<(Http2Client, impl Future<Output = ()> + Send + use<>), OriginFailure> {
        let io = self.connector.connect_for_request(|| false).await?;
        let (client, connection, _) =
            client::open(io, &self.scope, &self.budget).await.map_err(OriginFailure::Preface)?;
        Ok((client, connection))
    }

    async fn open(&self, place: usize) -> Result<Http2Client, OriginFailure> {
        let (client, connection) = self.connect().await?;
        self.places[place].lock().client = Some(client.clone());
        let (places, scope) = (self.places.clone(), self.scope.clone());
        self.scope.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                () = scope.stopping() => {
                    // The place releases the connection; its requests in flight keep the connection open.
                    places[place].lock().client.take();
                    connection.await;
                }
                () = connection.as_mut() => {}
            }
        });
        Ok(client)
    }
}

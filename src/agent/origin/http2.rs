//! Forwarding to an origin that speaks HTTP/2 and nothing else, as gRPC services do: one connection for each core, with
//! all requests of that core on it.

use std::sync::Arc;

use http::uri::Scheme;
use parking_lot::Mutex;

use super::Target;
use super::connect::{Connector, Probe};
use super::failure::Failure;
use super::http::switch;
use super::login::binds_connection;
use super::outgoing::{check, upgrade};
use crate::defaults;
use crate::message::{Request, Response, authority, hop, problem, repeat};
use crate::net::{Scope, cores};
use crate::session::h2::Windows;
use crate::session::h2::client::{self, Client};
use crate::session::{SendError, SendErrorKind};

/// More cores than this share connections.
const PLACES: usize = 64;

/// An origin that speaks HTTP/2.
pub(super) struct Web2 {
    connector: Connector,
    places: Arc<[Mutex<Option<Client>>]>,
    windows: Arc<Windows>,
    scope: Scope,
}

impl Web2 {
    pub(super) fn new(target: Target, scope: Scope, tls: Arc<rustls::ClientConfig>) -> Self {
        let places = (0..PLACES).map(|_| Mutex::default()).collect();
        Self {
            connector: Connector::new(target, tls),
            places,
            windows: Windows::new(defaults::AGENT_BUFFERS),
            scope,
        }
    }

    pub(super) async fn probe(&self) -> Probe {
        self.connector.probe().await
    }

    /// Answers one request. Dropping the future, or later the body of the answer, resets its stream.
    pub(super) async fn answer(self: Arc<Self>, request: Request) -> Response {
        let html = problem::wants_html(request.headers());
        match self.exchange(request).await {
            Ok(response) => response,
            Err(failure) => failure.response(self.connector.target(), html),
        }
    }

    async fn exchange(&self, mut request: Request) -> Result<Response, Failure> {
        check(&request)?;
        let upgrade = upgrade(&mut request);
        if let Some(upgrade) = &upgrade {
            hop::set_upgrade(request.headers_mut(), upgrade.token.clone());
        }
        let tls = matches!(self.connector.target(), Target::Http2(place) if place.tls);
        authority::to_absolute_form(&mut request, if tls { Scheme::HTTPS } else { Scheme::HTTP });
        let mut response = self.send(request).await?;
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return switch(response, upgrade.ok_or(Failure::Unasked)?, &self.scope);
        }
        let _ = hop::strip(response.headers_mut());
        *response.version_mut() = http::Version::HTTP_11;
        Ok(response)
    }

    /// On the connection of this core, or on a fresh one where that has gone or has refused the request unseen. One that
    /// may have been sent is repeated once, if that is harmless. A login of a connection has one of its own, and a challenge to such a login ends the shared use of
    /// the one that it came on.
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        if binds_connection(request.headers()) {
            let (client, connection) = self.connect().await?;
            self.scope.spawn(connection);
            return client.exchange(request).await.map_err(|error| Failure::Http2(error.kind));
        }
        let place = cores::current() % PLACES;
        let response = self.send_shared(request, place).await?;
        if binds_connection(response.headers()) {
            self.places[place].lock().take();
        }
        Ok(response)
    }

    async fn send_shared(&self, mut request: Request, place: usize) -> Result<Response, Failure> {
        let known = self.places[place].lock().clone().filter(|client| !client.is_closed());
        if let Some(client) = known {
            let copy = repeat::copy(&request);
            match (client.exchange(request).await, copy) {
                (Ok(response), _) => return Ok(response),
                (Err(SendError { unsent: Some(unsent), .. }), _) => request = *unsent,
                (Err(SendError { kind: SendErrorKind::Closed, .. }), Some(copy)) => request = copy,
                (Err(error), _) => return Err(Failure::Http2(error.kind)),
            }
        }
        let client = self.open(place).await?;
        client.exchange(request).await.map_err(|error| Failure::Http2(error.kind))
    }

    async fn connect(&self) -> Result<(Client, impl Future<Output = ()> + Send + use<>), Failure> {
        let io = self.connector.connect().await?;
        let (client, connection, _) =
            client::open(io, &self.scope, &self.windows).await.map_err(Failure::Preface)?;
        Ok((client, connection))
    }

    /// The last of several that are opened at once stays; the others end with what is on them.
    async fn open(&self, place: usize) -> Result<Client, Failure> {
        let (client, connection) = self.connect().await?;
        *self.places[place].lock() = Some(client.clone());
        let (places, scope) = (self.places.clone(), self.scope.clone());
        self.scope.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                () = scope.stopping() => {
                    // What is on it holds it open, and the place no longer.
                    places[place].lock().take();
                    connection.await;
                }
                () = connection.as_mut() => {}
            }
        });
        Ok(client)
    }
}

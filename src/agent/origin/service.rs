//! A `tower` service in this process as an origin: no socket in between.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::{BoxFuture, poll_fn};
use http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tower_service::Service;

use super::failure::{HOP, accept_headers};
use crate::domain::ErrorCode;
use crate::http1::client::{self, Connection, Home, NotAnswered};
use crate::message::problem::Problem;
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, BoxError, Request, Response, authority, hop, interim, page};
use crate::net::splice::splice;
use crate::net::{Io, Scope};
use crate::session::Handler;

/// Bytes in the buffer between the stream of an Upgrade and the service that answers it.
const BUFFER: usize = 64 << 10;

/// Makes a [`Handler`] of a `tower` service, such as an `axum::Router`. Each request goes to a clone of the service
/// that is ready; an error becomes a 500.
///
/// Upgrades work as with a server of hyper: the service takes the [`hyper::upgrade::OnUpgrade`] from the extensions of
/// the request and answers 101. Dropping the future of a call drops the future of the service.
pub fn tower<S, B>(service: S) -> impl Handler
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Tower { service: Mutex::new(service), scope: Scope::new() }
}

struct Tower<S> {
    /// The lock is held only to clone the service, which therefore need not be `Sync`.
    service: Mutex<S>,
    /// Owns the streams of Upgrades.
    scope: Scope,
}

impl<S, B> Handler for Tower<S>
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, mut request: Request, _: interim::Sender) -> BoxFuture<'static, Response> {
        let service = self.service.lock().clone();
        match Tunnel::take(request.extensions_mut()) {
            None => Box::pin(answer(service, request)),
            Some(visitor) => Box::pin(upgrade(service, request, visitor, self.scope.clone())),
        }
    }
}

async fn answer<S, B>(mut service: S, request: Request) -> Response
where
    S: Service<Request, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let html = page::wants_html(request.headers());
    let served = match poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into) {
        Ok(()) => service.call(request).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match served {
        Ok(response) => response.map(Body::wrap),
        Err(error) => failed(&error, html),
    }
}

/// Serves an Upgrade on a connection in memory: a service expects hyper's own stream behind its 101, and hyper makes
/// such a stream only for its own connections.
async fn upgrade<S, B>(service: S, mut request: Request, visitor: Opening, scope: Scope) -> Response
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    authority::to_origin_form(&mut request);
    let token = request.headers().get(UPGRADE).cloned();
    let (near, far) = tokio::io::duplex(BUFFER);
    scope.spawn(async move {
        let service = service_fn(move |request: http::Request<Incoming>| {
            let answer = answer(service.clone(), request.map(Body::from));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.keep_alive(false).half_close(true).auto_date_header(false);
        if let Err(error) = builder.serve_connection(TokioIo::new(far), service).with_upgrades().await {
            tracing::debug!(%error, "an upgraded connection failed");
        }
    });
    let connection = Connection::new(Io::other(near));
    let sent = client::send(connection, request, Once(scope.clone()), &interim::Sender::default()).await;
    let mut response = match sent {
        Ok((response, _)) => response,
        Err(NotAnswered { error, .. }) => return failed(&error.into(), false),
    };
    if let Some(service) = Tunnel::take(response.extensions_mut()) {
        // hyper puts its own `Connection` field on the answer, which must not reach the visitor.
        if let Some(token) = hop::strip(response.headers_mut()).or(token) {
            hop::set_upgrade(response.headers_mut(), token);
        }
        scope.spawn(async move {
            let joined = async {
                let (mut visitor, mut service) = futures_util::future::try_join(visitor, service).await?;
                splice(&mut visitor, &mut service).await?;
                Ok::<_, BoxError>(())
            };
            if let Err(error) = joined.await {
                tracing::debug!(%error, "an upgraded stream broke");
            }
        });
    }
    response
}

/// A connection for one request.
struct Once(Scope);

impl Home for Once {
    fn put_back(self, _: Box<Connection>) {}

    fn scope(&self) -> &Scope {
        &self.0
    }
}

fn failed(error: &BoxError, html: bool) -> Response {
    tracing::warn!(%error, "the service failed");
    Problem {
        code: ErrorCode::ServiceFailed,
        // The text of the error is for the operator, and only in the log.
        detail: "The service behind the agent failed to answer. The agent's log has the reason.",
        hop: HOP,
        error: Some("proxy_internal_error"),
        retry_after: None,
        request: None,
        pages: None,
    }
    .response(&accept_headers(html))
}

//! A `tower` service in this process as an origin: no socket in between.

use bytes::Bytes;
use futures_util::future::{BoxFuture, poll_fn};
use http::StatusCode;
use parking_lot::Mutex;
use tower_service::Service;

use super::failure::{HOP, asker};
use crate::message::problem::{self, Problem};
use crate::message::{Body, BoxError, Request, Response};
use crate::session::Handler;

/// Makes any `tower` service of requests a [`Handler`], for instance an `axum::Router`. Each request is served by a
/// clone that has said it is ready; an error becomes a 500.
///
/// Upgrades work as with a server of hyper: the service takes the [`hyper::upgrade::OnUpgrade`] from the extensions
/// of the request and answers 101. Dropping the future of a call drops the service's.
pub fn tower<S, B>(service: S) -> impl Handler
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Tower(Mutex::new(service))
}

/// The lock is held for one clone, and spares the service from having to be `Sync`.
struct Tower<S>(Mutex<S>);

impl<S, B> Handler for Tower<S>
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let mut service = self.0.lock().clone();
        Box::pin(async move {
            let html = problem::wants_html(request.headers());
            let served = match poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into) {
                Ok(()) => service.call(request).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            match served {
                Ok(response) => response.map(Body::wrap),
                Err(error) => failed(&error, html),
            }
        })
    }
}

fn failed(error: &BoxError, html: bool) -> Response {
    tracing::warn!(%error, "the service failed");
    Problem {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "service-failed",
        // What the error says is the operator's business, and in the log.
        detail: "The service behind the agent failed to answer. The agent's log says why.",
        hop: HOP,
        error: Some("proxy_internal_error"),
        retry_after: None,
        request: None,
    }
    .response(&asker(html))
}
